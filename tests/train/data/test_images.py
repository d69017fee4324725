"""Sets of images from every layout, their augmentation, and no file that makes anything run."""

from __future__ import annotations

import gzip
import math
import os
import pickle
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch.nn.functional import pad

from lnm_codegen.errors import ModelError, ToolError
from lnm_codegen.train.data import load
from lnm_codegen.train.data.images import IMAGENET_DRAWS as DRAWS
from lnm_codegen.train.data.images import crop_and_flip, random_box, read_idx, read_pickle, roll
from tests.refusals import refused
from tests.train.data.idx_files import idx_bytes, write_fashion
from tests.train.data.image_files import LAYOUTS, cifar_arrays, pack, write_batch, write_cifar

IMAGES = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)


MALFORMED = {
    b"": ("not an idx file", "MNIST"),
    idx_bytes(IMAGES)[:9]: ("not an idx file", "MNIST"),
    b"PK" + bytes(40): ("not an idx file", "MNIST"),
    idx_bytes(IMAGES, kind=0x0D): ("idx type 0x0d with 3 axes", "0x08 with 3 axes"),
    idx_bytes(np.zeros(24, np.uint8)): ("0x08 with 1 axes", "0x08 with 3 axes"),
    idx_bytes(IMAGES)[:-1]: ("23 bytes of data", "24, as its header has shape (2, 3, 4)"),
    idx_bytes(IMAGES) + b"x": ("25 bytes of data", "24, as its header has shape (2, 3, 4)"),
}


def test_files(tmp_path: Path) -> None:
    """They are read back as they were written, or refused whole in one line."""
    path, packed = tmp_path / "a-ubyte", tmp_path / "a-ubyte.gz"
    whole = idx_bytes(IMAGES)
    path.write_bytes(whole)
    packed.write_bytes(gzip.compress(whole))
    for one in (path, packed):
        assert np.array_equal(read_idx(one, axes=3), IMAGES)
    for content, parts in MALFORMED.items():
        path.write_bytes(content)
        with refused(ToolError, path, *parts):
            read_idx(path, axes=3)
    for content in (*(gzip.compress(whole)[:cut] for cut in (3, 30, -4)), whole):
        packed.write_bytes(content)
        problem = "cannot be read: " + "Not a gzipped file" * (content == whole)
        with refused(ToolError, packed, problem, "", "Get the file again."):
            read_idx(packed, axes=3)


def test_layouts(tmp_path: Path) -> None:
    """Debian's .gz, plain files, torchvision's folder, and that of the package on npm.

    On the unit scale pixels are divided by 255, so that black is zero.
    """
    for k, (name, below, gz) in enumerate((
        ("fashion-mnist", "", True), ("fashion-mnist", "", False),
        ("fashion-mnist", "FashionMNIST/raw", False), ("mnist", "", False),
        ("mnist", "MNIST/raw", False), ("mnist", "package/data", False),
    )):  # fmt: skip
        write_fashion(tmp_path / str(k) / below, gz)
        data = load(name, tmp_path / str(k))
        assert data.train.images.shape == (40, 1, 8, 8)
        assert (len(data.train), len(data.test)) == (40, 20)
        images, labels = next(data.batches(data.train, 40))
        assert images.dtype == torch.float32
        assert abs(float(images.mean())) < 1e-5
        assert abs(float(images.std()) - 1) < 1e-4
        assert labels[:9].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 0]
    for name in ("fashion-mnist", "mnist"):
        data = load(name, tmp_path / "1", scale="unit")
        images, _ = next(data.batches(data.test, 20))
        assert torch.equal(images, data.test.images.float() / 255)


def test_files_that_do_not_fit_together(tmp_path: Path) -> None:
    name, folder = "fashion-mnist", write_fashion(tmp_path, gz=False)
    layout = (
        "train-images-idx3-ubyte or train-images-idx3-ubyte.gz in the folder or in FashionMNIST",
        "Run apt-get install dataset-fashion-mnist, or name the folder",
    )
    with refused(ToolError, f"data: {name}", f"{tmp_path}/none does not exist", *layout):
        load(name, tmp_path / "none")
    with refused(ModelError, "data: mnist-sequential", "pixels is 5", "a divisor of 64"):
        load("mnist-sequential", folder, pixels=5)
    test, labels = folder / "t10k-images-idx3-ubyte", folder / "train-labels-idx1-ubyte"
    test.write_bytes(idx_bytes(np.zeros((20, 9, 9), np.uint8)))
    problem = "training images of (8, 8), test images of (9, 9)"
    with refused(ToolError, folder, problem, "one size"):
        load(name, folder)
    labels.write_bytes(idx_bytes(np.zeros(39, np.uint8)))
    problem = "40 images in train-images-idx3-ubyte and 39 labels in train-labels-idx1-ubyte"
    with refused(ToolError, folder, problem, "equal numbers > 0"):
        load(name, folder)
    labels.write_bytes(idx_bytes(np.full(40, 10, np.uint8)))
    with refused(ToolError, labels, "a label is 10", "0 to 9"):
        load(name, folder)


def test_columns_are_columns(tmp_path: Path) -> None:
    """Step t is column t of the image, over 255."""
    write_fashion(tmp_path)
    images, columns = load("fashion-mnist", tmp_path), load("fashion-columns", tmp_path)
    assert columns.sample == (8, 8)
    x, labels = next(columns.batches(columns.train, 40))
    pixels = images.train.images[:, 0]
    for t in range(8):
        assert torch.equal(x[t], pixels[:, :, t].float() / 255)
    assert torch.equal(labels, images.train.labels)
    data = load("fashion-columns", tmp_path, scale="standard")
    x, _ = next(data.batches(data.train, 40))
    assert abs(float(x.mean())) < 1e-5
    assert abs(float(x.std()) - 1) < 1e-5


@pytest.mark.parametrize("pixels", [1, 4, 64])
def test_sequential_and_permuted_pixels(tmp_path: Path, pixels: int) -> None:
    """Sequential is the image read row by row; permuted is one order of it, the same for all."""
    write_fashion(tmp_path)
    flat = load("mnist", tmp_path).train.images.flatten(1)
    plain = load("mnist-sequential", tmp_path, pixels=pixels)
    assert plain.sample == (64 // pixels, pixels)
    assert torch.equal(plain.train.images.flatten(1), flat)
    mixed = load("mnist-permuted", tmp_path, pixels=pixels, seed=3)
    order = torch.randperm(64, generator=torch.Generator().manual_seed(3))
    assert torch.equal(mixed.train.images.flatten(1), flat[:, order])
    other = load("mnist-permuted", tmp_path, pixels=pixels, seed=4)
    assert not torch.equal(mixed.test.images, other.test.images)


BELOW = {
    (10, "python"): "cifar-10-batches-py", (10, "binary"): "cifar-10-batches-bin",
    (100, "python"): "cifar-100-python", (100, "binary"): "cifar-100-binary",
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout(tmp_path: Path, layout: str) -> None:
    """Python batches, binary batches, image folders; the batches also where archives put them."""
    for classes, inside in ((10, False), (100, False), (10, True), (100, True)):
        folder = tmp_path / f"{classes} {inside}"
        below = BELOW.get((classes, layout), "") if inside else ""
        each = 5 if classes == 10 else 2
        (x, y), (x_test, y_test) = write_cifar(folder / below, classes, layout, each)
        data = load(f"cifar{classes}", folder)
        assert (data.kind, data.sample, data.classes) == ("image", (3, 32, 32), classes)
        assert np.array_equal(data.train.images.numpy(), x)
        assert np.array_equal(data.train.labels.numpy(), y)
        assert np.array_equal(data.test.images.numpy(), x_test)
        assert np.array_equal(data.test.labels.numpy(), y_test)
        batch, _ = next(data.batches(data.train, len(x)))
        assert float(batch.mean((0, 2, 3)).abs().max()) < 1e-5
        assert float((batch.std((0, 2, 3)) - 1).abs().max()) < 1e-4
        if layout == "folders" and inside:
            break  # they have no place in an archive


def test_an_archive_of_any_layout(tmp_path: Path) -> None:
    """Found by its name in the folder, or named itself; read without unpacking."""
    for layout, name, mode in (
        ("python", "cifar-10-python.tar.gz", "w:gz"),
        ("binary", "cifar-10-binary.tar.gz", "w:gz"),
        ("folders", "cifar10-jpeg.tar.xz", "w:xz"),
        ("folders", "mine.tar", "w"),
    ):
        folder = tmp_path / name / "beside"
        (x, y), _ = write_cifar(tmp_path / name / "in", 10, layout, each=1)
        folder.mkdir()
        pack(tmp_path / name / "in", folder / name, mode)
        for place in (folder / name, *([folder] if name != "mine.tar" else [])):
            data = load("cifar10", place)
            assert np.array_equal(data.train.images.numpy(), x)
            assert np.array_equal(data.train.labels.numpy(), y)
        assert [p.name for p in folder.iterdir()] == [name]


def test_jpeg_and_limit(tmp_path: Path) -> None:
    """The first of an image folder are balanced; a JPEG is nearly what it was made from."""
    (x, _), _ = write_cifar(tmp_path, 10, "folders", suffix=".jpg")
    data = load("cifar10", tmp_path, limit=10)
    assert data.train.labels.tolist() == data.test.labels.tolist() == list(range(10))
    assert np.abs(data.train.images.numpy().astype(int) - x[:10]).mean() < 3


def test_augmented_training_batches(tmp_path: Path) -> None:
    """Driven by the generator; the test split has none."""
    write_cifar(tmp_path, 10, "binary")
    data = load("cifar10", tmp_path)

    def batch(seed: int, augment: bool) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)
        return next(data.batches(data.train, 50, generator, augment))[0]

    assert torch.equal(batch(1, True), batch(1, True))
    assert not torch.equal(batch(1, True), batch(1, False))
    generator = torch.Generator().manual_seed(0)
    x, labels = next(data.batches(data.test, 10, generator, augment=True))
    mean, std = data.scale
    wanted = (data.test.images.float() - mean) / std
    assert torch.equal(x[labels.argsort()], wanted)


class Evil:
    """Pickles as a call of any function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.call


@pytest.mark.parametrize("function", [os.system, eval, getattr, np.load, pickle.loads])
def test_a_malicious_batch_is_refused_and_nothing_runs(tmp_path: Path, function: Any) -> None:
    """It names the function, which is not called: no file appears."""
    write_cifar(tmp_path, 10, "python", each=1)
    proof, path = tmp_path / "proof", tmp_path / "data_batch_3"
    problem = f".{function.__name__}, which is not allowed"
    accepted = "pickles of dicts, lists, numbers, text and arrays of bytes"
    for protocol in range(6):
        path.write_bytes(pickle.dumps({"data": Evil(function, f"touch {proof}")}, protocol))
        with refused(ToolError, path, problem, accepted, "Get the file again."):
            load("cifar10", tmp_path)
    assert not proof.exists()


def test_an_encoding_other_than_latin1_is_refused() -> None:
    """`_codecs.encode` is there for bytes alone."""
    import codecs

    raw = pickle.dumps(Evil(codecs.encode, "x", "rot13"))
    with pytest.raises(ToolError, match="the encoding 'rot13' is not allowed"):
        read_pickle(raw, "a file")


def test_stand_ins_take_no_state() -> None:
    """A state put into a function would stay: its defaults, for every file that is read after."""
    raw = b"c_codecs\nencode\n(N}U\x0c__defaults__(U\x05rot13tstb."
    for state in (raw, b"c_codecs\nencode\n}U\x01xK\x01sb."):
        with pytest.raises(ToolError, match="refused"):
            read_pickle(state, "a file")
    honest = pickle.dumps({"b": b"\xff"}, 2)
    assert read_pickle(honest, "a file") == {"b": b"\xff"}


def test_honest_pickles_are_read() -> None:
    content = {"data": np.arange(6, dtype=np.uint8).reshape(2, 3), "labels": [1, 2], "b": b"\xff"}
    for protocol in range(5):
        found = read_pickle(pickle.dumps(content, protocol), "a file")
        assert np.array_equal(found.pop("data"), content["data"])
        assert found == {"labels": [1, 2], "b": b"\xff"}


def test_no_byte_of_a_pickle_brings_the_interpreter_down() -> None:
    """A dtype's flags, say, which NumPy would believe; what is read is an array of bytes."""
    raw = pickle.dumps({"data": np.arange(6, dtype=np.uint8).reshape(2, 3), "labels": [1]}, 2)
    for place in range(len(raw)):
        for value in (0, 1, 63, 255):
            try:
                found = read_pickle(raw[:place] + bytes([value]) + raw[place + 1 :], "a file")
            except ToolError:
                continue
            data = found.get("data") if isinstance(found, dict) else None
            assert not isinstance(data, np.ndarray) or data.dtype == np.uint8


def test_no_image_is_handed_to_another_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pillow renders EPS by Ghostscript, whatever the file is called."""
    write_cifar(tmp_path, 10, "folders")
    path = next(tmp_path.glob("train/*/*.png"))
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 32 32\n%%EndComments\n")

    def called(*arguments: Any, **named: Any) -> None:
        raise AssertionError(f"called {arguments}")

    monkeypatch.setattr(subprocess, "check_call", called)
    with pytest.raises(ToolError, match=r"not an image"):
        load("cifar10", tmp_path)


def test_batches_that_are_not_cifar(tmp_path: Path) -> None:
    write_cifar(tmp_path, 10, "python", each=1)
    one = np.zeros((1, 3072), np.uint8)
    batches: list[Any] = [[1], {"data": one}, {"data": one.astype(float), "labels": [0]}]
    batches += [{"data": one[:, 1:], "labels": [0]}, {"data": np.vstack([one] * 2), "labels": [0]}]
    batches += [{"data": one, "labels": [label]} for label in ("cat", 2**70, 10)]
    for content in (b"", b"hello", *map(pickle.dumps, batches)):
        (tmp_path / "test_batch").write_bytes(content)
        with pytest.raises(ToolError, match=r"^[^\n]*test_batch: [^\n]*\.$"):
            load("cifar10", tmp_path)


def test_broken_and_missing_files(tmp_path: Path) -> None:
    write_cifar(tmp_path, 10, "binary")
    (tmp_path / "data_batch_2.bin").write_bytes(bytes(3072))
    path = tmp_path / "data_batch_2.bin"
    with refused(ToolError, path, "3072 bytes", "a multiple of 3073", "Get the file again."):
        load("cifar10", tmp_path)
    path.unlink()
    with refused(ToolError, path, "missing, although files beside it exist"):
        load("cifar10", tmp_path)


def test_image_folders_that_do_not_fit(tmp_path: Path) -> None:
    write_cifar(tmp_path, 10, "folders")
    odd = tmp_path / "train" / "class03" / "3.png"
    Image.new("RGB", (30, 32)).save(odd)
    with refused(ToolError, odd, "30 x 32 pixels", "32 x 32 pixels"):
        load("cifar10", tmp_path)
    odd.write_bytes(b"no image")
    with refused(ToolError, odd, "not an image: ", remedy="Get the file again."):
        load("cifar10", tmp_path)
    (tmp_path / "test" / "class09" / "9.png").unlink()
    problem = "10 class folders in train/ and 9 in test/, and 'class09' is in one of them only"
    with refused(ToolError, tmp_path, problem, "the same 10 in both"):
        load("cifar10", tmp_path)


def test_a_missing_folder_names_the_layouts(tmp_path: Path) -> None:
    accepted = (
        "Python batches (train, in the folder or in cifar-100-python/); binary batches (train.bin,"
        " in the folder or in cifar-100-binary/); image folders (train/<class>/*.png or .jpg,"
        " test/<class>/); an archive of these (cifar-100-python.tar.gz, cifar-100-binary.tar.gz,"
    )
    problem = f"{tmp_path}/none does not exist"
    with refused(ToolError, "data: cifar100", problem, accepted, "with --data-dir"):
        load("cifar100", tmp_path / "none")


def test_archives_that_are_refused(tmp_path: Path) -> None:
    """A member is known by the name in the archive; a link in it is not followed."""
    path, secret, links = (tmp_path / n for n in ("cifar.tar.xz", "secret", "links.tar"))
    for content in (b"", b"not a tar", bytes(2000)):
        path.write_bytes(content)
        with pytest.raises(ToolError, match=r"^[^\n]*cifar\.tar\.xz[^\n]*\.$"):
            load("cifar10", path)
    write_batch(secret, cifar_arrays(10)[0], 10)
    with tarfile.open(links, "w") as out:
        for name in ("data_batch_1", "test_batch"):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, str(secret)
            out.addfile(member)
    with pytest.raises(ToolError, match="holds no files of this set"):
        load("cifar10", links)


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


def chances(n: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand((n, 3), generator=generator, dtype=torch.float64)


@given(
    n=st.integers(0, 5), height=st.integers(1, 9), width=st.integers(1, 9), seed=st.integers(0, 99)
)
def test_crop_and_flip_one_by_one(n: int, height: int, width: int, seed: int) -> None:
    images = torch.arange(n * 3 * height * width).view(n, 3, height, width).to(torch.uint8)
    chance = chances(n, seed)
    out = crop_and_flip(images, chance)
    assert (out.shape, out.dtype) == (images.shape, torch.uint8)
    for image, changed, (down, right, flip) in zip(images, out, chance.tolist(), strict=True):
        top, left = int(down * 9), int(right * 9)
        wanted = pad(image, (4, 4, 4, 4))[:, top : top + height, left : left + width]
        assert torch.equal(changed, wanted.flip(2) if flip < 0.5 else wanted)


@given(n=st.integers(0, 4), height=st.integers(1, 9), width=st.integers(1, 9),
       flip=st.booleans(), seed=st.integers(0, 99))  # fmt: skip
def test_roll_one_by_one(n: int, height: int, width: int, flip: bool, seed: int) -> None:
    """The same at every step and in both polarities; what leaves comes back on the other side."""
    shape = (n, 3, 2, height, width)
    frames = torch.arange(n * 6 * height * width, dtype=torch.int16).view(shape)
    chance = chances(n, seed)
    out = roll(flip)(frames, chance)
    assert (out.shape, out.dtype) == (frames.shape, torch.int16)
    for one, changed, (down, right, mirror) in zip(frames, out, chance.tolist(), strict=True):
        wanted = one.roll((int(down * 11) - 5, int(right * 11) - 5), (2, 3))
        assert torch.equal(changed, wanted.flip(3) if flip and mirror < 0.5 else wanted)


def test_every_crop_and_both_flips_are_equally_likely() -> None:
    """81 crops and 2 mirrorings of 10,000 samples: each share within five standard deviations."""
    count = 10_000
    images = torch.arange(1, 82, dtype=torch.uint8).view(1, 1, 9, 9).expand(count, 1, 9, 9)
    out = crop_and_flip(images, chances(count, 0))[:, 0, 4].int()
    shares = torch.bincount(100 * out[:, 4] + out[:, 5]).float()
    shares = shares[shares > 0]
    expected = count / 162
    assert len(shares) == 162
    assert float((shares - expected).abs().max()) < 5 * expected**0.5
