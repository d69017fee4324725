"""ImageNet from class folders on disk: a batch decodes its own images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lnm_codegen.train.data.dataset import LARGEST, Dataset, LabelledSplit, Scale, Split
from lnm_codegen.train.data.store import (
    Folder,
    class_files,
    interleaved,
    missing,
    read_image,
    unequal_classes,
)
from lnm_codegen.validation import require_integer

SUFFIXES = (".jpeg", ".jpg", ".png")
SCALE: Scale = (
    255 * torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1),
    255 * torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1),
)
"""The usual mean and deviation of the channels over the training images."""

LONGEST = 16
"""Largest ratio of the long side to the short side of an image that is resized whole."""
TRIES = 10
DRAWS = 4 * TRIES + 1

Box = tuple[int, int, int, int]


def imagenet(
    folder: Path, limit: int | None = None, size: int = 224, short: int = 256, threads: int = 4
) -> Dataset:
    """Return ImageNet, (3, size, size); as many classes as there are folders (1,000).

    The augmentation of a training image is a random crop of 8 to 100 % of its area, resized, and a
    flip. Without it, and in the test split (val/), the short side is resized to `short` pixels,
    `size` or more, and the centre is cut out. `limit` keeps the classes balanced. Up to 1,024
    `threads` decode.
    """
    where, words = "data: imagenet", ("train/", "val/")
    require_integer(where, "size", size, 1, LARGEST)
    require_integer(where, "short", short, size, LARGEST)
    require_integer(where, "threads", threads, 1, 1024)
    store = Folder(folder)
    train, val = (class_files(store, word, SUFFIXES) for word in words)
    layouts = ("train/<class>/*.JPEG and val/<class>/*.JPEG",)
    if not train or not val:
        if any(Path(name).suffix.lower() in SUFFIXES for name in store.names("val")):
            remedy = "Move each image of val/ into val/<class>/ of its class."
            raise missing("imagenet", folder, layouts, remedy)
        raise missing("imagenet", folder, layouts)
    if list(train) != list(val):
        raise unequal_classes(folder, words, (train, val), "the same in both")
    first, second = (
        _split(store, list(part.values()), size, short, threads).first(limit)
        for part in (train, val)
    )
    shape = (3, size, size)
    return Dataset("imagenet", first, second, len(train), "image", shape, SCALE, draws=DRAWS)


def _split(
    store: Folder, groups: Sequence[Sequence[str]], size: int, short: int, threads: int
) -> Split:
    paths, labels = interleaved(groups)

    def read(rows: Tensor, chance: Tensor | None) -> Tensor:
        numbers = [None] * len(rows) if chance is None else chance.tolist()
        with ThreadPoolExecutor(threads) as pool:  # Pillow decodes and resizes without the lock
            found = list(pool.map(one, rows.tolist(), numbers))
        return torch.stack(found) if found else torch.empty((0, 3, size, size), dtype=torch.uint8)

    def one(row: int, numbers: Sequence[float] | None) -> Tensor:
        image = read_image(store, paths[row], ("JPEG", "PNG"))
        pixels = _sized(image, size, short, numbers)
        return torch.from_numpy(pixels.transpose(2, 0, 1).copy())

    return LabelledSplit(labels, read)


def _sized(image: Any, size: int, short: int, numbers: Sequence[float] | None) -> Any:
    """Cut and resize (bilinear, averaging where it shrinks); return bytes (size, size, 3)."""
    from PIL.Image import Resampling, Transpose

    if numbers is not None:
        crop = image.crop(random_box(image.width, image.height, numbers))
        crop = crop.resize((size, size), Resampling.BILINEAR)
        return np.asarray(crop.transpose(Transpose.FLIP_LEFT_RIGHT) if numbers[-1] < 0.5 else crop)
    ratio = short / min(image.size)
    wide, high = (max(short, int(side * ratio)) for side in image.size)
    if max(wide, high) > LONGEST * short:  # a strip: its ends are cut off first
        middle = [(side - min(side, LONGEST * min(image.size))) / 2 for side in image.size]
        image = image.crop((*middle, *(s - m for s, m in zip(image.size, middle, strict=True))))
        return _sized(image, size, short, numbers)
    whole = image.resize((wide, high), Resampling.BILINEAR)
    left, top = round((wide - size) / 2), round((high - size) / 2)
    return np.asarray(whole.crop((left, top, left + size, top + size)))


def random_box(width: int, height: int, numbers: Sequence[float]) -> Box:
    """Return the (left, top, right, bottom) of a random part of an image.

    The part has 8 to 100 % of the area and a ratio of width to height of 3/4 to 4/3, uniform in
    the logarithm. It is the first of `TRIES` that fits. Otherwise it is the centre, as near to
    these ratios as the image allows. Each try takes four of the uniform `numbers` in [0, 1).
    """
    low, high = 3 / 4, 4 / 3
    for k in range(0, 4 * TRIES, 4):
        part, shape, x, y = numbers[k : k + 4]
        area = width * height * (0.08 + 0.92 * part)
        ratio = low * (high / low) ** shape
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            left, top = int(x * (width - w + 1)), int(y * (height - h + 1))
            return left, top, left + w, top + h
    w, h = min(width, max(1, round(height * high))), min(height, max(1, round(width / low)))
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h
