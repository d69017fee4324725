"""Resuming: an interrupted run has the numbers of an uninterrupted one."""

from __future__ import annotations

import csv
import itertools
import shutil
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
from lnm_codegen.train import Dataset, TrainConfig, load_run, run
from lnm_codegen.train.runs.config import DEFINITION, read_json
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
from tests.train.small import ROWS, SMALL, kept, metrics

HERE = Path(__file__).parent
CONFIG = replace(
    SMALL, epochs=3, ema=0.9, penalty=1.0, warmup=1,
    arguments={"degree": 3, "per": "channel", "surrogate": {"kind": "sigmoid", "alpha": 3.0}},
)  # fmt: skip
SAFE = ("model.safetensors", "history.safetensors", CHECKPOINT)


class Killed(BaseException):
    pass


def content(folder: Path) -> dict[str, Any]:
    """Return what must be bit-exact; only the times differ."""
    tensors = {
        name: {k: v.numpy().tobytes() for k, v in load_file(folder / name).items()} for name in SAFE
    }
    return {"metrics": [{**row, "seconds": ""} for row in metrics(folder)], **tensors}


def killed_and_resumed(config: TrainConfig, folder: Path, data: Dataset, calls: int) -> int:
    """Let a run die after some writes, resume it, and return its epochs when it died."""
    done = itertools.count(1)

    def write(path: Path, text: str | bytes) -> None:
        if next(done) > calls:
            raise Killed
        write_whole(path, text)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lnm_codegen.train.runs.folder.write_whole", write)
        with pytest.raises(Killed):
            run(config, folder, data=data)
    epochs = len(metrics(folder)) if (folder / "metrics.csv").exists() else 0
    run(config, folder, data=data, resume=True)
    return epochs


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, digits: Dataset) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "run"
    run(CONFIG, folder, data=digits)
    return folder


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(whole, tmp_path / "run"))


@pytest.mark.parametrize(
    "calls", [5, 11, *(pytest.param(k, marks=pytest.mark.slow) for k in (1, 7))]
)
def test_a_run_that_dies_at_any_write(
    calls: int, whole: Path, tmp_path: Path, digits: Dataset
) -> None:
    """Each file is renamed into place, so a death between two of them is as good as any."""
    killed_and_resumed(CONFIG, tmp_path / "cut", digits, calls)
    assert content(tmp_path / "cut") == content(whole)


@pytest.mark.slow
def test_a_run_with_momentum_that_dies(tmp_path: Path, digits: Dataset) -> None:
    config = replace(CONFIG, optimizer="sgd")
    run(config, tmp_path / "whole", data=digits)
    for calls in (1, 5, 7, 11):
        killed_and_resumed(config, tmp_path / str(calls), digits, calls)
        assert content(tmp_path / str(calls)) == content(tmp_path / "whole")


def test_a_run_that_is_complete_trains_no_more(folder: Path, digits: Dataset) -> None:
    before = content(folder)
    assert len(run(CONFIG, folder, data=digits, resume=True).epochs) == 3
    assert content(folder) == before


def test_resuming_is_refused(folder: Path, digits: Dataset) -> None:
    """Another config; a checkpoint that is damaged, of another network, or missing."""
    path, config = folder / CHECKPOINT, CONFIG

    def resumed() -> None:
        run(config, folder, data=digits, resume=True)

    config = replace(CONFIG, lr=0.5)
    problem = f"{folder} holds a run whose lr is 0.01, not 0.5"
    with kept(folder, "train", problem, "", "Resume it with its own config"):
        resumed()
    config, whole = CONFIG, path.read_bytes()
    tensors, facts = read_checkpoint(folder) or ({}, {})
    wrong = {k: v[:1] if k.startswith("network.") and v.dim() else v for k, v in tensors.items()}
    few = {k: v for k, v in facts.items() if k != "schedule"}
    other = ("train", "checkpoint.safetensors is of another network")
    without = (f"train: {path}", "the number of its last epoch is missing")
    force = "Replace the run with --force in place of --resume"
    for damaged, parts in (
        (whole[:100], (f"train: {path}", "incomplete checkpoint: ", "", force)),
        (packed(tensors, few), other),
        (packed(wrong, facts), other),
        (packed(tensors, {**facts, "epochs": 2}), other),
        (packed(tensors, []), without),  # type: ignore[arg-type]
        (packed(tensors, {"epoch": "2"}), without),
    ):  # fmt: skip
        path.write_bytes(damaged)
        with kept(folder, *parts):
            resumed()
    path.unlink()
    with kept(folder, "train", "holds a trained network, but no checkpoint.safetensors"):
        resumed()


def test_options_beside_resume_go_over_the_config_of_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, options = str(tmp_path / "run"), "--data digits-rows --network feedforward --limit 32"
    given = [*options.split(), "--backend", "torch", "--epochs", "2"]
    assert command(["train", *given, "--out", out]) == 0
    assert command(["train", "--resume", "--epochs", "2", "--out", out]) == 0
    assert "2 of 2 epochs are done" in capsys.readouterr().out
    assert command(["train", "--resume", "--epochs", "3", "--out", out]) == 2
    assert "holds a run whose epochs is 2, not 3. Resume it" in capsys.readouterr().err
    assert command(["train", "--resume", "--force", "--out", out]) == 2
    capsys.readouterr()
    none = tmp_path / "none"
    none.mkdir()
    assert command(["train", "--resume"]) == 2
    assert command(["train", "--resume", "--out", str(none)]) == 2
    assert capsys.readouterr().err == (
        "error: --resume: no run named. Name the folder of a run with --out.\n"
        f"error: --resume: {none} holds no run. Name the folder of a run with --out.\n"
    )


def test_a_run_of_separate_modules_resumes(tmp_path: Path, digits: Dataset) -> None:
    """fused=False: bit-exact, and its weights are those of a fused network."""
    fused = replace(CONFIG, epochs=2, warmup=0)
    config = replace(fused, network_arguments={**CONFIG.network_arguments, "fused": False})
    run(config, tmp_path / "whole", data=digits)
    killed_and_resumed(config, tmp_path / "cut", digits, 7)
    assert content(tmp_path / "cut") == content(tmp_path / "whole")
    plain = load_run(tmp_path / "cut", data=digits).network
    network = network_of(fused, digits)
    network.load_state_dict(plain.state_dict())
    for one, is_fused in ((plain, False), (network, True)):
        assert {isinstance(layer, NormNeuron) for layer in one.neurons} == {is_fused}
    x = next(iter(digits.batches(digits.test, 16)))[0]
    with torch.no_grad():
        torch.testing.assert_close(network.eval()(x), plain(x))


def test_the_interval_of_the_penalty_is_that_of_the_start(tmp_path: Path, rows: Dataset) -> None:
    """Its threshold is learned, and comes from another run. The resumed run once had another."""
    arguments = {"theta": (0.0, 0.9, 0.2, 0.6), "learn_threshold": True}
    given: dict[str, Any] = {"family": "lnm", "arguments": arguments, "v_min": -0.1}
    source = replace(ROWS, **given, lr_neuron=0.05, epochs=2)
    run(source, tmp_path / "source", data=rows)
    config = replace(source, penalty=5.0, neurons_from=tmp_path / "source")
    run(config, tmp_path / "whole", data=rows)
    assert killed_and_resumed(config, tmp_path / "cut", rows, 5) == 1
    assert content(tmp_path / "cut") == content(tmp_path / "whole")


def test_files_of_killed_writes_are_no_run(tmp_path: Path, rows: Dataset) -> None:
    """A run that was killed in its first write begins again; a resumed one sweeps."""
    folder, other = tmp_path / "run", tmp_path / "other"
    folder.mkdir()
    other.mkdir()
    (folder / ".config.json.ab12_xyz").write_text("{")
    run(ROWS, folder, data=rows, resume=True)
    written = {*FILES} - {DEFINITION}
    assert {p.name for p in folder.iterdir()} == written
    kept_ = (".notes", ".config.json.swp")  # the second is of an editor
    for name in (f".{CHECKPOINT}.ab12_xyz", *kept_):
        (folder / name).write_text("")
    run(ROWS, folder, data=rows, resume=True)
    assert {p.name for p in folder.iterdir()} == {*written, *kept_}
    (other / ".notes").write_text("")
    with refused(ModelError, "train", f"{other} is not empty"):
        run(ROWS, other, data=rows)


def test_one_run_at_a_time_in_a_folder(tmp_path: Path, rows: Dataset) -> None:
    """A second one deleted the temporary file of the first, which died of it."""
    folder = tmp_path / "a" / "run"
    for how in ({"resume": True}, {"force": True}, {}):
        with claimed(folder):
            live = folder / f".{CHECKPOINT}.ab12_xyz"
            live.touch()
            problem = f"another run is writing into {folder}"
            with refused(ModelError, "train", problem, remedy="Wait until it ends"):
                run(ROWS, folder, data=rows, **how)
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


def test_an_old_run_loads_and_resumes(tmp_path: Path) -> None:
    """A folder written at commit 06c9ac1, stopped after epoch 2 of 4, beside all its metrics.

    Epochs 1 and 2 keep their bytes; 3 and 4 agree to 1e-4, as machines round differently. Their
    losses are of that commit. Their other values are of today's moving average.
    """
    old = load_run(HERE / "old_run")
    assert (old.config.epochs, len(old.network.neurons)) == (4, 2)
    copy = Path(shutil.copytree(HERE / "old_run", tmp_path / "run"))
    assert command(["train", "--resume", "--out", str(copy)]) == 0
    lines = (copy / "metrics.csv").read_text().splitlines()
    assert lines[:3] == (HERE / "old_run" / "metrics.csv").read_text().splitlines()
    whole = list(csv.DictReader((HERE / "old_run_metrics.csv").read_text().splitlines()))
    assert [row["epoch"] for row in metrics(copy)] == ["1", "2", "3", "4"]
    for a, b in zip(metrics(copy), whole, strict=True):
        assert a.keys() == b.keys()
        for name in a.keys() - {"seconds"}:
            assert float(a[name]) == pytest.approx(float(b[name]), rel=1e-4), (a["epoch"], name)
    assert load_run(copy).config == old.config


def test_a_surrogate_object_needs_the_config_of_the_run(tmp_path: Path, rows: Dataset) -> None:
    """config.json has a record of it. The error was "no surrogate None"."""
    config = replace(ROWS, arguments={"surrogate": lnm.surrogate.sigmoid(3.0)})
    run(config, tmp_path, data=rows)
    problem = "the surrogate 'sigmoid' was given as an object, which no file holds"
    with refused(ModelError, "train", problem, remedy="Resume the run in Python, with the config"):
        run(read_json(tmp_path / "config.json", ""), tmp_path, resume=True)
    assert command(["train", "--resume", "--out", str(tmp_path)]) == 2
    run(config, tmp_path, data=rows, resume=True)
