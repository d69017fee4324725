"""Spoken digits and words as spikes of a cochlea: the Heidelberg sets SHD and SSC.

Cramer, Stradmann, Schemmel and Zenke, IEEE TNNLS 2022 (arXiv 1910.07407). Recordings pass a model
of the inner ear with 700 channels.

| set | files | classes | training, validation, test |
| --- | --- | --- | --- |
| SHD, digits in two languages | shd_train.h5, shd_test.h5 | 20 | 8,156, -, 2,264 |
| SSC, spoken commands | ssc_train.h5, ssc_valid.h5, ssc_test.h5 | 35 | 75,466, 9,981, 20,382 |

In a file, spikes/times and spikes/units have an array for each recording: times in seconds and
channels 0 to 699. `labels` has its class.
"""

from __future__ import annotations

import math
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lnm_codegen.errors import ToolError
from lnm_codegen.train.data.dataset import Dataset, padded_to, source_split
from lnm_codegen.train.data.store import damaged, missing
from lnm_codegen.validation import Accepted, require_package

CHANNELS = 700
Milliseconds = Annotated[float, Accepted(low=0.1, high=1000)]
Seconds = Annotated[float, Accepted(low=0.01, high=100)]
Merged = Annotated[int, Accepted(low=1, high=CHANNELS)]


def shd(
    folder: Path,
    limit: int | None = None,
    step_ms: Milliseconds = 10.0,
    merge: Merged = 5,
    duration: Seconds = 1.4,
) -> Dataset:
    """Return SHD as frames: T steps of 700/merge counts of spikes, a label per recording.

    A step has `step_ms` milliseconds, and `merge` adjacent channels count together. A recording
    ends with its last spike; the steps behind it are padding. Spikes after `duration` seconds are
    left out, and T is duration/step_ms, rounded up. There is no validation split; hold samples of
    the training split out.
    """
    return _frames("shd", 20, ("train", "test"), folder, limit, step_ms, merge, duration)


def ssc(
    folder: Path,
    limit: int | None = None,
    step_ms: Milliseconds = 10.0,
    merge: Merged = 5,
    duration: Seconds = 1.0,
) -> Dataset:
    """Return SSC as `shd` does. A run tests on its validation split; `with_test` has the test."""
    return _frames("ssc", 35, ("train", "valid", "test"), folder, limit, step_ms, merge, duration)


def _frames(
    name: str, classes: int, words: tuple[str, ...], folder: Path, limit: int | None,
    step_ms: float, merge: int, duration: float,
) -> Dataset:  # fmt: skip
    require_package(f"data: {name}", "h5py", "h5py", extra="data")
    shape = (math.ceil(1000 * duration / step_ms - 1e-9), -(-CHANNELS // merge))
    splits = {}
    for word in words:
        recordings = Recordings(_find(name, folder, word, words), classes)
        source = recordings.frames(shape, step_ms / 1000, merge)
        splits[word] = source_split(source, recordings.labels).first(limit)
    has_valid = "valid" in splits
    return Dataset(
        name,
        splits["train"],
        splits["valid" if has_valid else "test"],
        classes,
        "sequence",
        shape,
        is_held_out=has_valid,
        unread_test=splits["test"] if has_valid else None,
        padded=True,
    )


def _find(name: str, folder: Path, word: str, words: tuple[str, ...]) -> Path:
    file = f"{name}_{word}.h5"
    path = next((p for p in (folder / file, folder / name.upper() / file) if p.is_file()), None)
    if path is not None:
        return path
    packed = next(iter(sorted(folder.glob(f"**/{file}.gz"))), None)
    if packed is not None:
        raise ToolError(f"data: {name}", f"{packed} is compressed", remedy="Run gunzip on it.")
    names = ", ".join(f"{name}_{w}.h5" for w in words)
    raise missing(name, folder, (f"{names} in the folder or in {name.upper()}/",))


class Recordings:
    """The recordings of a file, which stays open; a row is read when a batch needs it.

    Raises:
        ToolError: The file is damaged, or its labels are no classes of the set.
    """

    def __init__(self, path: Path, classes: int) -> None:
        self._path = path = path.resolve()
        times, units, labels = self._arrays()
        if not len(times) == len(units) == len(labels):
            counts = f"{len(times)} times, {len(units)} units, {len(labels)} labels"
            raise damaged(path, counts, "equal numbers")
        found = np.asarray(labels[:])
        if found.dtype.kind not in "iu" or found.ndim != 1 or not len(found):
            raise damaged(path, f"labels are {found.dtype} of shape {found.shape}", "integers")
        if found.min() < 0 or found.max() >= classes:
            have = f"labels are from {found.min()} to {found.max()}"
            raise damaged(path, have, f"0 to {classes - 1}")
        self.labels = torch.from_numpy(found.astype(np.int64))

    def _arrays(self) -> tuple[Any, Any, Any]:
        try:
            at = self._path.stat()
        except OSError as error:
            raise damaged(self._path, error) from None
        file = _opened(self._path, at.st_mtime_ns, at.st_size)
        try:
            return file["spikes"]["times"], file["spikes"]["units"], file["labels"]
        except (KeyError, ValueError, TypeError):
            accepted = "spikes/times, spikes/units and labels"
            raise damaged(self._path, "an array is missing", accepted) from None

    def frames(self, shape: tuple[int, int], step: float, merge: int) -> Any:
        """Return the source of frames (n, T, channels) float32, with padding; a step is in s."""

        def source(rows: Tensor) -> Tensor:
            found = [self._frame(row, shape, step, merge) for row in rows.tolist()]
            return torch.stack(found) if found else torch.zeros(0, *shape)

        return source

    def _frame(self, row: int, shape: tuple[int, int], step: float, merge: int) -> Tensor:
        times, units = self._read(row)
        at = np.floor(times / step).astype(np.int64)
        kept = at < shape[0]
        at, channel = at[kept], units[kept] // merge
        steps = int(at.max()) + 1 if len(at) else 1
        counts = np.bincount(at * shape[1] + channel, minlength=steps * shape[1])
        frame = torch.from_numpy(counts.reshape(steps, shape[1]).astype(np.float32))
        return padded_to(shape[0], frame)

    def _read(self, row: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        place = f"{self._path}: recording {row}"
        times, units, _ = self._arrays()
        try:
            t, u = np.asarray(times[row], np.float64), np.asarray(units[row], np.int64)
        except (OSError, ValueError, TypeError) as error:
            raise damaged(place, error) from None
        if t.shape != u.shape or t.ndim != 1:
            raise damaged(place, f"times are {t.shape}, units {u.shape}", "arrays of one length")
        if len(t) and not (np.isfinite(t).all() and t.min() >= 0):
            raise damaged(place, "a time is negative or not finite")
        if len(u) and not 0 <= u.min() <= u.max() < CHANNELS:
            raise damaged(place, f"units are from {u.min()} to {u.max()}", f"0 to {CHANNELS - 1}")
        return t, u


@lru_cache(maxsize=8)
def _opened(path: Path, *_: int) -> Any:
    """Return an open file; its time and size are arguments, so that a new one is opened."""
    import h5py

    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise damaged(path, error) from None
