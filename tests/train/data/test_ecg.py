"""ECG-QTDB: labels at each step, from .mat files of the published form."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.io import savemat

from lnm_codegen.errors import ToolError
from lnm_codegen.train.data import load
from tests.refusals import refused

STEPS = 7


def write_ecg(folder: Path, train: int = 5, test: int = 3) -> dict[str, np.ndarray]:
    """Write both files; the last step has no label. Return the training arrays."""
    rng = np.random.default_rng(0)
    for word, count in (("test", test), ("train", train)):
        classes = rng.integers(0, 6, (count, STEPS))
        y = np.eye(6, dtype=np.uint8)[classes]
        y[:, -1] = 0
        x = rng.integers(-1, 2, (count, STEPS, 4)).astype(np.int16)
        savemat(folder / f"QTDB_{word}.mat", {"x": x, "y": y, "t": classes})
    return {"x": x, "classes": classes}


def test_labels_per_step(tmp_path: Path) -> None:
    """x (T, N, 4) as it is and labels (T, N); a step without a label is class 0, or ignored."""
    made = write_ecg(tmp_path)
    data = load("ecg-qtdb", tmp_path)
    assert (data.kind, data.sample, data.per_step, data.classes) == ("sequence", (7, 4), True, 6)
    x, labels = next(data.batches(data.train, 5))
    assert np.array_equal(x.numpy(), made["x"].transpose(1, 0, 2))
    assert np.array_equal(labels[:-1].numpy(), made["classes"].T[:-1])
    assert labels[-1].tolist() == [0] * 5
    ignored = load("ecg-qtdb", tmp_path, unlabelled="ignore")
    _, labels = next(ignored.batches(ignored.train, 5))
    assert labels[-1].tolist() == [-100] * 5
    assert torch.equal(
        data.held_out(2).test.labels[:, :-1], ignored.held_out(2).test.labels[:, :-1]
    )


def test_missing_files(tmp_path: Path) -> None:
    problem, layout = (
        f"{tmp_path} holds no files of this set",
        "QTDB_train.mat and QTDB_test.mat in",
    )
    with refused(ToolError, "data: ecg-qtdb", problem, layout, "with --data-dir"):
        load("ecg-qtdb", tmp_path)


def test_malformed_files_are_one_line(tmp_path: Path) -> None:
    write_ecg(tmp_path)
    path = tmp_path / "QTDB_train.mat"
    whole = path.read_bytes()
    for broken in (b"", b"MATLAB", whole[:200], whole[: len(whole) // 3]):
        path.write_bytes(broken)
        with refused(ToolError, path, remedy="Get the file again."):
            load("ecg-qtdb", tmp_path)
    arrays = {"x": np.zeros((2, 3, 4)), "y": np.zeros((2, 4, 6))}
    sizes = "(beats, T, channels) and (beats, T, 6)"
    for content, *parts in (
        (arrays, "x is (2, 3, 4) and y is (2, 4, 6)", sizes),
        ({**arrays, "x": "text"}, "'x' holds <U4", "numbers"),
        ({"y": arrays["y"]}, "no array 'x' in it", "", "Get the file again."),
    ):
        savemat(path, content)
        with refused(ToolError, path, *parts):
            load("ecg-qtdb", tmp_path)


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_ecg(tmp_path)
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    with refused(ToolError, "data: ecg-qtdb", "SciPy is not installed", "", "[train]"):
        load("ecg-qtdb", tmp_path)
