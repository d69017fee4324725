"""The image sets a network can be trained on. Nothing here opens a network connection.

| name | images | split |
| --- | --- | --- |
| `digits` | 1,797 of 8x8, values 0 to 16, in scikit-learn itself | 1,437 and 360, see below |
| `fashion-mnist` | 70,000 of 28x28, values 0 to 255, idx files | its own, 60,000 and 10,000 |

`digits` has no official split. Ours is drawn at random once, with seed 0, and stratified by class,
so the same people wrote training and test images. (The last 360 in scikit-learn's order come from
other people: a harder test, whose figures are not comparable with ours.)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lnm_codegen.errors import ModelError, ToolError
from lnm_codegen.functions import did_you_mean
from lnm_codegen.train.idx import read_idx

DATASETS = ("digits", "fashion-mnist")
DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
DIGITS_TEST, DIGITS_SEED = 360, 0


@dataclass(frozen=True, eq=False)
class Split:
    """Images (count, 1, H, W) as unsigned bytes, and labels (count,) as int64."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class Dataset:
    """A training and a test split, with mean and deviation of the training pixels."""

    name: str
    train: Split
    test: Split
    classes: int
    mean: float
    std: float

    def batches(
        self, split: Split, size: int, generator: torch.Generator | None = None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield normalised float32 images and labels, shuffled where a generator is given."""
        count = len(split)
        order = (
            torch.arange(count) if generator is None else torch.randperm(count, generator=generator)
        )
        for rows in torch.split(order, size):
            images = split.images[rows].to(torch.float32)
            yield images.sub_(self.mean).div_(self.std), split.labels[rows]


def load(name: str, folder: Path | None = None, limit: int | None = None) -> Dataset:
    """Return an image set.

    Args:
        name: One of `DATASETS`.
        folder: Where the idx files of `fashion-mnist` are; by default where Debian puts them.
        limit: Keep only the first so many training and test images, for a quick try.

    Raises:
        ModelError: No set of that name, or a folder for a set that has none.
        ToolError: The files are missing or malformed.
    """
    if name not in DATASETS:
        raise ModelError(
            f"data: no set {name!r}. Accepted: {', '.join(DATASETS)}.{did_you_mean(name, DATASETS)}"
        )
    if name == "digits":
        if folder is not None:
            raise ModelError(
                "data: 'digits' comes with scikit-learn and takes no folder. Leave out --data-dir,"
                " or choose --data fashion-mnist."
            )
        splits = _digits()
    else:
        splits = _idx_folder(DEBIAN_FOLDER if folder is None else folder)
    train, test = (Split(s.images[:limit], s.labels[:limit]) for s in splits)
    pixels = train.images.to(torch.float32)
    return Dataset(name, train, test, 10, float(pixels.mean()), float(pixels.std()) or 1.0)


def _digits() -> tuple[Split, Split]:
    from sklearn.datasets import load_digits  # takes a second
    from sklearn.model_selection import train_test_split

    bunch = load_digits()
    images = torch.from_numpy(bunch.images.astype(np.uint8)).unsqueeze(1)
    labels = torch.from_numpy(bunch.target.astype(np.int64))
    train, test = train_test_split(
        np.arange(len(labels)), test_size=DIGITS_TEST, stratify=bunch.target,
        random_state=DIGITS_SEED,
    )  # fmt: skip
    return Split(images[train], labels[train]), Split(images[test], labels[test])


def _idx_folder(folder: Path) -> tuple[Split, Split]:
    return _idx_split(folder, "train"), _idx_split(folder, "t10k")


def _idx_split(folder: Path, word: str) -> Split:
    images_file = _find(folder, f"{word}-images-idx3-ubyte")
    labels_file = _find(folder, f"{word}-labels-idx1-ubyte")
    images, labels = read_idx(images_file, axes=3), read_idx(labels_file, axes=1)
    if len(images) != len(labels) or not len(images):
        raise ToolError(
            f"{folder}: {len(images)} images and {len(labels)} labels in {images_file.name} and"
            f" {labels_file.name}. Expected as many of one as of the other, and some."
        )
    if min(images.shape[1:]) < 4:
        raise ToolError(
            f"{images_file}: images of shape {images.shape[1:]}. Accepted: 4 by 4 pixels or more."
        )
    if labels.max() > 9:
        raise ToolError(f"{labels_file}: a label is {labels.max()}. Accepted: 0 to 9.")
    pixels = torch.from_numpy(images.copy()).unsqueeze(1)
    return Split(pixels, torch.from_numpy(labels.astype(np.int64)))


def _find(folder: Path, stem: str) -> Path:
    """Return the file as Debian (.gz), torchvision (FashionMNIST/raw) or a user lays it out."""
    for base in (folder, folder / "FashionMNIST" / "raw"):
        for path in (base / stem, base / f"{stem}.gz"):
            if path.is_file():
                return path
    raise ToolError(
        f"data: {stem} not found in {folder}. Looked for {stem} and {stem}.gz there and in"
        " FashionMNIST/raw below it. Run apt-get install dataset-fashion-mnist, or name the folder"
        " of the four idx files with --data-dir."
    )
