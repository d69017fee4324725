"""ImageNet from class folders: a batch reads its own images, with random crops."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lnm_codegen.errors import ToolError
from lnm_codegen.train.data import load
from lnm_codegen.train.data.images import IMAGENET_DRAWS as DRAWS
from lnm_codegen.train.data.images import random_box
from tests.refusals import refused

SIDES = ((40, 30), (24, 50), (33, 33))


def write_imagenet(folder: Path, classes: int = 3) -> None:
    """Write ramps of colour in several sizes, three a class to train on and one to test."""
    for word, count in (("train", 3), ("val", 1)):
        for label in range(classes):
            place = folder / word / f"n{label:08d}"
            place.mkdir(parents=True)
            for k in range(count):
                wide, high = SIDES[(k + label) % 3]
                ramp = np.zeros((high, wide, 3), np.uint8)
                ramp[..., 0] = np.arange(wide) * 4
                ramp[..., 1] = np.arange(high)[:, None] * 4
                ramp[..., 2] = 80 * label
                Image.fromarray(ramp).save(place / f"ILSVRC_{k}.JPEG", quality=98)


def test_batches_are_normalised_middles(tmp_path: Path) -> None:
    """The middle of the test image, its short side resized, with the usual mean and deviation."""
    write_imagenet(tmp_path)
    data = load("imagenet", tmp_path, size=16, short=20)
    assert (data.kind, data.sample, data.classes, data.draws) == ("image", (3, 16, 16), 3, DRAWS)
    x, labels = next(data.batches(data.test, 3))
    assert labels.tolist() == [0, 1, 2]
    mean, std = (
        torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    blue = (x * std + mean)[:, 2] * 255
    assert float((blue.mean((1, 2)) - torch.tensor([0.0, 80, 160])).abs().max()) < 4
    with Image.open(tmp_path / "val" / "n00000000" / "ILSVRC_0.JPEG") as image:
        whole = np.asarray(image.resize((26, 20), Image.Resampling.BILINEAR))
    assert np.array_equal(data.test.take(torch.tensor([0]))[0].numpy(),
                          whole[2:18, 5:21].transpose(2, 0, 1))  # fmt: skip


def test_augmentation_depends_on_the_generator(tmp_path: Path) -> None:
    """And on the sample's own numbers: one rank's images are those of the whole batch."""
    write_imagenet(tmp_path)
    data = load("imagenet", tmp_path, size=8, short=8)

    def batch(seed: int, augment: bool = True, rank: int = 0, world: int = 1) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)
        return next(data.batches(data.train, 9, generator, augment, rank, world))[0]

    assert torch.equal(batch(0), batch(0))
    assert not torch.equal(batch(0), batch(1))
    assert not torch.equal(batch(0), batch(0, augment=False))
    assert torch.equal(batch(0)[1::2], batch(0, rank=1, world=2))
    generator = torch.Generator().manual_seed(0)
    empty, labels = next(data.batches(data.train.first(1), 9, generator, True, 1, 2))
    assert (empty.shape, labels.shape) == ((0, 3, 8, 8), (0,))
    chance = torch.rand((1, DRAWS), generator=torch.Generator().manual_seed(0)).double()
    chance[0, -1] = 0.6  # the last number decides a flip
    plain = data.train.take(torch.tensor([0]), chance)
    chance[0, -1] = 0.4
    assert torch.equal(data.train.take(torch.tensor([0]), chance), plain.flip(3))
    assert not torch.equal(plain, plain.flip(3))


def test_limit_is_balanced_and_nothing_else_is_read(tmp_path: Path) -> None:
    write_imagenet(tmp_path)
    broken = tmp_path / "train" / "n00000001" / "ILSVRC_2.JPEG"
    broken.write_bytes(b"no image")
    data = load("imagenet", tmp_path, limit=6, size=8, short=8)
    assert data.train.labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert len(data.train.images) == 6
    with refused(ToolError, broken, "not an image: ", remedy="Get the file again."):
        _ = load("imagenet", tmp_path, size=8, short=8).train.images


@given(
    width=st.integers(1, 600), height=st.integers(1, 600),
    numbers=st.lists(st.floats(0, 1, exclude_max=True), min_size=DRAWS, max_size=DRAWS),
)  # fmt: skip
def test_a_random_box_lies_in_the_image_and_is_the_first_that_fits(
    width: int, height: int, numbers: list[float]
) -> None:
    left, top, right, bottom = random_box(width, height, numbers)
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height
    for k in range(10):
        part, shape, x, y = numbers[4 * k : 4 * k + 4]
        area, ratio = (0.08 + 0.92 * part) * width * height, 0.75 * (16 / 9) ** shape
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            assert (right - left, bottom - top) == (w, h)
            assert (left, top) == (int(x * (width - w + 1)), int(y * (height - h + 1)))
            return
    w, h = right - left, bottom - top
    assert w == width or h == height
    assert abs(left - (width - right)) <= 1
    assert abs(top - (height - bottom)) <= 1
    if min(width, height) > 20:
        assert 0.7 < w / h < 1.4


def test_layouts_that_are_not_there(tmp_path: Path) -> None:
    layout = "train/<class>/*.JPEG and val/<class>/*.JPEG"
    parts = ("data: imagenet", f"{tmp_path} holds no files of this set", layout)
    with refused(ToolError, *parts, "with --data-dir"):
        load("imagenet", tmp_path)
    write_imagenet(tmp_path)
    (tmp_path / "val" / "n00000001").rename(tmp_path / "val" / "n00000009")
    problem = "3 class folders in train/ and 3 in val/, and 'n00000001' is in one of them only"
    with refused(ToolError, tmp_path, problem, "the same in both"):
        load("imagenet", tmp_path)
    for path in sorted((tmp_path / "val").glob("*/*")):
        path.rename(tmp_path / "val" / f"{path.parent.name}.JPEG")
    with refused(ToolError, *parts, "Move each image of val/ into val/<class>/"):
        load("imagenet", tmp_path)
