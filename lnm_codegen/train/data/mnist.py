"""Fashion-MNIST and MNIST from a folder of four idx files: as images, by columns, by pixels.

An idx file, plain or gzipped:

    bytes 0, 1   zero
    byte  2      0x08, unsigned byte
    byte  3      number of axes
    then         each axis as a big-endian unsigned 32-bit integer, then the bytes, row-major
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from lnm_codegen.errors import ToolError
from lnm_codegen.train.data.dataset import LARGEST, Dataset, memory_split
from lnm_codegen.train.data.pixels import Labelled, image_set, pixel_sequences
from lnm_codegen.train.data.store import damaged, missing
from lnm_codegen.validation import require_integer, wrong

DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
LARGEST_FILE = 2**31
"""Bytes of an idx file, unpacked: forty times Fashion-MNIST."""

_BELOW = {"fashion-mnist": ("FashionMNIST/raw",), "mnist": ("MNIST/raw", "package/data", "data")}
_REMEDY = {
    "fashion-mnist": "Run apt-get install dataset-fashion-mnist, or name the folder of the four idx"
    " files with --data-dir.",
    "mnist": "Name the folder of the four idx files with --data-dir.",
}


def fashion_mnist(
    folder: Path = DEBIAN_FOLDER, limit: int | None = None, scale: str = "standard"
) -> Dataset:
    """Return the images (1, 28, 28) of clothes; 60,000 for training, 10,000 for test.

    `scale` is that of `mnist`.
    """
    return _images("fashion-mnist", folder, limit, scale)


def fashion_columns(
    folder: Path = DEBIAN_FOLDER, limit: int | None = None, scale: str = "unit"
) -> Dataset:
    """Return Fashion-MNIST column by column: T = 28 steps, from the left, of 28 rows.

    `scale` is "unit" (0 to 1, as in the published figures) or "standard".
    """
    train, test = ((x.transpose(1, 2), y) for x, y in read_idx_folder("fashion-mnist", folder))
    return pixel_sequences("fashion-columns", train, test, limit, scale, top=255)


def mnist(folder: Path, limit: int | None = None, scale: str = "standard") -> Dataset:
    """Return the images (1, 28, 28) of digits; 60,000 for training, 10,000 for test.

    `scale` is "standard" (mean and deviation), or "unit" (0 to 1): a black pixel is then no event.
    """
    return _images("mnist", folder, limit, scale)


def mnist_sequential(
    folder: Path, limit: int | None = None, pixels: int = 1, scale: str = "unit"
) -> Dataset:
    """Return MNIST pixel by pixel, row after row: T = 784 steps of one pixel (S-MNIST).

    A step may have more `pixels`, a divisor of those of an image; this is not the standard task.
    `scale` is "unit" (0 to 1) or "standard".
    """
    return _pixel_by_pixel("mnist-sequential", folder, limit, pixels, scale, None)


def mnist_permuted(
    folder: Path, limit: int | None = None, pixels: int = 1, scale: str = "unit", seed: int = 0
) -> Dataset:
    """Return MNIST pixel by pixel in an order drawn once for all images (PS-MNIST).

    The order is `torch.randperm` of `seed`. Each paper has its own order, so accuracies compare
    only up to that draw. The other options are those of `mnist_sequential`.
    """
    require_integer("data: mnist-permuted", "seed", seed, 0, LARGEST)
    return _pixel_by_pixel("mnist-permuted", folder, limit, pixels, scale, seed)


def _images(name: str, folder: Path, limit: int | None, scale: str) -> Dataset:
    train, test = (memory_split(x.unsqueeze(1), y) for x, y in read_idx_folder(name, folder))
    return image_set(name, train, test, 10, limit, scale=scale)


def _pixel_by_pixel(
    name: str, folder: Path, limit: int | None, pixels: int, scale: str, seed: int | None
) -> Dataset:
    parts = read_idx_folder("mnist", folder)
    size = parts[0][0][0].numel()
    require_integer(f"data: {name}", "pixels", pixels, 1, LARGEST)
    if size % pixels:
        raise wrong(f"data: {name}", "pixels", pixels, f"a divisor of {size}")
    order = torch.arange(size)
    if seed is not None:
        order = torch.randperm(size, generator=torch.Generator().manual_seed(seed))
    train, test = ((x.flatten(1)[:, order].view(len(x), -1, pixels), y) for x, y in parts)
    return pixel_sequences(name, train, test, limit, scale, top=255)


def read_idx_folder(name: str, folder: Path) -> tuple[Labelled, Labelled]:
    """Return the training and the test images (count, H, W), as bytes, with their labels.

    Args:
        name: "fashion-mnist" or "mnist".
        folder: Folder of the four files, plain or .gz, or one in torchvision's layout.

    Raises:
        ToolError: A file is missing, malformed, or does not fit another.
    """
    train, test = (_read_split(name, folder, word) for word in ("train", "t10k"))
    shape, other = (tuple(x.shape[1:]) for x, _ in (train, test))
    if shape != other:
        raise ToolError(folder, f"training images of {shape}, test images of {other}", "one size")
    return train, test


def _read_split(name: str, folder: Path, word: str) -> Labelled:
    images_file = _find(name, folder, f"{word}-images-idx3-ubyte")
    labels_file = _find(name, folder, f"{word}-labels-idx1-ubyte")
    images, labels = read_idx(images_file, axes=3), read_idx(labels_file, axes=1)
    if len(images) != len(labels) or not len(images):
        raise ToolError(
            folder,
            f"{len(images)} images in {images_file.name} and {len(labels)} labels in"
            f" {labels_file.name}",
            "equal numbers > 0",
        )
    if min(images.shape[1:]) < 4:
        raise ToolError(images_file, f"images of shape {images.shape[1:]}", "4 by 4 pixels or more")
    if labels.max() > 9:
        raise ToolError(labels_file, f"a label is {labels.max()}", "0 to 9")
    return torch.from_numpy(images.copy()), torch.from_numpy(labels.astype(np.int64))


def _find(name: str, folder: Path, stem: str) -> Path:
    """Return the file, plain or gzipped, in the folder or in the layouts of other packages."""
    for base in (folder, *(folder / below for below in _BELOW[name])):
        for path in (base / stem, base / f"{stem}.gz"):
            if path.is_file():
                return path
    layouts = (f"{stem} or {stem}.gz in the folder or in {', '.join(_BELOW[name])} below it",)
    raise missing(name, folder, layouts, _REMEDY[name])


def read_idx(path: Path, axes: int) -> NDArray[np.uint8]:
    """Return the array of an idx file; a name ending in .gz is decompressed.

    Args:
        path: The file.
        axes: Required number of axes: 3 for images, 1 for labels.

    Raises:
        ToolError: The file cannot be read, or its content differs from its header.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            raw = file.read(LARGEST_FILE + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise damaged(path, error) from None
    if len(raw) > LARGEST_FILE:
        raise ToolError(path, "too many bytes", f"{LARGEST_FILE} or fewer")
    head = 4 + 4 * axes
    if len(raw) < head or raw[:2] != b"\0\0":
        raise ToolError(path, "not an idx file", "idx files such as those of MNIST")
    kind, found = raw[2], raw[3]
    if kind != 8 or found != axes:
        problem, accepted = f"idx type 0x{kind:02x} with {found} axes", f"0x08 with {axes} axes"
        raise ToolError(path, problem, accepted)
    shape = struct.unpack(f">{axes}I", raw[4:head])
    if len(raw) - head != math.prod(shape):
        accepted = f"{math.prod(shape)}, as its header has shape {shape}"
        raise damaged(path, f"{len(raw) - head} bytes of data", accepted)
    return np.frombuffer(raw, np.uint8, offset=head).reshape(shape)
