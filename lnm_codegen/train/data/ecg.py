"""ECG-QTDB: heart beats as level-crossing spikes, with a label at each step.

The recordings of PhysioNet's QT database, coded by Yin, Corradi and Bohté (2020, arXiv 2005.11633):
1,301 steps of 4 channels, each 0 but for the spikes, and one of 6 classes (the waves of a beat) per
step; 618 beats to train on, 141 to test.

About one step in ten has no label: all six are 0. The published code takes the largest, which makes
them class 0, and so do we unless told otherwise.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from lnm_codegen.errors import ToolError
from lnm_codegen.train.data.dataset import Dataset
from lnm_codegen.train.data.options import check_choice, missing
from lnm_codegen.train.data.split import Split, held

UNLABELLED = ("first", "ignore")
IGNORED = -100
"""The label that PyTorch's cross entropy passes over."""


def ecg_qtdb(folder: Path, limit: int | None = None, unlabelled: str = "first") -> Dataset:
    """Return ECG-QTDB: T = 1,301 steps of 4 channels, labels (count, T).

    Args:
        folder: It holds QTDB_train.mat and QTDB_test.mat.
        limit: Keep only so many of each split.
        unlabelled: "first" makes a step without a label class 0, as the published figures have it;
            "ignore" makes it `IGNORED`.
    """
    check_choice("ecg-qtdb", "unlabelled", unlabelled, UNLABELLED)
    train, test = (_read(folder, word, unlabelled).first(limit) for word in ("train", "test"))
    shape = tuple(train.images.shape[1:])
    if tuple(test.images.shape[1:]) != shape:
        raise ToolError(
            folder,
            f"training beats of {shape}, test beats of {tuple(test.images.shape[1:])}",
            remedy="Expected one size.",
        )
    return Dataset("ecg-qtdb", train, test, 6, "sequence", shape, per_step=True)


def _read(folder: Path, word: str, unlabelled: str) -> Split:
    found = [f for f in (folder / f"QTDB_{word}.mat", folder / "ecg-qtdb" / f"QTDB_{word}.mat")
             if f.is_file()]  # fmt: skip
    if not found:
        layouts = ("QTDB_train.mat and QTDB_test.mat there and in ecg-qtdb below it",)
        raise missing("ecg-qtdb", folder, layouts, "Name the folder of both with --data-dir.")
    x, y = (_array(found[0], key) for key in "xy")
    if x.ndim != 3 or y.shape != (*x.shape[:2], 6) or not len(x):
        raise ToolError(
            found[0], f"x is {x.shape} and y is {y.shape}", "(beats, T, channels) and (beats, T, 6)"
        )
    labels = y.argmax(2).astype(np.int64)
    if unlabelled == "ignore":
        labels[~y.any(2)] = IGNORED
    return held(torch.from_numpy(x.astype(np.float32)), torch.from_numpy(labels))


def _array(path: Path, key: str) -> Any:
    from scipy.io import loadmat  # takes a while to import

    try:
        content = loadmat(path, variable_names=[key])
        found = np.asarray(content[key])
    except KeyError:
        raise ToolError(path, f"holds no {key!r}", remedy="Get the file again.") from None
    except Exception as error:  # a damaged file raises nearly anything
        said = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        raise ToolError(path, f"cannot be read: {said}", remedy="Get the file again.") from None
    if found.dtype.kind not in "biuf":
        raise ToolError(path, f"{key!r} holds {found.dtype}", "numbers")
    return found
