"""SHD and SSC, on made files of the published layout."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lnm_codegen import train
from lnm_codegen.cli import run as command
from lnm_codegen.errors import ToolError
from lnm_codegen.train.data.dataset import unpadded
from tests.refusals import assert_refused

h5py: Any = pytest.importorskip("h5py", reason="h5py is not installed")

RECORDINGS = [
    ([0.0, 0.001, 0.0101, 0.9], [0, 4, 5, 699], 3),
    ([0.0205, 0.0206, 0.021, 1.399], [10, 11, 12, 350], 19),
    ([], [], 0),
    ([0.5, 1.7], [699, 1], 7),  # the second after the end
]


def write(path: Path, recordings: Any, **changes: Any) -> Path:
    """Write a file as the published ones: arrays of floats and of integers for each recording."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for word, part, kind in (("times", 0, np.float32), ("units", 1, np.uint16)):
            own = changes.get(word, [r[part] for r in recordings])
            kept = file.create_dataset(f"spikes/{word}", (len(own),), h5py.vlen_dtype(kind))
            for k, values in enumerate(own):
                kept[k] = np.asarray(values, kind)
        labels = changes.get("labels", [r[2] for r in recordings])
        file["labels"] = np.asarray(labels, changes.get("kind", np.uint16))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for word in ("train", "test"):
        write(tmp_path / f"shd_{word}.h5", RECORDINGS)
    for word in ("train", "valid", "test"):
        write(tmp_path / "SSC" / f"ssc_{word}.h5", RECORDINGS[: {"valid": 2, "test": 1}.get(word)])
    return tmp_path


def test_frames_count_spikes(folder: Path) -> None:
    data = train.load("shd", folder)
    assert (data.sample, data.classes, data.padded, data.is_held_out) == (
        (140, 140),
        20,
        True,
        False,
    )
    x, labels = next(data.batches(data.train, 4))
    assert labels.tolist() == [3, 19, 0, 7]
    frames, lengths = unpadded(x)
    assert lengths.tolist() == [90, 140, 1, 51]  # 0.9 is less in float32
    for k, (times, units, _) in enumerate(RECORDINGS):
        expected = torch.zeros(140, 140)
        for time, unit in zip(times, units, strict=True):
            if time < 1.4:
                expected[int(np.floor(float(np.float32(time)) / 0.01)), unit // 5] += 1
        assert torch.equal(frames[:, k], expected)
    assert frames[2, 1, 2] == 3
    narrow = train.load("shd", folder, step_ms=4.0, merge=1, duration=1.0, limit=2)
    assert (narrow.sample, len(narrow.train)) == ((250, 700), 2)
    assert unpadded(next(narrow.batches(narrow.train, 2))[0])[1].tolist() == [225, 6]


def test_ssc_has_a_validation_split(folder: Path) -> None:
    data = train.load("ssc", folder)
    assert (data.classes, data.sample, data.is_held_out) == (35, (100, 140), True)
    assert (len(data.train), len(data.test), len(data.with_test().test)) == (4, 2, 1)


@pytest.mark.parametrize("network", ["feedforward", "recurrent"])
def test_a_run(
    folder: Path, tmp_path: Path, network: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run folder is read again; fixed point refuses its samples before anything is written."""
    config = train.TrainConfig(
        family="lif", network=network, network_arguments={"hidden": (8,)}, epochs=2, batch=2,
        data="shd", data_dir=str(folder), data_arguments={"step_ms": 20.0}, backend="torch",
    )  # fmt: skip
    result = train.run(config, out=tmp_path / "run")
    assert np.isfinite(result.epochs[-1].loss)
    assert train.load_run(tmp_path / "run").data.padded
    for verb in ("arrays", "quantize"):
        given = ["--mismatch", "0.01"] if verb == "quantize" else []
        assert command([verb, str(tmp_path / "run"), "--out", str(tmp_path / "out"), *given]) == 2
        assert "the samples of shd have different lengths" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_wrong_files_are_one_line(folder: Path) -> None:
    def made(name: str, recordings: Any = RECORDINGS, **changes: Any) -> Path:
        place = folder / name
        write(place / "shd_test.h5", RECORDINGS)
        write(place / "shd_train.h5", recordings, **changes)
        return place

    packed, text = folder / "packed", made("text")
    packed.mkdir()
    (packed / "shd_train.h5.gz").write_bytes(gzip.compress(b"1"))
    (text / "shd_train.h5").write_text("no HDF5")
    bare = made("bare")
    with h5py.File(bare / "shd_train.h5", "w") as file:
        file["labels"] = [1]
    late, loud = made("late", [([-0.1], [3], 1)]), made("loud", [([0.1], [700], 1)])
    odd = made("odd", [([0.1, 0.2], [3], 1)])

    def first(place: Path) -> Any:
        data = train.load("shd", place)
        return next(data.batches(data.train, 1))

    names = {
        "load": lambda place, **o: train.load("shd", place, **o), "first": first, "folder": folder,
        "none": folder / "SSC", "packed": packed, "text": text, "bare": bare, "late": late,
        "loud": loud, "odd": odd, "label": made("label", labels=[20, 1, 1, 1]),
        "real": made("real", kind=np.float32), "few": made("few", labels=[1, 1]),
    }  # fmt: skip
    assert_refused(
        """
*
    load(none) >> holds no files of this set >> shd_train.h5, shd_test.h5
    load(packed) >> is compressed >>  >> gunzip
    load(text) >> file signature
    load(bare) >> an array is missing >> spikes/times, spikes/units and labels
    load(few) >> 4 times, 4 units, 2 labels >> equal numbers
    load(label) >> labels are from 1 to 20 >> 0 to 19
    load(real) >> labels are float32 >> integers
    first(late) >> a time is negative
    first(loud) >> units are from 700 to 700 >> 0 to 699
    first(odd) >> times are (2,), units (1,) >> arrays of one length
""",
        names,
        ToolError,
    )
    assert_refused(
        """
data: shd
    load(folder, step_ms=0) >> step_ms
    load(folder, merge=701) >> merge
    load(folder, colour=1) >> 'colour'
""",
        names,
    )
