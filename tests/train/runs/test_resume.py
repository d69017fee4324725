"""Resuming: an interrupted run has the numbers of an uninterrupted one."""

from __future__ import annotations

import csv
import itertools
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import lnm_codegen as lnm
from lnm_codegen.cli import run as command
from lnm_codegen.errors import ModelError
from lnm_codegen.files import write_whole
from lnm_codegen.nn import NormNeuron
from lnm_codegen.train import Dataset, TrainConfig, load, load_run, run
from lnm_codegen.train.runs.config import DEFINITION, neuron_of, read_json
from lnm_codegen.train.runs.folder import (
    CHECKPOINT,
    FILES,
    LOCK,
    claimed,
    packed,
    read_checkpoint,
    require_free,
)
from lnm_codegen.train.runs.origin import network_of
from tests.refusals import refused
from tests.train.runs.test_runner import metrics

CONFIG = TrainConfig(
    arguments={"degree": 3, "per": "channel", "surrogate": {"kind": "sigmoid", "alpha": 3.0}},
    network_arguments={"channels": (3, 3)}, epochs=4, batch=16, limit=48, backend="torch",
    threads=1, ema=0.9, penalty=1.0, warmup=1,
)  # fmt: skip
SAME = ("metrics.csv", "model.safetensors", "history.safetensors", CHECKPOINT)


@pytest.fixture(scope="module")
def data() -> Dataset:
    return load("digits", limit=48)


def content(folder: Path) -> dict[str, Any]:
    """Return what must be bit-exact; only the times differ."""
    rows = [{**row, "seconds": ""} for row in metrics(folder)]
    tensors = {
        name: {k: v.numpy().tobytes() for k, v in load_file(folder / name).items()}
        for name in SAME
        if name.endswith(".safetensors")
    }
    return {"metrics": rows, **tensors}


class Killed(BaseException):
    pass


@pytest.mark.parametrize("optimizer", ["adam", pytest.param("sgd", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "call", [5, 14, *(pytest.param(k, marks=pytest.mark.slow) for k in (1, 7))]
)
def test_a_run_that_dies_at_any_write(
    call: int, optimizer: str, tmp_path: Path, data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each file is renamed into place, so a death between two of them is as good as any."""
    config = replace(CONFIG, optimizer=optimizer)
    run(config, tmp_path / "whole", data=data)
    monkeypatch.setattr("lnm_codegen.train.runs.folder.write_whole", _dying(call))
    with pytest.raises(Killed):
        run(config, tmp_path / "cut", data=data)
    monkeypatch.undo()
    run(config, tmp_path / "cut", data=data, resume=True)
    assert content(tmp_path / "cut") == content(tmp_path / "whole")


def _dying(call: int) -> Any:
    """Return `write_whole`, which raises Killed after `call` calls."""
    done = itertools.count(1)

    def write(path: Path, data: str | bytes) -> None:
        if next(done) > call:
            raise Killed
        write_whole(path, data)

    return write


@pytest.fixture
def killed(tmp_path: Path) -> Path:
    """Return the folder of a run that signal 9 killed after some epoch."""
    folder = tmp_path / "cut"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-m", "lnm_codegen.cli", *_options(folder)]
    process = subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while len(metrics(folder)) < 2 if (folder / "metrics.csv").exists() else True:
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    return folder


def _options(folder: Path) -> list[str]:
    words = "train --degree 2 --epochs 12 --channels 3 --limit 200 --backend torch --threads 1"
    return [*words.split(), "--train", "ema=0.9", "--out", str(folder)]


@pytest.mark.slow
def test_kill_9(killed: Path, tmp_path: Path) -> None:
    """The command line: `--resume --out` alone resumes, bit-exact."""
    assert 2 <= len(metrics(killed)) < 12
    assert command(["train", "--resume", "--out", str(killed)]) == 0
    assert command(_options(tmp_path / "whole")) == 0
    assert content(killed) == content(tmp_path / "whole")


def test_a_run_that_is_complete_trains_no_more(tmp_path: Path, data: Dataset) -> None:
    first = run(CONFIG, tmp_path / "run", data=data)
    before = content(tmp_path / "run")
    again = run(CONFIG, tmp_path / "run", data=data, resume=True)
    assert again.epochs == first.epochs
    assert content(tmp_path / "run") == before


def test_resume_where_there_is_nothing_begins(tmp_path: Path, data: Dataset) -> None:
    assert len(run(CONFIG, tmp_path / "run", data=data, resume=True).epochs) == 4


def test_another_config_is_refused(tmp_path: Path, data: Dataset) -> None:
    run(replace(CONFIG, epochs=2), tmp_path / "run", data=data)
    problem = f"{tmp_path}/run holds a run whose lr is 0.01, not 0.5"
    with refused(ModelError, "train", problem, remedy="Resume it with its own config"):
        run(replace(CONFIG, epochs=2, lr=0.5), tmp_path / "run", data=data, resume=True)


def test_a_damaged_checkpoint(tmp_path: Path, data: Dataset) -> None:
    config = replace(CONFIG, epochs=2)
    run(config, tmp_path / "run", data=data)
    path = tmp_path / "run" / CHECKPOINT
    path.write_bytes(path.read_bytes()[:100])
    remedy = "Replace the run with --force in place of --resume"
    with refused(ModelError, f"train: {path}", "incomplete checkpoint: ", remedy=remedy):
        run(config, tmp_path / "run", data=data, resume=True)


def test_a_checkpoint_of_another_network(tmp_path: Path, data: Dataset) -> None:
    """A readable one that lacks something, or has it in another shape, is refused in one line."""
    config = replace(CONFIG, epochs=2)
    run(config, tmp_path / "run", data=data)
    tensors, facts = read_checkpoint(tmp_path / "run") or ({}, {})
    wrong = {k: v[:1] if k.startswith("network.") and v.dim() else v for k, v in tensors.items()}
    few = {k: v for k, v in facts.items() if k != "schedule"}
    path = tmp_path / "run" / CHECKPOINT
    for content_ in ((tensors, few), (wrong, facts), (tensors, {**facts, "epochs": 3})):
        path.write_bytes(packed(*content_))
        with refused(ModelError, "train", "checkpoint.safetensors is of another network"):
            run(config, tmp_path / "run", data=data, resume=True)
    for facts_ in ([], {"epoch": "2"}):
        path.write_bytes(packed(tensors, facts_))
        with refused(ModelError, f"train: {path}", "the number of its last epoch is missing"):
            run(config, tmp_path / "run", data=data, resume=True)


def test_a_network_without_its_checkpoint_is_not_trained_over(
    tmp_path: Path, data: Dataset
) -> None:
    config = replace(CONFIG, epochs=2)
    run(config, tmp_path / "run", data=data)
    (tmp_path / "run" / CHECKPOINT).unlink()
    before = (tmp_path / "run" / "model.safetensors").read_bytes()
    problem = "holds a trained network, but no checkpoint.safetensors"
    with refused(ModelError, "train", problem):
        run(config, tmp_path / "run", data=data, resume=True)
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == before


def test_options_beside_resume_go_over_the_config_of_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "run")
    options = ["--data", "digits-rows", "--network", "feedforward", "--limit", "32"]
    options += ["--backend", "torch", "--epochs", "2"]
    assert command(["train", *options, "--out", out]) == 0
    assert command(["train", "--resume", "--epochs", "2", "--out", out]) == 0
    assert "2 of 2 epochs are done" in capsys.readouterr().out
    assert command(["train", "--resume", "--epochs", "3", "--out", out]) == 2
    assert "holds a run whose epochs is 2, not 3. Resume it" in capsys.readouterr().err
    assert command(["train", "--resume", "--force", "--out", out]) == 2


def test_resume_needs_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(["train", "--resume"]) == 2
    assert command(["train", "--resume", "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err == (
        "error: --resume: no run named. Name the folder of a run with --out.\n"
        f"error: --resume: {tmp_path} holds no run. Name the folder of a run with --out.\n"
    )


def test_a_run_of_separate_modules_resumes(
    tmp_path: Path, data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """fused=False: bit-exact, and its weights are those of a fused network."""
    options = {**CONFIG.network_arguments, "fused": False}
    config = replace(CONFIG, network_arguments=options)
    run(config, tmp_path / "whole", data=data)
    monkeypatch.setattr("lnm_codegen.train.runs.folder.write_whole", _dying(7))
    with pytest.raises(Killed):
        run(config, tmp_path / "cut", data=data)
    monkeypatch.undo()
    run(config, tmp_path / "cut", data=data, resume=True)
    assert content(tmp_path / "cut") == content(tmp_path / "whole")
    plain = load_run(tmp_path / "cut", data=data).network
    assert not any(isinstance(layer, NormNeuron) for layer in plain.neurons)
    fused = network_of(CONFIG, data, neuron_of(CONFIG))
    fused.load_state_dict(plain.state_dict())
    assert all(isinstance(layer, NormNeuron) for layer in fused.neurons)
    x = next(iter(data.batches(data.test, 16)))[0]
    with torch.no_grad():
        torch.testing.assert_close(fused.eval()(x), plain(x))


def test_the_interval_of_the_penalty_is_that_of_the_start(
    tmp_path: Path, data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its threshold is learned, and comes from another run. The resumed run once had another."""
    arguments = {"theta": (0.0, 0.9, 0.2, 0.6), "learn_threshold": True}
    source = replace(
        CONFIG, arguments=arguments, v_min=-0.1, lr_neuron=0.05, epochs=2, ema=0.0, warmup=0
    )
    run(source, tmp_path / "source", data=data)
    config = replace(source, penalty=5.0, neurons_from=tmp_path / "source")
    run(config, tmp_path / "whole", data=data)
    monkeypatch.setattr("lnm_codegen.train.runs.folder.write_whole", _dying(5))
    with pytest.raises(Killed):
        run(config, tmp_path / "cut", data=data)
    monkeypatch.undo()
    assert len(metrics(tmp_path / "cut")) == 1
    run(config, tmp_path / "cut", data=data, resume=True)
    assert content(tmp_path / "cut") == content(tmp_path / "whole")


def test_files_of_killed_writes_are_no_run(tmp_path: Path, data: Dataset) -> None:
    """A run that was killed in its first write begins again; a resumed one sweeps."""
    config, folder = replace(CONFIG, epochs=2), tmp_path / "run"
    folder.mkdir()
    (folder / ".config.json.ab12_xyz").write_text("{")
    run(config, folder, data=data, resume=True)
    written = {*FILES} - {DEFINITION}
    assert {p.name for p in folder.iterdir()} == written
    kept = (".notes", ".config.json.swp")  # the second is of an editor
    for name in (f".{CHECKPOINT}.ab12_xyz", *kept):
        (folder / name).write_text("")
    run(config, folder, data=data, resume=True)
    assert {p.name for p in folder.iterdir()} == {*written, *kept}
    other = tmp_path / "other"
    other.mkdir()
    (other / ".notes").write_text("")
    with refused(ModelError, "train", f"{other} is not empty"):
        run(config, other, data=data)


@pytest.mark.parametrize("how", [{"resume": True}, {"force": True}, {}])
def test_one_run_at_a_time_in_a_folder(how: dict[str, bool], tmp_path: Path, data: Dataset) -> None:
    """A second one deleted the temporary file of the first, which died of it."""
    folder = tmp_path / "a" / "run"
    with claimed(folder):
        live = folder / f".{CHECKPOINT}.ab12_xyz"
        live.touch()
        problem = f"another run is writing into {folder}"
        with refused(ModelError, "train", problem, remedy="Wait until it ends"):
            run(CONFIG, folder, data=data, **how)
        assert live.exists()
        live.unlink()
    assert not list(tmp_path.iterdir())


def test_a_lock_that_is_left_is_not_in_the_way(tmp_path: Path) -> None:
    """A killed run leaves one; the folder counts as empty, and stays."""
    (tmp_path / LOCK).touch()
    require_free(tmp_path)
    with claimed(tmp_path):
        pass
    assert not list(tmp_path.iterdir())


HERE = Path(__file__).parent
"""old_run: a run folder written at commit 06c9ac1, stopped after epoch 2 of 4.
old_run_metrics.csv: the metrics of the same run, uninterrupted."""


def test_an_old_run_loads_and_resumes(tmp_path: Path) -> None:
    """Epochs 1 and 2 keep their bytes; 3 and 4 agree to 1e-4, as machines round differently."""
    old = load_run(HERE / "old_run")
    assert old.config.epochs == 4
    assert len(old.network.neurons) == 2
    copy = tmp_path / "run"
    shutil.copytree(HERE / "old_run", copy)
    assert command(["train", "--resume", "--out", str(copy)]) == 0
    lines = (copy / "metrics.csv").read_text().splitlines()
    assert lines[:3] == (HERE / "old_run" / "metrics.csv").read_text().splitlines()
    whole = list(csv.DictReader((HERE / "old_run_metrics.csv").read_text().splitlines()))
    found = metrics(copy)
    assert [row["epoch"] for row in found] == ["1", "2", "3", "4"]
    for a, b in zip(found, whole, strict=True):
        assert a.keys() == b.keys()
        for name in a.keys() - {"seconds"}:
            assert float(a[name]) == pytest.approx(float(b[name]), rel=1e-4), (a["epoch"], name)
    assert load_run(copy).config == old.config


def test_a_surrogate_object_needs_the_config_of_the_run(tmp_path: Path, data: Dataset) -> None:
    """config.json has a record of it. The error was "no surrogate None"."""
    arguments = {"surrogate": lnm.surrogate.sigmoid(3.0)}
    config = replace(
        CONFIG, family="lif", arguments=arguments, limit=16, epochs=1, warmup=0, penalty=0.0
    )
    run(config, tmp_path, data=data)
    problem = "the surrogate 'sigmoid' was given as an object, which no file holds"
    with refused(ModelError, "train", problem, remedy="Resume the run in Python, with the config"):
        run(read_json(tmp_path / "config.json", ""), tmp_path, resume=True)
    assert command(["train", "--resume", "--out", str(tmp_path)]) == 2
    run(config, tmp_path, data=data, resume=True)
