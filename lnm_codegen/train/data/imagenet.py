"""ImageNet from class folders on disk: images are decoded when a batch asks for them."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lnm_codegen.errors import ToolError
from lnm_codegen.train.data.dataset import Dataset, Scale
from lnm_codegen.train.data.options import check_count, missing
from lnm_codegen.train.data.split import Split
from lnm_codegen.train.data.store import Folder, Store, class_files, interleaved

SUFFIXES = (".jpeg", ".jpg", ".png")
FORMATS = ("JPEG", "PNG")
SCALE: Scale = (
    255 * torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1),
    255 * torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1),
)
"""Mean and deviation of the channels over its training images, as everyone has them."""

LONGEST = 16
"""Long side to short side of an image that is resized whole."""
TRIES = 10
DRAWS = 4 * TRIES + 1

Box = tuple[int, int, int, int]


def imagenet(
    folder: Path, limit: int | None = None, size: int = 224, short: int = 256, threads: int = 4
) -> Dataset:
    """Return ImageNet, (3, size, size); as many classes as there are folders (1,000).

    A training image is augmented by a random crop of 8 to 100 % of its area, resized, and a flip;
    otherwise, and in the test split (val/), its short side becomes `short` and the middle is cut
    out. `limit` keeps as many of each class as it can.

    Args:
        folder: It holds train/<class>/*.JPEG and val/<class>/*.JPEG.
        limit: Keep only so many of each split.
        size: Pixels along a side.
        short: Of the short side before the middle is cut out; `size` or more.
        threads: That decode at once.
    """
    check_count("imagenet", "size", size)
    check_count("imagenet", "short", short, size)
    check_count("imagenet", "threads", threads, 1, 1024)
    store = Folder(folder)
    train, val = (class_files(store, f"{word}/", SUFFIXES) for word in ("train", "val"))
    if not train or not val:
        flat = any(Path(name).suffix.lower() in SUFFIXES for name in store.names("val"))
        layouts = ("train/<class>/*.JPEG and val/<class>/*.JPEG",)
        remedy = "Name the folder of both with --data-dir."
        if flat:
            remedy = "Here val/ holds images: move each into val/<class>/ of its class."
        raise missing("imagenet", folder, layouts, remedy)
    if list(train) != list(val):
        odd = sorted(set(train) ^ set(val))[0]
        raise ToolError(
            folder,
            (
                f"train/ has {len(train)} class folders with images, val/ {len(val)}, and {odd!r} "
                "is in one alone"
            ),
            remedy="Expected the same in both.",
        )
    first, second = (
        _split(store, list(part.values()), size, short, threads).first(limit)
        for part in (train, val)
    )
    shape = (3, size, size)
    return Dataset("imagenet", first, second, len(train), "image", shape, SCALE, draws=DRAWS)


def _split(
    store: Store, groups: Sequence[Sequence[str]], size: int, short: int, threads: int
) -> Split:
    paths, labels = interleaved(groups)

    def read(rows: Tensor, chance: Tensor | None) -> Tensor:
        numbers = [None] * len(rows) if chance is None else chance.tolist()
        with ThreadPoolExecutor(threads) as pool:  # Pillow decodes and resizes without the lock
            found = list(pool.map(one, rows.tolist(), numbers))
        return torch.stack(found) if found else torch.empty((0, 3, size, size), dtype=torch.uint8)

    def one(row: int, numbers: Sequence[float] | None) -> Tensor:
        return _decode(store, paths[row], size, short, numbers)

    return Split(labels, read)


def _decode(
    store: Store, path: str, size: int, short: int, numbers: Sequence[float] | None
) -> Tensor:
    from PIL import Image

    try:
        with Image.open(io.BytesIO(store.read(path)), formats=FORMATS) as image:
            pixels = _sized(image.convert("RGB"), size, short, numbers)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        said = " ".join(str(error).split()).rstrip(".")
        raise ToolError(
            store.root / path, f"not an image: {said}", remedy="Get it again."
        ) from None
    return torch.from_numpy(pixels.transpose(2, 0, 1).copy())


def _sized(image: Any, size: int, short: int, numbers: Sequence[float] | None) -> Any:
    """Cut and resize (bilinear, which takes the mean where it shrinks); bytes (size, size, 3)."""
    from PIL.Image import Resampling, Transpose

    if numbers is not None:
        crop = image.crop(random_box(image.width, image.height, numbers))
        crop = crop.resize((size, size), Resampling.BILINEAR)
        return np.asarray(crop.transpose(Transpose.FLIP_LEFT_RIGHT) if numbers[-1] < 0.5 else crop)
    ratio = short / min(image.size)
    wide, high = (max(short, int(side * ratio)) for side in image.size)
    if max(wide, high) > LONGEST * short:  # a strip: its ends are cut off before, not after
        middle = [(side - min(side, LONGEST * min(image.size))) / 2 for side in image.size]
        image = image.crop((*middle, *(s - m for s, m in zip(image.size, middle, strict=True))))
        return _sized(image, size, short, numbers)
    whole = image.resize((wide, high), Resampling.BILINEAR)
    left, top = round((wide - size) / 2), round((high - size) / 2)
    return np.asarray(whole.crop((left, top, left + size, top + size)))


def random_box(width: int, height: int, numbers: Sequence[float]) -> Box:
    """Return the (left, top, right, bottom) of a random part of an image.

    Of its area 8 to 100 %, width to height 3/4 to 4/3 (uniform in the logarithm); the first of
    `TRIES` that fits, and else the middle, as near to that ratio as the image allows.

    Args:
        width: In pixels.
        height: In pixels.
        numbers: Uniform in [0, 1); four for each try.
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
