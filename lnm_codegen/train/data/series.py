"""Data sets of time series."""

from __future__ import annotations

import importlib.util
import math
import random
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from lnm_codegen.errors import ToolError, reason
from lnm_codegen.nn.chain import IGNORED
from lnm_codegen.train.data.dataset import (
    PADDING,
    Dataset,
    Scale,
    Split,
    memory_split,
    standard_scale,
)
from lnm_codegen.train.data.store import damaged, missing
from lnm_codegen.validation import Accepted, Flag, require_known, require_package

# Time series of the UCR and UEA archives, from .ts text files such as those of the package aeon.
#
# | problem in aeon | train, test | dimensions x length | classes | linear on the mean over time |
# | --- | --- | --- | --- | --- |
# | JapaneseVowels | 270, 370 | 12 x 7 to 29 | 9 | .97: time is not needed |
# | BasicMotions | 40, 40 | 6 x 100 | 4 | .85 |
# | ArrowHead | 36, 175 | 1 x 251 | 3 | .33 |
# | OSULeaf | 200, 242 | 1 x 427 | 6 | .19 |
# | ACSF1 | 100, 100 | 1 x 1460 | 10 | .06 |
# | GunPoint | 50, 150 | 1 x 150 | 2 | .50 |
# | ItalyPowerDemand | 67, 1029 | 1 x 24 | 2 | .51 |
# | PickupGestureWiimoteZ | 50, 50 | 1 x 29 to 361 | 10 | |
#
# The package is located, not imported, because it requires more packages than its files need.


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
    folder: Path | None = None,
    limit: int | None = None,
    problem: Annotated[str, Accepted()] = "JapaneseVowels",
    align: Annotated[Literal["end", "start"], Accepted()] = "end",
) -> Dataset:
    """Return a problem of the archive: T steps of its dimensions, a label per series.

    Each dimension is standardised by the values of the training series. Series shorter than the
    longest of both splits start with the mean, so that all end together; or, if `align` is "start",
    they are padded behind. A missing value becomes the mean. The folder holds
    <problem>/<problem>_TRAIN.ts and _TEST.ts, or these two files; it is by default that of the
    package aeon.
    """
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
        is_padded = align == "start"
        fill = np.full_like(mean, PADDING) if is_padded else mean
        inputs = np.tile(fill, (len(part.values), length, 1))
        for row, values in zip(inputs, part.values, strict=True):
            begin = 0 if is_padded else length - len(values)
            row[begin : begin + len(values)] = np.where(np.isnan(values), mean, values)
        labels = torch.tensor([known.index(label) for label in part.labels])
        return memory_split(torch.from_numpy(inputs), labels).first(limit)

    shape = (length, dimensions)
    parts = split(train), split(test)
    found = Dataset("time-series", *parts, len(known), "sequence", shape, scale)
    return replace(found, padded=align == "start")


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


# MNIST-1D (Greydanus and Kobak 2024, arXiv 2011.14439): digits drawn as lines, sample by sample.
#
# Its own package generates it, 4,000 and 1,000 sequences of 40 samples, the same at every call, and
# standardises them over both splits. Published with it: logistic regression 32, MLP 68, GRU 91,
# CNN 94; with shuffled time GRU 57, CNN 56.


def mnist1d(limit: int | None = None, shuffled: Flag = False) -> Dataset:
    """Return MNIST-1D: T = 40 steps of one number, a label per sequence.

    `shuffled` permutes time, in one order for all: a control without meaning in the order.
    """
    arrays = _generate(shuffled)
    train, test = (
        memory_split(
            torch.from_numpy(np.asarray(arrays[f"x{end}"], np.float32)).unsqueeze(2),
            torch.from_numpy(np.asarray(arrays[f"y{end}"], np.int64)),
        ).first(limit)
        for end in ("", "_test")
    )
    return Dataset("mnist1d", train, test, 10, "sequence", (40, 1))


@cache
def _generate(shuffled: bool) -> dict[str, Any]:
    """Call the package, which seeds the global generators, and restore their states."""
    before = random.getstate(), np.random.get_state()  # noqa: NPY002 (the package seeds it)
    try:
        from mnist1d.data import get_dataset_args, make_dataset

        args = get_dataset_args()
        args.shuffle_seq = shuffled
        arrays: dict[str, Any] = make_dataset(args)
        return arrays
    except ImportError as error:
        remedy = "Install the package that generates it: pip install 'lnm_codegen[data]'."
        raise ToolError("data: mnist1d", reason(error), remedy=remedy) from None
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])  # noqa: NPY002


# ECG-QTDB: heart beats as level-crossing spikes, with a label at each time step.
#
# The recordings of PhysioNet's QT database, coded by Yin, Corradi and Bohté (2020, arXiv
# 2005.11633): 1,301 steps of 4 channels, 0 between the spikes, and one of 6 classes (the waves of a
# beat) per step; 618 beats for training, 141 for test.
#
# About one step in ten has no label: all six flags are 0. The published code takes the largest
# flag, which is then class 0. This is the default here too.


def ecg_qtdb(
    folder: Path, limit: int | None = None,
    unlabelled: Annotated[Literal["first", "ignore"], Accepted()] = "first",
) -> Dataset:  # fmt: skip
    """Return ECG-QTDB from QTDB_train.mat and QTDB_test.mat: T = 1,301 steps, labels (count, T).

    A step without a label is class 0 if `unlabelled` is "first", as in the published figures, and
    `IGNORED` if it is "ignore".
    """
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
