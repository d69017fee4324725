"""Time series of the UCR and UEA archives, from .ts text files such as the package aeon carries.

| problem in aeon | train, test | dimensions x length | classes | linear on the mean over time |
| --- | --- | --- | --- | --- |
| JapaneseVowels | 270, 370 | 12 x 7 to 29 | 9 | .97: time is not needed |
| BasicMotions | 40, 40 | 6 x 100 | 4 | .85 |
| ArrowHead | 36, 175 | 1 x 251 | 3 | .33 |
| OSULeaf | 200, 242 | 1 x 427 | 6 | .19 |
| ACSF1 | 100, 100 | 1 x 1460 | 10 | .06 |
| GunPoint | 50, 150 | 1 x 150 | 2 | .50 |
| ItalyPowerDemand | 67, 1029 | 1 x 24 | 2 | .51 |
| PickupGestureWiimoteZ | 50, 50 | 1 x 29 to 361 | 10 | |

The package is found, not imported: it asks for more than its files need.
"""

from __future__ import annotations

import importlib.util
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from lnm_codegen.errors import ModelError, ToolError
from lnm_codegen.train.data.dataset import Dataset
from lnm_codegen.train.data.split import Split, held
from lnm_codegen.validation import did_you_mean

_REMEDY = (
    "Run pip install --no-deps aeon, which carries eight problems, or name the folder of your .ts"
    " files with --data-dir."
)


@dataclass(frozen=True, eq=False)
class Series:
    """The content of a .ts file.

    Attributes:
        values: An array (length, dimensions) float32 for each series, NaN where a value is missing.
        labels: The last field of each line, as it stands.
    """

    values: tuple[NDArray[np.float32], ...]
    labels: tuple[str, ...]


def time_series(
    folder: Path | None = None, limit: int | None = None, problem: str = "JapaneseVowels"
) -> Dataset:
    """Return a problem of the archive: T steps of its dimensions, a label per series.

    Each dimension is standardised by the values of the training series. Series shorter than the
    longest of both splits get zeros, the mean, in front, so that all end together; so does a value
    that is missing.

    Args:
        folder: It holds <problem>/<problem>_TRAIN.ts and _TEST.ts, or these two; by default that of
            the package aeon.
        limit: Keep only so many of each split.
        problem: Its name in the archive.
    """
    if type(problem) is not str:
        raise ModelError("data: time-series", f"problem is {problem!r}", "a name")
    place = _find(folder, problem)
    train, test = (read_ts(place / f"{problem}_{word}.ts") for word in ("TRAIN", "TEST"))
    known = sorted(set(train.labels))
    for label in test.labels:
        if label not in known:
            raise ToolError(place, f"test label {label!r} is not in {problem}_TRAIN.ts")
    dimensions = train.values[0].shape[1]
    if test.values[0].shape[1] != dimensions:
        raise ToolError(
            place, f"{dimensions} dimensions in training, {test.values[0].shape[1]} in test"
        )
    every = np.ma.masked_invalid(np.concatenate(train.values))
    mean, std = every.mean(axis=0).filled(0.0), every.std(axis=0).filled(1.0)
    std = np.where(std > 0, std, 1)
    length = max(len(v) for part in (train, test) for v in part.values)

    def split(part: Series) -> Split:
        inputs = np.zeros((len(part.values), length, dimensions), np.float32)
        for row, values in zip(inputs, part.values, strict=True):
            row[length - len(values) :] = np.nan_to_num((values - mean) / std)
        labels = torch.tensor([known.index(label) for label in part.labels])
        return held(torch.from_numpy(inputs), labels).first(limit)

    shape = (length, dimensions)
    return Dataset("time-series", split(train), split(test), len(known), "sequence", shape)


def read_ts(path: Path) -> Series:
    """Return the series of a .ts file: after the line @data, dimensions apart by colons.

    Raises:
        ToolError: The file cannot be read, or a line is not what it should be.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        said = getattr(error, "strerror", None) or error
        raise ToolError(path, f"cannot be read: {said}", remedy="Get the file again.") from None
    values: list[NDArray[np.float32]] = []
    labels: list[str] = []
    in_data = False
    for number, raw in enumerate(lines, 1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        if not in_data:
            in_data = line.lower() == "@data"
            words = line.lower().split()
            if words == ["@targetlabel", "true"]:
                raise ToolError(path, "labels are numbers to predict", "classes")
            if words[:2] == ["@classlabel", "false"]:
                raise ToolError(path, "its series have no labels", "classes")
            continue
        *dimensions, label = line.split(":")
        try:
            series = np.array([[_number(v) for v in d.split(",")] for d in dimensions], np.float32)
        except ValueError:
            series = np.empty((0, 0), np.float32)
        if not series.size or (values and len(series) != values[0].shape[1]):
            raise ToolError(
                path,
                (
                    f"line {number} is not a series: dimensions of one length, as many as in the "
                    "first, and a label, apart by colons"
                ),
                remedy="Get the file again.",
            )
        values.append(series.T)
        labels.append(label.strip())
    if not values:
        raise ToolError(
            path, "no series in it", remedy="Expected lines after @data. Get the file again."
        )
    return Series(tuple(values), tuple(labels))


def _number(text: str) -> float:
    if text.strip() == "?":
        return math.nan
    value = float(text)
    if not abs(value) < 2.0**128:
        raise ValueError("not a number that float32 holds")
    return value


def _find(folder: Path | None, problem: str) -> Path:
    """Return the folder of a problem's two files."""
    base = _aeon() if folder is None else folder
    if not base.is_dir():
        raise ToolError("data: time-series", f"{base} does not exist", remedy=_REMEDY)
    files = sorted(base.glob("*_TRAIN.ts")) + sorted(base.glob("*/*_TRAIN.ts"))
    places = {f.name.removesuffix("_TRAIN.ts"): f.parent for f in files}
    if problem in places:
        return places[problem]
    if not places:
        raise ToolError(
            "data: time-series",
            f"{base} holds no <problem>_TRAIN.ts, nor does a folder in it",
            remedy=_REMEDY,
        )
    raise ModelError(
        "data: time-series",
        f"no problem {problem!r} in {base}",
        ", ".join(sorted(places)),
        did_you_mean(problem, places),
    )


def _aeon() -> Path:
    spec = importlib.util.find_spec("aeon")
    if spec is None or not spec.submodule_search_locations:
        raise ToolError("data: time-series", "the package aeon is not installed", remedy=_REMEDY)
    return Path(spec.submodule_search_locations[0]) / "datasets" / "data"
