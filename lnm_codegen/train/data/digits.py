"""`digits`: the 1,797 images of 8x8 in scikit-learn itself, values 0 to 16.

There is no official split. Ours is drawn at random once, with seed 0, and stratified by class, so
the same people wrote training and test images. (The last 360 in scikit-learn's order come from
other people: a harder test, whose figures are not comparable with ours.)
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from lnm_codegen.train.data.dataset import Dataset
from lnm_codegen.train.data.options import check_choice
from lnm_codegen.train.data.pixels import image_set, pixel_sequences
from lnm_codegen.train.data.split import held

TEST, SEED = 360, 0
SPLITS = ("random", "writers")


def digits(limit: int | None = None) -> Dataset:
    """Return the images (1, 8, 8); 1,437 to train on, 360 to test."""
    (train, test), (train_labels, test_labels) = _digits("random")
    splits = held(train.unsqueeze(1), train_labels), held(test.unsqueeze(1), test_labels)
    return image_set("digits", *splits, classes=10, limit=limit)


def digits_rows(limit: int | None = None, split: str = "random", scale: str = "unit") -> Dataset:
    """Return them row by row: T = 8 steps of 8 pixels.

    Args:
        limit: Keep only so many of each split.
        split: "random", that of `digits`; or "writers", the last 360, of other people.
        scale: "unit" (0 to 1) or "standard".
    """
    check_choice("digits-rows", "split", split, SPLITS)
    (train, test), labels = _digits(split)
    return pixel_sequences(
        "digits-rows", train, test, labels, classes=10, limit=limit, scale=scale, top=16
    )


def _digits(split: str) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    from sklearn.datasets import load_digits  # takes a second
    from sklearn.model_selection import train_test_split

    bunch = load_digits()
    images = torch.from_numpy(bunch.images.astype(np.uint8))
    labels = torch.from_numpy(bunch.target.astype(np.int64))
    rows = np.arange(len(labels))
    if split == "writers":
        train, test = rows[:-TEST], rows[-TEST:]
    else:
        train, test = train_test_split(
            rows, test_size=TEST, stratify=bunch.target, random_state=SEED
        )
    return (images[train], images[test]), (labels[train], labels[test])
