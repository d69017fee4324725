"""Experiment files, and the queue that fills their table and survives interruption."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import lnm_codegen as lnm
from lnm_codegen.train.progress import ProgressBar
from lnm_codegen.train.runs.config import neuron_of
from lnm_codegen.train.trainer import Trainer
from tests.train.data.image_files import write_cifar

FOLDER = Path(__file__).parent.parent / "experiments"
sys.path.insert(0, str(FOLDER))

import again  # noqa: E402
import dynamics  # noqa: E402
import energy  # noqa: E402
import plan as plans  # noqa: E402
import results  # noqa: E402
import run as queue  # noqa: E402
import run_all  # noqa: E402
import table  # noqa: E402

PLANS = sorted(path.stem for path in FOLDER.glob("*.toml"))

TINY = """
[data]
name = "digits-rows"
limit = 60
[network]
name = "feedforward"
hidden = [8]
[train]
epochs = 2
batch = 20
evaluate_every = 0
backend = "torch"
[search]
seeds = [7]
validation = 20
epochs = 1
[final]
seeds = [0, 1]
[[row]]
name = "LIF, {v_reset}"
family = "lif"
vary = { v_reset = [0.0, "none"] }
[[row]]
name = "LNM degree {degree}"
family = "lnm"
vary = { degree = [1, 2] }
settings = [{ lr = 1e-2, "network.gain" = 2.0 }, { lr = 2e-2, decay = 0.6 }]
[[row]]
name = "diverges"
family = "lnm"
v_min = "none"
v_reset = "none"
theta = [0.0, 5.0, 9.0, 9.0]
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "tiny.toml").write_text(TINY)
    monkeypatch.setattr(plans, "FOLDER", tmp_path)
    monkeypatch.setattr(results, "FOLDER", tmp_path / "results")
    monkeypatch.setattr(queue, "RUNS", tmp_path / "runs")
    return tmp_path


def options(*words: str) -> object:
    sys.argv = ["run.py", "tiny", *words]
    return queue.arguments()


@pytest.mark.parametrize("name", PLANS)
def test_plans_are_read(name: str) -> None:
    """Every setting of every row makes a config, and rows have names of their own."""
    plan = plans.read_plan(name)
    names = [row.name for row in plan.rows]
    assert len(set(names)) == len(names)
    assert plan.finals({row.name: 0 for row in plan.rows})
    searched = [len(row.settings) for row in plan.rows]
    ours = [len(row.settings) for row in plan.rows if "two states" in row.name]
    assert max(ours, default=max(searched)) == min(searched), "others have as many settings or more"


def test_rows_and_settings(folder: Path) -> None:
    plan = plans.read_plan("tiny")
    assert [row.name for row in plan.rows] == [
        "LIF, hard", "LIF, soft", "LNM degree 1", "LNM degree 2", "diverges"
    ]  # fmt: skip
    soft, second = plan.rows[1].config, plan.rows[3].settings
    assert soft.arguments == {"v_reset": None}
    assert second[0].network_arguments == {"hidden": (8,), "gain": 2.0}
    assert second[1].arguments == {"degree": 2, "decay": 0.6}
    jobs = plan.searches()
    assert [(j.row[-1], j.setting) for j in jobs] == [("1", 0), ("2", 0), ("1", 1), ("2", 1)]
    assert {(j.config.validation, j.config.epochs, j.config.seed) for j in jobs} == {(20, 1, 7)}


def test_a_row_has_fewer_seeds_than_its_plan(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`seeds` belongs to a row, or to an element of `vary`; another seed is a further one."""
    forms = '{ name = "hard", v_reset = 0.0 }, { name = "soft", v_reset = "none", seeds = 1 }'
    (folder / "tiny.toml").write_text(TINY.replace('0.0, "none"', forms))
    plan = plans.read_plan("tiny")
    assert [row.seeds for row in plan.rows[:3]] == [(0, 1), (0,), (0, 1)]
    chosen = {"LIF, hard": 0, "LIF, soft": 0}
    jobs = [(job.row, job.seed) for job in plan.finals(chosen)]
    assert jobs == [("LIF, hard", 0), ("LIF, soft", 0), ("LIF, hard", 1)]
    assert len(plan.finals(chosen, 1)) == 2
    queue.work(options("--row", "LIF"))
    assert [(r.row, r.seed) for r in results.read("tiny")] == jobs
    options("--row", "LIF, soft", "--seed", "1")
    queue.main()
    assert "tiny LIF, soft seed 1, not in the plan: " in capsys.readouterr().out
    assert len(results.read("tiny")) == 3


def test_a_clamp_of_two_states_is_an_argument(folder: Path) -> None:
    """A row of two states trained without its v_min, since training has one for one state alone."""
    row = '[[row]]\nname = "two"\nfamily = "lnm"\nstates = 2\nv_min = -4.0\n'
    settings = 'settings = [{ lr = 1e-2 }, { v_min = -3.0 }, { v_min = "none" }]'
    (folder / "tiny.toml").write_text(TINY + row + settings)
    first, second, third = plans.read_plan("tiny").rows[-1].settings
    assert first.arguments == {"states": 2, "v_min": -4.0}
    assert second.arguments == {"states": 2, "v_min": -3.0}
    assert third.arguments == {"states": 2}
    expected = lnm.get("lnm", states=2, v_min=-4.0)
    assert str(neuron_of(first).charge) == str(expected.charge)


@pytest.mark.slow
def test_the_queue_fills_the_table(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Searches, then the best setting with each seed; what is done is not done again."""
    queue.work(options("--phase", "search"))
    assert len(results.read("tiny")) == 4
    queue.work(options("--seed", "1"))
    assert sum(r.phase == "final" for r in results.read("tiny")) == 5
    queue.work(options())
    found = results.read("tiny")
    assert len(found) == 4 + 10
    plan = plans.read_plan("tiny")
    chosen = results.best_settings(plan, found)
    for row in ("LNM degree 1", "LNM degree 2"):
        accuracies = {r.setting: r.accuracy for r in found if r.row == row and r.phase == "search"}
        assert accuracies[chosen[row]] == max(accuracies.values())
        assert {r.setting for r in found if r.row == row and r.phase == "final"} == {chosen[row]}
    failed = [r for r in found if r.values["failed"]]
    assert {r.row for r in failed} == {"diverges"}
    assert failed[0].values["failed"].startswith("train: the gradient of layers.0.neuron.theta is")
    path = folder / "results" / "tiny.csv"
    before = path.read_text()
    path.write_text(before[:-40])  # killed in the middle of a line: its run is done again
    assert [r.key for r in results.read("tiny")] == [r.key for r in found][:-1]
    queue.work(options())
    assert [r.key for r in results.read("tiny")] == [r.key for r in found]
    path.write_text(before)
    queue.work(options())
    assert (folder / "results" / "tiny.csv").read_text() == before
    lines = table.table(plan, found, "LIF, hard")
    assert len(lines) == 2 + 5 + 2
    best = max((r for r in found if r.phase == "search"), key=lambda r: r.accuracy)
    said = lines[-1].removeprefix("Chosen on held-out samples. LNM: ").rstrip(".")
    assert said in ("LNM degree 1", "LNM degree 2")
    assert best.accuracy == max(r.accuracy for r in found if (r.row, r.phase) == (said, "search"))
    assert lines[2].startswith("| LIF, hard |  |  | 2 | ")
    assert lines[-3] == "| diverges | |  | n = 0, 2 failed | | | | | | | |"
    assert len(table.searched(plan, found)) == 2 + 4
    assert table.table(plan, [], None) == ["No row of tiny has been run."]
    energy.count("tiny", "LIF, hard", None)
    counted = energy.table("tiny")
    assert len(counted) == 2 + 4
    assert counted[2].startswith("| LIF, hard | 2 | ")
    assert "+0.0 % (+0.0 neurons, +0.0 spikes)" in counted[2]
    dynamics.count("tiny", "LNM")
    assert dynamics.table("tiny")[2:] == [
        "| LNM degree 1 | 2 | leaky 2 of 2 |", "| LNM degree 2 | 2 | leaky 2 of 2 |"
    ]  # fmt: skip


FROZEN = """
[[row]]
name = "LNM degree 1, frozen"
family = "lnm"
degree = 1
lr_neuron = 0.0
neurons_from = "row:LNM degree 1"
"""


@pytest.mark.slow
def test_runs_are_repeated(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a clone, which has the table and no run folders, with the run that a run begins with."""
    (folder / "tiny.toml").write_text(TINY + FROZEN)
    queue.work(options())
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
    assert len(said("--row", "LNM", "--seed", "0")) == 3
    assert (folder / "results" / "tiny.csv").read_text() == table_before
    with pytest.raises(SystemExit):
        said("--row", "diverges")
    with pytest.raises(SystemExit, match="tiny has no row 'nothing'"):
        said("--row", "nothing")


def narrow(job: plans.Job, **changes: str) -> plans.Job:
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
    monkeypatch.setattr(results, "FOLDER", tmp_path / "results")
    monkeypatch.setattr(queue, "RUNS", tmp_path / "runs")
    plan = plans.read_plan("gpu_cifar10")
    (job,) = (
        narrow(j, device=device, backend=backend)
        for j in plan.finals({r.name: 0 for r in plan.rows})
        if j.row == f"resnet18, T = 2, {row}"
    )
    steps, step = [], Trainer.step

    def counted(trainer: Trainer, *batch: Any) -> Any:
        steps.append(trainer.epoch)
        if len(steps) == 3:
            raise KeyboardInterrupt
        return step(trainer, *batch)

    monkeypatch.setattr(Trainer, "step", counted)
    with pytest.raises(KeyboardInterrupt):
        queue.do(plan, job, tmp_path / "data")
    assert results.read("gpu_cifar10") == []
    queue.do(plan, job, tmp_path / "data")
    assert steps == [0, 0, 1, 1, 1]
    (found,) = results.read("gpu_cifar10")
    assert not found.values["failed"]
    assert 0 <= found.accuracy <= 1


@pytest.mark.slow
@pytest.mark.needs_cc
def test_the_gpu_plan_runs_on_a_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each network and neuron of gpu_cifar10.toml, two epochs of a few images, narrow, on a CPU.

    Everything else is as there: augmentation, TET, SGD with warm-up, bfloat16.
    """
    write_cifar(tmp_path / "data", 10, "python", each=5)
    monkeypatch.setattr(results, "FOLDER", tmp_path / "results")
    monkeypatch.setattr(queue, "RUNS", tmp_path / "runs")
    plan = plans.read_plan("gpu_cifar10")
    jobs = [j for j in plan.finals({r.name: 0 for r in plan.rows}) if "T = 2" in j.row]
    assert {j.config.network for j in jobs} == {"resnet18", "resnet19"}
    for job in jobs:
        queue.do(plan, narrow(job, device="cpu", backend="c"), tmp_path / "data")
    found = results.read("gpu_cifar10")
    assert [r.row for r in found] == [j.row for j in jobs]
    assert not any(r.values["failed"] for r in found)
    lines = table.table(plan, found, None)
    assert len(lines) == 2 + 6 + 2
    assert lines[-1].startswith("Not run: resnet18, T = 4, LIF; resnet19, T = 4, LIF; ")


def test_the_short_gpu_plan_differs_in_length_alone() -> None:
    """Its rows have the configs of the same rows of the long plan, but for epochs and warm-up."""
    short, whole = (
        {row.name: row.config for row in plans.read_plan(name).rows}
        for name in ("gpu_cifar10_short", "gpu_cifar10")
    )
    assert len(short) == 2
    for name, config in short.items():
        longer = whole[name]
        assert replace(config, epochs=longer.epochs, warmup=longer.warmup) == longer


def test_a_plan_that_changed_is_noticed(folder: Path) -> None:
    queue.work(options("--phase", "search"))
    (folder / "tiny.toml").write_text(TINY.replace("decay = 0.6", "decay = 0.7"))
    plan = plans.read_plan("tiny")
    with pytest.raises(
        ValueError, match=r"^tiny: LNM degree 1, setting 1: the result is of 'lr = "
    ):
        results.best_settings(plan, results.read("tiny"))


def test_a_result_has_no_commit_without_git(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without git does not lose the result of a run."""
    monkeypatch.setenv("PATH", "")
    assert results.commit() == ""


def test_an_unknown_plan_is_refused() -> None:
    with pytest.raises(SystemExit, match=r"^experiments: no plan 'nope'\. Accepted: curvature, "):
        plans.read_plan("nope")


def test_a_run_that_cannot_start_has_no_result(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Missing data end the queue with a line and a status; so does a count of 0."""
    text = TINY.replace('"digits-rows"', '"ecg-qtdb"')
    (folder / "tiny.toml").write_text(text)
    with pytest.raises(
        SystemExit, match=r"^tiny: LIF, hard: data: ecg-qtdb: .*nope does not exist"
    ):
        queue.work(options("--row", "LIF, hard", "--data-dir", str(folder / "nope")))
    assert results.read("tiny") == []
    with pytest.raises(SystemExit):
        options("--jobs", "0")
    assert "argument --jobs: 0. Accepted: 1 or more." in capsys.readouterr().err


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    monkeypatch.setattr(queue, "keep_pages", lambda: None)  # the test process keeps its allocator

    def run(*words: str) -> None:
        monkeypatch.setattr(sys, "argv", ["run.py", "tiny", *words])
        queue.main()

    return run


@pytest.mark.slow
def test_a_seed_that_the_plan_lacks(
    folder: Path, command: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    """It is trained, also from the learned neurons of its own seed, and no result is written."""
    (folder / "tiny.toml").write_text(TINY + FROZEN)
    with pytest.raises(SystemExit, match=r"^tiny: LNM degree 2: no setting is chosen; its search"):
        command("--row", "LNM degree 2", "--seed", "9")
    with pytest.raises(SystemExit, match=r"^tiny: seed 9 is not in the plan\. Name a row"):
        command("--seed", "9")
    command("--row", "degree 1")
    before = (folder / "results" / "tiny.csv").read_text()
    capsys.readouterr()
    for row in ("LNM degree 1", "LNM degree 1, frozen"):
        command("--row", row, "--seed", "9")
        mine = [r.accuracy for r in results.read("tiny") if (r.row, r.phase) == (row, "final")]
        (line,) = capsys.readouterr().out.splitlines()
        begins = f"tiny {row} seed 9, not in the plan: "
        assert line.startswith(begins)
        accuracy, _, rest = line.removeprefix(begins).partition("; ")
        assert rest.startswith("the table has n = 2, ")
        below = sum(round(100 * m, 1) < float(accuracy) for m in mine)
        assert rest.endswith(f"; {below} of them are below")
    assert (folder / "results" / "tiny.csv").read_text() == before
    command("--row", "diverges", "--seed", "9")
    assert "seed 9, not in the plan: train: the gradient" in capsys.readouterr().out
    command("--row", "LNM degree 1", "--seed", "1")
    assert capsys.readouterr().out == "tiny: nothing left to run of this selection\n"


def test_the_place_of_an_accuracy() -> None:
    assert results.place(0.5, []) == "50.0; the table has no seed of this row"
    said = "95.5; the table has n = 3, 94.0 to 96.0, mean 95.0, standard deviation 1.0; 2 of them"
    assert results.place(0.955, [0.94, 0.95, 0.96]) == f"{said} are below"
    assert results.place(0.95, [0.95]).endswith("mean 95.0; 0 of them are below")


FROZEN_SEARCH = FROZEN + "settings = [{ lr = 1e-2 }, { lr = 2e-2, decay = 0.6 }]\n"


@pytest.mark.slow
def test_a_search_starts_from_the_search_of_another_row(folder: Path) -> None:
    """From its best setting, of the same seed, so that no held-out sample has been seen."""
    (folder / "tiny.toml").write_text(TINY + FROZEN_SEARCH)
    plan = plans.read_plan("tiny")
    assert [j.row for j in plan.searches()].count("LNM degree 1, frozen") == 2
    queue.work(options("--phase", "search", "--row", "LNM degree 1, frozen"))
    assert results.read("tiny") == []  # the row that it starts from has no setting yet
    queue.work(options("--phase", "search"))
    found = results.read("tiny")
    assert len(found) == 6
    best = results.best_settings(plan, found)["LNM degree 1"]
    for job in plan.searches():
        if job.row == "LNM degree 1, frozen":
            config = json.loads((queue.folder_of(job) / "config.json").read_text())["config"]
            first = Path(config["neurons_from"])
            assert first.name == f"LNM-degree-1_search{best}_seed7"
            assert (config["validation"], config["seed"]) == (20, 7)


@pytest.mark.slow
def test_the_queue_of_all_plans(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rows in order, each with its first seeds; a plan that cannot start stops no other."""
    (folder / "ecg.toml").write_text(TINY.replace('"digits-rows"', '"ecg-qtdb"'))
    stages = (
        run_all.Stage("ecg", 1, ("LIF, hard", "LIF, soft"), files=True),
        run_all.Stage("tiny", 1, ("LIF, soft", "LNM")),
        run_all.Stage("tiny", 2, ("LIF",)),
    )
    monkeypatch.setattr(run_all, "STAGES", stages)
    assert run_all.run_stages(folder / "nope", None) == 1
    assert capsys.readouterr().out.count("ecg: LIF, hard: data: ecg-qtdb: ") == 1
    found = [(r.row, r.phase, r.seed) for r in results.read("tiny")]
    assert found[0] == ("LIF, soft", "final", 0)
    assert found[1:5] == [(f"LNM degree {d}", "search", 7) for d in (1, 2)] * 2
    assert found[5:7] == [(f"LNM degree {d}", "final", 0) for d in (1, 2)]
    assert found[7:] == [("LIF, hard", "final", 0)] + [
        (f"LIF, {reset}", "final", 1) for reset in ("hard", "soft")
    ]
    assert [run_all.progress(stage) for stage in stages] == [(0, 2), (7, 7), (4, 4)]
    assert run_all.run_stages(folder / "nope", 0.0) == 0
    assert len(results.read("tiny")) == 10


def test_the_stages_name_rows_of_their_plans() -> None:
    """A stage has no more seeds than its plan, and leads to a run that --list counts."""
    for stage in run_all.STAGES:
        plan = plans.read_plan(stage.plan)
        assert 1 <= stage.seeds <= len(plan.seeds)
        assert stage.files == (plan.rows[0].config.data in ("ecg-qtdb", "mnist-permuted"))
        done, total = run_all.progress(stage)
        assert 0 <= done <= total >= stage.seeds * len(stage.rows)


@pytest.mark.slow
def test_a_command() -> None:
    done = subprocess.run(
        [sys.executable, str(FOLDER / "run.py"), "--help"], capture_output=True, check=True
    )
    assert b"--minutes" in done.stdout
