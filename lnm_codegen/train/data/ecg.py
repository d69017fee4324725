"""ECG-QTDB: heart beats as level-crossing spikes, with a label at each time step.

The recordings of PhysioNet's QT database, coded by Yin, Corradi and Bohté (2020, arXiv 2005.11633):
1,301 steps of 4 channels, 0 between the spikes, and one of 6 classes (the waves of a beat) per
step; 618 beats for training, 141 for test.

About one step in ten has no label: all six flags are 0. The published code takes the largest flag,
which is then class 0. This is the default here too.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from lnm_codegen.errors import ToolError
from lnm_codegen.train.data.dataset import IGNORED, Dataset, Split, memory_split
from lnm_codegen.train.data.store import damaged, missing
from lnm_codegen.validation import require_one_of, require_package


def ecg_qtdb(folder: Path, limit: int | None = None, unlabelled: str = "first") -> Dataset:
    """Return ECG-QTDB from QTDB_train.mat and QTDB_test.mat: T = 1,301 steps, labels (count, T).

    A step without a label is class 0 if `unlabelled` is "first", as in the published figures, and
    `IGNORED` if it is "ignore".
    """
    require_one_of("data: ecg-qtdb", "unlabelled", unlabelled, ("first", "ignore"))
    train, test = (_read(folder, word, unlabelled).first(limit) for word in ("train", "test"))
    shape, other = (tuple(part.images.shape[1:]) for part in (train, test))
    if other != shape:
        raise ToolError(folder, f"training beats of {shape}, test beats of {other}", "one size")
    return Dataset("ecg-qtdb", train, test, 6, "sequence", shape, per_step=True)


def _read(folder: Path, word: str, unlabelled: str) -> Split:
    places = (base / f"QTDB_{word}.mat" for base in (folder, folder / "ecg-qtdb"))
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        layouts = ("QTDB_train.mat and QTDB_test.mat in the folder or in ecg-qtdb/",)
        raise missing("ecg-qtdb", folder, layouts)
    x, y = (_array(path, key) for key in "xy")
    if x.ndim != 3 or y.shape != (*x.shape[:2], 6) or not len(x):
        shapes = "(beats, T, channels) and (beats, T, 6)"
        raise ToolError(path, f"x is {x.shape} and y is {y.shape}", shapes)
    labels = y.argmax(2).astype(np.int64)
    if unlabelled == "ignore":
        labels[~y.any(2)] = IGNORED
    return memory_split(torch.from_numpy(x.astype(np.float32)), torch.from_numpy(labels))


def _array(path: Path, key: str) -> Any:
    require_package("data: ecg-qtdb", "scipy.io", "SciPy", extra="train")
    from scipy.io import loadmat  # takes a while to import

    try:
        found = np.asarray(loadmat(path, variable_names=[key])[key])
    except KeyError:
        raise damaged(path, f"no array {key!r} in it") from None
    except Exception as error:  # a damaged file raises nearly anything
        raise damaged(path, error) from None
    if found.dtype.kind not in "biuf":
        raise ToolError(path, f"{key!r} holds {found.dtype}", "numbers")
    return found
