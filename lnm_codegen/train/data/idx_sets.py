"""Fashion-MNIST and MNIST from a folder of four idx files: as images, by columns, by pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lnm_codegen.errors import ModelError, ToolError
from lnm_codegen.train.data.dataset import Dataset
from lnm_codegen.train.data.idx import read_idx
from lnm_codegen.train.data.options import check_count, missing
from lnm_codegen.train.data.pixels import image_set, pixel_sequences
from lnm_codegen.train.data.split import held

DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")

Pair = tuple[Tensor, Tensor]

_BELOW = {"fashion-mnist": ("FashionMNIST/raw",), "mnist": ("MNIST/raw", "package/data", "data")}
_REMEDY = {
    "fashion-mnist": "Run apt-get install dataset-fashion-mnist, or name the folder of the four idx"
    " files with --data-dir.",
    "mnist": "Name the folder of the four idx files with --data-dir.",
}


def fashion_mnist(folder: Path = DEBIAN_FOLDER, limit: int | None = None) -> Dataset:
    """Return the images (1, 28, 28) of clothes; 60,000 to train on, 10,000 to test."""
    return _images("fashion-mnist", folder, limit)


def fashion_columns(
    folder: Path = DEBIAN_FOLDER, limit: int | None = None, scale: str = "unit"
) -> Dataset:
    """Return Fashion-MNIST column by column: T = 28 steps, from the left, of 28 rows.

    Args:
        folder: Of the four idx files.
        limit: Keep only so many of each split.
        scale: "unit" (0 to 1, as the published figures have it) or "standard".
    """
    images, labels = read_idx_folder("fashion-mnist", folder)
    train, test = (part.transpose(1, 2) for part in images)
    return pixel_sequences(
        "fashion-columns", train, test, labels, classes=10, limit=limit, scale=scale, top=255
    )


def mnist(folder: Path, limit: int | None = None) -> Dataset:
    """Return the images (1, 28, 28) of digits; 60,000 to train on, 10,000 to test."""
    return _images("mnist", folder, limit)


def mnist_sequential(
    folder: Path, limit: int | None = None, pixels: int = 1, scale: str = "unit"
) -> Dataset:
    """Return MNIST pixel by pixel, row after row: T = 784 steps of one pixel (S-MNIST).

    Args:
        folder: Of the four idx files.
        limit: Keep only so many of each split.
        pixels: In a step; a divisor of an image's size. More than 1 is a set of our own.
        scale: "unit" (0 to 1) or "standard".
    """
    return _pixel_by_pixel("mnist-sequential", folder, limit, pixels, scale, None)


def mnist_permuted(
    folder: Path, limit: int | None = None, pixels: int = 1, scale: str = "unit", seed: int = 0
) -> Dataset:
    """Return MNIST pixel by pixel in an order drawn once for all images (PS-MNIST).

    The order is `torch.randperm` of `seed`. Papers each have their own, so that their figures
    compare up to the luck of that draw.
    """
    check_count("mnist-permuted", "seed", seed, 0)
    return _pixel_by_pixel("mnist-permuted", folder, limit, pixels, scale, seed)


def _pixel_by_pixel(
    name: str, folder: Path, limit: int | None, pixels: int, scale: str, seed: int | None
) -> Dataset:
    images, labels = read_idx_folder("mnist", folder)
    flat = [part.flatten(1) for part in images]
    size = flat[0].shape[1]
    check_count(name, "pixels", pixels)
    if size % pixels:
        raise ModelError(f"data: {name}", f"pixels is {pixels}", f"a divisor of {size}")
    if seed is not None:
        order = torch.randperm(size, generator=torch.Generator().manual_seed(seed))
        flat = [part[:, order] for part in flat]
    train, test = (part.view(len(part), -1, pixels) for part in flat)
    return pixel_sequences(name, train, test, labels, classes=10, limit=limit, scale=scale, top=255)


def read_idx_folder(name: str, folder: Path) -> tuple[Pair, Pair]:
    """Return the images (count, H, W) of both splits, as bytes, and their labels.

    Args:
        name: "fashion-mnist" or "mnist".
        folder: Of the four files, plain or .gz, or one that torchvision made.

    Raises:
        ToolError: A file is missing, malformed, or does not fit another.
    """
    (train, train_labels), (test, test_labels) = (
        _read_split(name, folder, word) for word in ("train", "t10k")
    )
    if train.shape[1:] != test.shape[1:]:
        raise ToolError(
            folder,
            (
                f"training images of {tuple(train.shape[1:])}, test images of "
                f"{tuple(test.shape[1:])}"
            ),
            remedy="Expected one size.",
        )
    return (train, test), (train_labels, test_labels)


def _images(name: str, folder: Path, limit: int | None) -> Dataset:
    images, labels = read_idx_folder(name, folder)
    train, test = (held(x.unsqueeze(1), y) for x, y in zip(images, labels, strict=True))
    return image_set(name, train, test, classes=10, limit=limit)


def _read_split(name: str, folder: Path, word: str) -> Pair:
    images_file = _find(name, folder, f"{word}-images-idx3-ubyte")
    labels_file = _find(name, folder, f"{word}-labels-idx1-ubyte")
    images, labels = read_idx(images_file, axes=3), read_idx(labels_file, axes=1)
    if len(images) != len(labels) or not len(images):
        raise ToolError(
            folder,
            (
                f"{len(images)} images and {len(labels)} labels in {images_file.name} and "
                f"{labels_file.name}"
            ),
            remedy="Expected as many of one as of the other, and some.",
        )
    if min(images.shape[1:]) < 4:
        raise ToolError(images_file, f"images of shape {images.shape[1:]}", "4 by 4 pixels or more")
    if labels.max() > 9:
        raise ToolError(labels_file, f"a label is {labels.max()}", "0 to 9")
    return torch.from_numpy(images.copy()), torch.from_numpy(labels.astype(np.int64))


def _find(name: str, folder: Path, stem: str) -> Path:
    """Return the file, plain or gzipped, in the folder or where other packages lay it out."""
    for base in (folder, *(folder / below for below in _BELOW[name])):
        for path in (base / stem, base / f"{stem}.gz"):
            if path.is_file():
                return path
    layouts = (f"{stem} and {stem}.gz there and in {', '.join(_BELOW[name])} below it",)
    raise missing(name, folder, layouts, _REMEDY[name])
