"""Experiments: their plans, and the scripts that read and repeat their runs."""

from __future__ import annotations

import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lnm_codegen.train.comparison.plan import PlannedRun
from lnm_codegen.train.comparison.queue import RunSelection
from lnm_codegen.train.progress import ProgressBar
from lnm_codegen.train.trainer import Trainer
from tests.train.data.image_files import write_cifar
from tests.train.small import stopped
from tests.train.test_comparison import FROZEN, TINY

FOLDER = Path(__file__).parent.parent / "experiments"
sys.path.insert(0, str(FOLDER))

import again  # noqa: E402
import dynamics  # noqa: E402
import energy  # noqa: E402
import places  # noqa: E402
import table  # noqa: E402


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "tiny.toml").write_text(TINY)
    monkeypatch.setattr(places, "FOLDER", tmp_path)
    monkeypatch.setattr(places, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(places, "RUNS", tmp_path / "runs")
    return tmp_path


def test_plans_are_read() -> None:
    """Every setting of every row makes a config, and rows have names of their own.

    The short plan of a GPU has the configs of the long one, but for epochs and warm-up.
    """
    for path in FOLDER.glob("*.toml"):
        plan = places.read_plan(path.stem)
        names = [row.name for row in plan.rows]
        assert len(set(names)) == len(names)
        assert plan.finals({row.name: 0 for row in plan.rows})
        searched = [len(row.settings) for row in plan.rows]
        ours = [len(row.settings) for row in plan.rows if "two states" in row.name]
        assert max(ours, default=max(searched)) == min(searched), "others have as many or more"
    short, whole = (
        {row.name: row.config for row in places.read_plan(name).rows}
        for name in ("gpu_cifar10_short", "gpu_cifar10")
    )
    assert len(short) == 2
    for name, config in short.items():
        longer = whole[name]
        assert replace(config, epochs=longer.epochs, warmup=longer.warmup) == longer
    with pytest.raises(
        SystemExit, match=r"^experiments: no plan 'nope'\. Accepted: cifar10, curvature, "
    ):
        places.read_plan("nope")


@pytest.mark.slow
def test_the_tables_of_the_runs(folder: Path) -> None:
    """Of accuracies, energy and dynamics."""
    assert table.table("tiny", "LIF, hard") == ["No row of tiny has been run."]
    runs = places.runs("tiny")
    runs.work(RunSelection(), progress=False)
    found = runs.results.read()
    lines = table.table("tiny", "LIF, hard")
    assert len(lines) == 2 + 5 + 2
    best = max((r for r in found if r.phase == "search"), key=lambda r: r.accuracy)
    said = lines[-1].removeprefix("Chosen on held-out samples. LNM: ").rstrip(".")
    assert said in ("LNM degree 1", "LNM degree 2")
    assert best.accuracy == max(r.accuracy for r in found if (r.row, r.phase) == (said, "search"))
    assert lines[2].startswith("| LIF, hard |  |  | 2 | ")
    assert lines[-3] == "| diverges | |  | n = 0, 2 failed | | | | | | | |"
    energy.count("tiny", "LIF, hard", None)
    counted = energy.table("tiny")
    assert len(counted) == 2 + 4
    assert counted[2].startswith("| LIF, hard | 2 | ")
    assert "+0.0 % (+0.0 neurons, +0.0 spikes)" in counted[2]
    dynamics.count("tiny", "LNM")
    assert dynamics.table("tiny")[2:] == [
        "| LNM degree 1 | 2 | leaky 2 of 2 |", "| LNM degree 2 | 2 | leaky 2 of 2 |"
    ]  # fmt: skip


@pytest.mark.slow
def test_runs_are_repeated(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a clone, which has the table and no run folders, with the run that a run begins with.

    A seed that the plan lacks is trained too, and no result is written.
    """
    (folder / "tiny.toml").write_text(TINY + FROZEN)
    places.runs("tiny").work(RunSelection("degree 1"), progress=False)
    places.runs("tiny").work(RunSelection("diverges"), progress=False)
    table_before = (folder / "results" / "tiny.csv").read_text()
    shutil.rmtree(folder / "runs")

    def said(*words: str) -> list[str]:
        sys.argv = ["again.py", "tiny", *words]
        capsys.readouterr()
        again.main()
        return capsys.readouterr().out.splitlines()

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ProgressBar, "on_epoch", stopped)
        with pytest.raises(KeyboardInterrupt):
            said("--row", "LNM degree 1", "--seed", "1")
    assert list((folder / "runs" / "tiny").glob("*/model.safetensors"))  # of one epoch of two
    energy.count("tiny", "LNM degree 1", None)
    dynamics.count("tiny", "LNM")
    assert len(energy.table("tiny")) == len(dynamics.table("tiny")) == 2
    for row in ("LNM degree 1, frozen", "LNM degree 1"):  # a whole name, though it begins another
        (line,) = said("--row", row, "--seed", "1")
        if row.endswith("frozen"):  # "...: accuracy, in the table accuracy"
            once_more, first = line.rpartition(": ")[2].split(", in the table ")
            assert once_more == first
        else:
            assert "not trained again, its run folder is complete" in line
    assert len(said("--row", "LNM", "--seed", "0")) == 2
    found = places.records("tiny")
    for row in ("LNM degree 1", "LNM degree 1, frozen"):
        mine = [r.accuracy for r in found if (r.row, r.phase) == (row, "final")]
        (line,) = said("--row", row, "--seed", "9")
        begins = f"tiny {row} seed 9: "
        assert line.startswith(begins)
        accuracy, _, rest = line.removeprefix(begins).partition("; ")
        assert rest.startswith("the table has n = 2, ")
        below = sum(round(100 * m, 1) < float(accuracy) for m in mine)
        assert rest.endswith(f"; {below} of them are below")
    (line,) = said("--row", "diverges", "--seed", "9")
    assert "seed 9: train: the gradient" in line
    assert (folder / "results" / "tiny.csv").read_text() == table_before
    for words in (("--row", "diverges"), ("--row", "LNM degree 2"), ("--seed", "9")):
        with pytest.raises(SystemExit):
            said(*words)
    with pytest.raises(SystemExit, match=r"^compare: tiny: no row 'nothing'"):
        said("--row", "nothing")


def narrow(job: PlannedRun, **changes: str) -> PlannedRun:
    """Return a job of the GPU plan with two epochs of two batches, in a narrow network."""
    config = replace(
        job.config, epochs=2, warmup=1, batch=8, limit=16, threads=1,
        network_arguments={**job.config.network_arguments, "width": 4}, **changes,
    )  # fmt: skip
    return replace(job, config=config)


@pytest.mark.parametrize("row", ["LIF", "LNM degree 2"])
@pytest.mark.parametrize(
    ("device", "backend"),
    [
        pytest.param("cpu", "c", marks=[pytest.mark.slow, pytest.mark.needs_cc]),
        pytest.param("cuda", "triton", marks=pytest.mark.needs_cuda),
    ],
)
def test_the_gpu_plan_resumes(
    device: str, backend: str, row: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run of gpu_cifar10.toml that stops in its second epoch goes on after the first."""
    write_cifar(tmp_path / "data", 10, "python", each=5)
    monkeypatch.setattr(places, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(places, "RUNS", tmp_path / "runs")
    runs = places.runs("gpu_cifar10", tmp_path / "data")
    plan = runs.plan
    (job,) = (
        narrow(j, device=device, backend=backend)
        for j in plan.finals({r.name: 0 for r in plan.rows})
        if j.row == f"resnet18, T = 2, {row}"
    )
    with stopped(Trainer, "step", 2):
        runs.do(job)
    assert runs.results.read() == []
    steps, step = [], Trainer.step

    def counted(trainer: Trainer, *batch: Any) -> Any:
        steps.append(trainer.epoch)
        return step(trainer, *batch)

    monkeypatch.setattr(Trainer, "step", counted)
    runs.do(job)
    assert steps == [1, 1]
    (found,) = runs.results.read()
    assert not found.values["failed"]
    assert 0 <= found.accuracy <= 1


@pytest.mark.slow
@pytest.mark.needs_cc
def test_the_gpu_plan_runs_on_a_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each network and neuron of gpu_cifar10.toml, two epochs of a few images, narrow, on a CPU.

    Everything else is as there: augmentation, TET, SGD with warm-up, bfloat16.
    """
    write_cifar(tmp_path / "data", 10, "python", each=5)
    monkeypatch.setattr(places, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(places, "RUNS", tmp_path / "runs")
    runs = places.runs("gpu_cifar10", tmp_path / "data")
    plan = runs.plan
    jobs = [j for j in plan.finals({r.name: 0 for r in plan.rows}) if "T = 2" in j.row]
    assert {j.config.network for j in jobs} == {"resnet18", "resnet19"}
    for job in jobs:
        runs.do(narrow(job, device="cpu", backend="c"))
    found = runs.results.read()
    assert [r.row for r in found] == [j.row for j in jobs]
    assert not any(r.values["failed"] for r in found)
    assert [r.accuracy >= 0 for r in found] == [True] * 6


def test_the_place_of_an_accuracy() -> None:
    assert again.place(0.5, []) == "50.0; the table has no seed of this row"
    said = "95.5; the table has n = 3, 94.0 to 96.0, mean 95.0, standard deviation 1.0; 2 of them"
    assert again.place(0.955, [0.94, 0.95, 0.96]) == f"{said} are below"
    assert again.place(0.95, [0.95]).endswith("mean 95.0; 0 of them are below")
