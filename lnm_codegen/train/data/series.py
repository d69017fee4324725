"""Time series of the UCR and UEA archives, from .ts text files such as those of the package aeon.

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

The package is located, not imported, because it requires more packages than its files need.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from lnm_codegen.errors import ToolError
from lnm_codegen.train.data.dataset import Dataset, Scale, Split, memory_split, standard_scale
from lnm_codegen.train.data.store import damaged
from lnm_codegen.validation import require_known, wrong

_WHERE = "data: time-series"
_REMEDY = (
    "Run pip install --no-deps aeon, which contains eight problems, or name the folder of your .ts"
    " files with --data-dir."
)


class Series(NamedTuple):
    """The content of a .ts file.

    Attributes:
        values: An array (length, dimensions) float32 for each series, NaN for a missing value.
        labels: The last field of each line, unchanged.
    """

    values: tuple[NDArray[np.float32], ...]
    labels: tuple[str, ...]


def time_series(
    folder: Path | None = None, limit: int | None = None, problem: str = "JapaneseVowels"
) -> Dataset:
    """Return a problem of the archive: T steps of its dimensions, a label per series.

    Each dimension is standardised by the values of the training series. Series shorter than the
    longest of both splits start with the mean, so that all end together. A missing value becomes
    the mean too. The folder holds <problem>/<problem>_TRAIN.ts and _TEST.ts, or these two
    files; it is by default that of the package aeon.
    """
    if type(problem) is not str:
        raise wrong(_WHERE, "problem", problem, "a name")
    place = _find(folder, problem)
    train, test = (read_ts(place / f"{problem}_{word}.ts") for word in ("TRAIN", "TEST"))
    known = sorted(set(train.labels))
    for label in test.labels:
        if label not in known:
            raise ToolError(
                place / f"{problem}_TEST.ts", f"label {label!r} is not a training label", known
            )
    dimensions, other = (part.values[0].shape[1] for part in (train, test))
    if other != dimensions:
        raise ToolError(
            place, f"{dimensions} training dimensions, {other} in test", "equal numbers"
        )
    scale = _scale(np.concatenate(train.values))
    mean = scale[0].numpy()
    length = max(len(v) for part in (train, test) for v in part.values)

    def split(part: Series) -> Split:
        inputs = np.tile(mean, (len(part.values), length, 1))
        for row, values in zip(inputs, part.values, strict=True):
            row[length - len(values) :] = np.where(np.isnan(values), mean, values)
        labels = torch.tensor([known.index(label) for label in part.labels])
        return memory_split(torch.from_numpy(inputs), labels).first(limit)

    shape = (length, dimensions)
    return Dataset("time-series", split(train), split(test), len(known), "sequence", shape, scale)


def _scale(values: NDArray[np.float32]) -> Scale:
    """Return mean and deviation of each dimension; 0 and 1 where all values are missing."""
    known = (column[np.isfinite(column)] for column in values.T)
    none = np.zeros(1, np.float32)
    scales = (standard_scale(torch.from_numpy(v if v.size else none)) for v in known)
    mean, std = map(torch.stack, zip(*scales, strict=True))
    return mean, std


def read_ts(path: Path) -> Series:
    """Return the series of a .ts file: lines after @data, colons between the dimensions.

    Raises:
        ToolError: The file cannot be read, or a line is malformed.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise damaged(path, error) from None
    values: list[NDArray[np.float32]] = []
    labels: list[str] = []
    for number, line in _data_lines(path, lines):
        *dimensions, label = line.split(":")
        try:
            series = np.array([[_number(v) for v in d.split(",")] for d in dimensions], np.float32)
        except ValueError:
            series = np.empty((0, 0), np.float32)
        if not series.size or (values and len(series) != values[0].shape[1]):
            raise damaged(
                path,
                f"line {number} is not a series",
                "dimensions of one length, as many as in the first series, and a label, with"
                " colons between",
            )
        values.append(series.T)
        labels.append(label.strip())
    if not values:
        raise damaged(path, "no series in it", "lines after @data")
    return Series(tuple(values), tuple(labels))


def _data_lines(path: Path, lines: list[str]) -> Iterator[tuple[int, str]]:
    """Yield the number and text of each line after @data; refuse series without classes."""
    in_data = False
    for number, raw in enumerate(lines, 1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        if in_data:
            yield number, line
            continue
        in_data = line.lower() == "@data"
        words = line.lower().split()
        if words == ["@targetlabel", "true"]:
            raise ToolError(path, "its labels are numbers to predict", "classes")
        if words[:2] == ["@classlabel", "false"]:
            raise ToolError(path, "its series have no labels", "classes")


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
        raise ToolError(_WHERE, f"{base} does not exist", remedy=_REMEDY)
    files = sorted(base.glob("*_TRAIN.ts")) + sorted(base.glob("*/*_TRAIN.ts"))
    places = {f.name.removesuffix("_TRAIN.ts"): f.parent for f in files}
    if not places:
        problem = f"{base} and the folders in it hold no <problem>_TRAIN.ts"
        raise ToolError(_WHERE, problem, remedy=_REMEDY)
    return places[require_known(f"{_WHERE}: {base}", "problem", problem, sorted(places))]


def _aeon() -> Path:
    spec = importlib.util.find_spec("aeon")
    if spec is None or not spec.submodule_search_locations:
        raise ToolError(_WHERE, "the package aeon is not installed", remedy=_REMEDY)
    return Path(spec.submodule_search_locations[0]) / "datasets" / "data"
