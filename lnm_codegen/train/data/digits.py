"""Digits: the 1,797 images of 8x8 in scikit-learn itself, values 0 to 16.

There is no official split. Ours is drawn at random with seed 0, stratified by class, so the same
people wrote training and test images. The last 360 in scikit-learn's order come from other people:
a harder test, whose accuracies do not compare with ours.
"""

from __future__ import annotations

import numpy as np
import torch

from lnm_codegen.train.data.dataset import Dataset, memory_split
from lnm_codegen.train.data.pixels import Labelled, image_set, pixel_sequences
from lnm_codegen.validation import require_one_of, require_package

TEST, SEED = 360, 0


def digits(limit: int | None = None) -> Dataset:
    """Return the images (1, 8, 8); 1,437 for training, 360 for test."""
    train, test = (memory_split(x.unsqueeze(1), y) for x, y in _digits("random"))
    return image_set("digits", train, test, 10, limit)


def digits_rows(limit: int | None = None, split: str = "random", scale: str = "unit") -> Dataset:
    """Return the images row by row: T = 8 steps of 8 pixels.

    `split` is "random", that of `digits`, or "writers": the last 360, of other people. `scale` is
    "unit" (0 to 1) or "standard".
    """
    require_one_of("data: digits-rows", "split", split, ("random", "writers"))
    return pixel_sequences("digits-rows", *_digits(split), limit, scale, top=16)


def _digits(split: str) -> tuple[Labelled, Labelled]:
    require_package("data: digits", "sklearn", "scikit-learn", extra="train")
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
    return (images[train], labels[train]), (images[test], labels[test])
