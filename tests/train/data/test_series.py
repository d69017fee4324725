"""Time series from .ts files: padded in front, standardised by the training values."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lnm_codegen.errors import ModelError, ToolError
from lnm_codegen.train.data import load
from lnm_codegen.train.data.series import read_ts
from tests.refusals import assert_refused, refused

HEAD = "# a comment\n@problemName Toy\n@classLabel true a b\n@data\n"
TRAIN = f"{HEAD}1,2,3:10,20,30:b\n4,?:40,50:a\n"
TEST = f"{HEAD}\n5,6,7,8:1,1,1,1:a\n"


def write_toy(folder: Path, train: str = TRAIN, test: str = TEST) -> Path:
    place = folder / "Toy"
    place.mkdir(exist_ok=True)
    (place / "Toy_TRAIN.ts").write_text(train)
    (place / "Toy_TEST.ts").write_text(test)
    return place


def test_a_problem(tmp_path: Path) -> None:
    """Labels are numbered in order; the mean is in front of short series, and for lost values.

    The set has the values of the file, and its scale normalises them.
    """
    place = write_toy(tmp_path)
    for folder in (tmp_path, place):
        data = load("time-series", folder, problem="Toy")
        assert (data.kind, data.sample, data.classes) == ("sequence", (4, 2), 2)
        assert data.train.labels.tolist() == [1, 0]
        first = np.array([1, 2, 3, 4.0])
        second = np.array([10, 20, 30, 40, 50.0])
        assert data.train.images[0].tolist() == [[2.5, 30], [1, 10], [2, 20], [3, 30]]
        assert data.train.images[1].tolist() == [[2.5, 30], [2.5, 30], [4, 40], [2.5, 50]]
        x, _ = next(data.batches(data.train, 2))
        one = (np.array([1, 2, 3]) - first.mean()) / first.std()
        two = (np.array([10, 20, 30]) - second.mean()) / second.std()
        assert np.allclose(x[:, 0, 0], [0, *one], atol=1e-6)
        assert np.allclose(x[:, 0, 1], [0, *two], atol=1e-6)
        assert np.allclose(x[:, 1, 0], [0, 0, (4 - first.mean()) / first.std(), 0], atol=1e-6)
        x, labels = next(data.batches(data.test, 2))
        assert labels.tolist() == [0]
        assert np.allclose(x[:, 0, 1], (1 - second.mean()) / second.std(), atol=1e-6)


def test_a_constant_dimension_has_deviation_one(tmp_path: Path) -> None:
    """The mean of equal values in float32 differs from them, and test inputs were 9e6."""
    values = ",".join(["0.1"] * 27)
    write_toy(tmp_path, f"{HEAD}{values}:{values}:a\n", f"{HEAD}1,2:0.1,?:a\n")
    data = load("time-series", tmp_path, problem="Toy")
    mean, std = data.scale
    assert mean.tolist() == [np.float32(0.1)] * 2
    assert std.tolist() == [1, 1]
    x, _ = next(data.batches(data.test, 1))
    assert np.allclose(x[-2:, 0, 0], [0.9, 1.9])
    assert not x[:, 0, 1].any()
    write_toy(tmp_path, f"{HEAD}1,2:?,?:a\n", f"{HEAD}1,2:5,?:a\n")  # without values it is 0
    data = load("time-series", tmp_path, problem="Toy")
    assert [part.tolist() for part in data.scale] == [[1.5, 0], [0.5, 1]]
    x, _ = next(data.batches(data.test, 1))
    assert x[:, 0, 1].tolist() == [5, 0]


@given(
    st.lists(
        st.tuples(
            st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1),
            st.sampled_from(["0", "one", "-1.5"]),
        ),
        min_size=1, max_size=5,
    )
)  # fmt: skip
def test_reads_back_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, made: list[tuple[list[float], str]]
) -> None:
    path = tmp_path_factory.mktemp("ts") / "a.ts"
    lines = [f"{','.join(map(repr, values))}:{label}" for values, label in made]
    path.write_text("@DATA\n" + "\n".join(lines))
    found = read_ts(path)
    assert found.labels == tuple(label for _, label in made)
    for values, (wanted, _) in zip(found.values, made, strict=True):
        assert np.array_equal(values, np.array(wanted, np.float32)[:, None])


TOOL = """
a.ts
     >> no series in it >> lines after @data
    @data >> no series in it >> lines after @data
    @data/x,y:a >> line 2 is not a series >> dimensions of one length
    @data/1,2:1:a >> line 2 is not a series >> dimensions of one length
    @data/a >> line 2 is not a series >> dimensions of one length
    @targetlabel true/@data/1:2.5 >> labels are numbers to predict >> classes
    @classLabel false/@data/1:2.5 >> series have no labels >> classes
    @data/1,2:1,2:a//1,2:a >> line 4 is not a series >> as in the first series
    \udcff >> cannot be read: >> >> Get the file again.
"""


def test_broken_files_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = Path("a.ts")

    def read(text: str) -> None:
        path.write_text(text.replace("/", "\n"), errors="surrogateescape")
        read_ts(path)

    assert_refused(TOOL.replace("\n     >>", "\n    / >>"), {}, ToolError, read)


def test_problems_that_are_not_there(tmp_path: Path) -> None:
    """Also splits that do not fit."""
    where, remedy = "data: time-series", "Run pip install --no-deps aeon"
    with refused(ToolError, where, f"{tmp_path}/none does not exist", remedy=remedy):
        load("time-series", tmp_path / "none")
    with refused(ToolError, where, f"{tmp_path} and the folders in it hold no", remedy=remedy):
        load("time-series", tmp_path)
    place = write_toy(tmp_path, test="@data\n1:2:c\n")
    test = place / "Toy_TEST.ts"
    with refused(ModelError, f"{where}: {tmp_path}", "no problem 'Toi'", "Toy", "mean 'Toy'?"):
        load("time-series", tmp_path, problem="Toi")
    with refused(ToolError, test, "label 'c' is not a training label", "a, b"):
        load("time-series", tmp_path, problem="Toy")
    test.write_text("@data\n1:a\n")
    with refused(ToolError, place, "2 training dimensions, 1 in test", "equal numbers"):
        load("time-series", tmp_path, problem="Toy")


AEON = {
    "JapaneseVowels": (270, 370, (29, 12), 9), "BasicMotions": (40, 40, (100, 6), 4),
    "OSULeaf": (200, 242, (427, 1), 6), "GunPoint": (50, 150, (150, 1), 2),
    "PickupGestureWiimoteZ": (50, 50, (361, 1), 10),
}  # fmt: skip


@pytest.mark.parametrize("problem", AEON)
def test_problems_of_the_package(problem: str) -> None:
    """Where aeon is installed: the sizes that the archive states."""
    if importlib.util.find_spec("aeon") is None:
        pytest.skip("aeon is not installed")
    data = load("time-series", problem=problem)
    found = len(data.train), len(data.test), data.sample, data.classes
    assert found == AEON[problem]
    x, _ = next(data.batches(data.train, 1000))
    assert bool(torch.isfinite(x).all())
