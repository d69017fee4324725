"""Comparison of neurons: plans, a queue that survives interruption, results, statistics, table."""

from __future__ import annotations

import json
import math
import os
import signal
import statistics
import subprocess
import sys
import time
import tomllib
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.stats import t as student
from scipy.stats import ttest_1samp

import lnm_codegen as lnm
from lnm_codegen.errors import ModelError, ToolError, UnsupportedError
from lnm_codegen.train import (
    ComparisonTable,
    Dataset,
    RunSelection,
    accuracy_figure,
    compare,
    load,
    load_run,
    plan_of,
    read_plan,
)
from lnm_codegen.train.comparison import queue
from lnm_codegen.train.comparison.queue import ComparisonRuns, runs_of
from lnm_codegen.train.comparison.results import COLUMNS, ResultFile, best_settings
from lnm_codegen.train.comparison.significance import difference, half_width, holm
from lnm_codegen.train.comparison.table import figure_data, mean_text, search_table, table_of
from lnm_codegen.train.runs.config import neuron_of
from lnm_codegen.train.trainer import Trainer
from tests.refusals import assert_refused
from tests.train.small import stopped

VALUES = st.lists(st.integers(0, 1000).map(lambda k: k / 10), min_size=2, max_size=10)

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
FROZEN = """
[[row]]
name = "LNM degree 1, frozen"
family = "lnm"
degree = 1
lr_neuron = 0.0
neurons_from = "row:LNM degree 1"
"""
SHORT = TINY.partition("[[row]]")[0]
"""The plan without rows."""
LIF = '[[row]]\nfamily = "lif"\n'
SEARCHED = LIF + "settings = [{ lr = 1e-2 }, { lr = 2e-2 }]\n"


def plan_file(folder: Path, text: str = TINY) -> Path:
    path = folder / "tiny.toml"
    path.write_text(text)
    return path


def tiny(folder: Path, text: str = TINY) -> ComparisonRuns:
    return runs_of(plan_file(folder, text), folder / "runs")


def in_order(path: Path) -> list[tuple[object, ...]]:
    """Return what must not depend on processes and interruptions, in the order of the keys."""
    columns = ("accuracy", "train_accuracy", "loss", "rates", "outside", "failed", "config")
    found = ResultFile(path).read()
    return sorted((*r.key, *(r.values[c] for c in columns)) for r in found)


# --- plans


def test_the_shortest_plan(tmp_path: Path) -> None:
    text = '[final]\nseeds = 3\n[[row]]\nfamily = "lif"\n[[row]]\nfamily = "plif"\n'
    plan = read_plan(plan_file(tmp_path, text))
    assert [row.name for row in plan.rows] == ["lif", "plif"]
    assert (plan.seeds, plan.reference, plan.searches()) == ((0, 1, 2), "lif", [])
    assert plan.rows[1].config.family == "plif"
    assert plan.rows[0].config.evaluate_every == 0
    varied = {"final": {"seeds": 3}, "row": [{"vary": {"family": ["lif", "plif"]}}]}
    assert plan == plan_of(varied, "tiny")


def test_rows_and_settings(tmp_path: Path) -> None:
    """`seeds` belongs to a row too, or to an element of `vary`."""
    plan = tiny(tmp_path).plan
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
    forms = '{ name = "hard", v_reset = 0.0 }, { name = "soft", v_reset = "none", seeds = 1 }'
    plan = tiny(tmp_path, TINY.replace('0.0, "none"', forms)).plan
    assert [row.seeds for row in plan.rows[:3]] == [(0, 1), (0,), (0, 1)]
    chosen = {"LIF, hard": 0, "LIF, soft": 0}
    found = [(job.row, job.seed) for job in plan.finals(chosen)]
    assert found == [("LIF, hard", 0), ("LIF, soft", 0), ("LIF, hard", 1)]
    assert len(plan.finals(chosen, 1)) == 2


def test_a_clamp_of_two_states_is_an_argument(tmp_path: Path) -> None:
    """A row of two states trained without its v_min, since training has one for one state alone."""
    row = '[[row]]\nname = "two"\nfamily = "lnm"\nstates = 2\nv_min = -4.0\n'
    settings = 'settings = [{ lr = 1e-2 }, { v_min = -3.0 }, { v_min = "none" }]'
    found = tiny(tmp_path, TINY + row + settings).plan.rows[-1].settings
    clamps = [{"v_min": -4.0}, {"v_min": -3.0}, {}]
    assert [config.arguments for config in found] == [{"states": 2, **c} for c in clamps]
    expected = lnm.get("lnm", states=2, v_min=-4.0)
    assert str(neuron_of(found[0]).charge) == str(expected.charge)


MISTAKES = """
tiny.toml
    trian.lr = 1 / LIF >> no table 'trian' >> >> Did you mean 'train'?
    SEEDS >> no row >> >> Add
    final = 2 / LIF >> final is 2 >> a table [final]
    seeds = 2 / LIF >> no table 'seeds'
    SEEDS / row = [{family = "lif"}, {family = "lif"}] >> the row 'lif' occurs twice
        >> >> Give each row a name
    SEEDS / row = [{family = "lif", name = "a b"}, {family = "lif", name = "a-b"}]
        >> rows 'a b' and 'a-b' differ in punctuation alone
tiny.toml: final
    final.sedds = 3 / LIF >> no key 'sedds' >> >> Did you mean 'seeds'?
    final = {} / LIF >> no seeds >> seeds = 3, or a list of integers
    final.seeds = [4, 4] / LIF >> seed 4 is given twice
    final.seeds = [-1] / LIF >> seeds is [-1]
    final.seeds = 0 / LIF >> seeds is 0
tiny.toml: final: reference
    SEEDS / final.reference = "LIF" / LIF >> no row 'LIF' >> lif >> Did you mean 'lif'?
tiny.toml: row 1: lif
    SEEDS / row = [{family = "lif", seeds = 3}] >> seeds is 3 >> from 1 to 2
tiny.toml: row 1
    SEEDS / row = [{name = "x"}] >> no neuron >> >> Give its family
    SEEDS / row = [{family = "lif", vary = {tau = 2.0}}] >> vary.tau is 2.0
    SEEDS / row = [{family = "lif", settings = []}] >> settings is []
tiny.toml: lif
    SEEDS / row = [{family = "lif", lr_nueron = 0.1}] >> no key 'lr_nueron'
        >> an argument of lif, a field of [train], >> Did you mean 'lr_neuron'?
    SEEDS / row = [{family = "lif", lr = "x"}] >> lr is 'x' >> a number
    SEEDS / row = [{family = "lif", seed = 1}] >> seed is given >> >> Give seeds in [final]
    SEEDS / row = [{family = "lif", "net.x" = 1}] >> the table of a key is 'net'
    SEEDS / row = [{family = "lif", neurons_from = "row:lif"}] >> neurons_from leads back to 'lif'
tiny.toml: lif: neurons_from
    SEEDS / row = [{family = "lif", neurons_from = "row:nope"}] >> no row 'nope'
tiny.toml: train
    SEEDS / train.seed = 1 / LIF >> seed is given
    SEEDS / train.epoch = 1 / LIF >> no key 'epoch'
tiny.toml: lif
    SEEDS / train.precision = "auto" / LIF >> precision is 'auto' >> >> Name the one
    SEEDS / row = [{family = "lif", memory_format = "auto"}] >> memory_format is 'auto'
tiny.toml: row 1: name 'x {tau}'
    SEEDS / row = [{family = "lif", name = "x {tau}"}] >> no word of vary 'tau'
tiny.toml: search: train
    SEEDS / search = {validation = 9, epochs = 1} / train.warmup = 1 / row = [{family = "lif",
        settings = [{lr = 0.1}, {lr = 0.2}]}] >> warmup is 1
"""


def test_a_mistake_in_a_plan_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    def run(text: str) -> None:
        text = text.replace(" / ", "\n").replace("SEEDS", "final.seeds = 2")
        compare(plan_file(Path(), text), "out")

    row = "/ row = [{family = 'lif'}] >>"
    assert_refused(MISTAKES.replace("/ LIF >>", row), {}, run=run)
    assert not Path("out").exists()


def test_names_are_known_before_the_first_run(tmp_path: Path) -> None:
    """Neurons, networks and data sets of every row, and a seed that the plan lacks."""
    path, out = plan_file(tmp_path), tmp_path / "out"

    def changed(old: str, new: str) -> Path:
        found = tmp_path / "new"
        found.mkdir(exist_ok=True)
        return plan_file(found, TINY.replace(old, new))

    table = """
?
    changed('"digits-rows"', '"digit-rows"') >> tiny: LIF, hard: data: no set 'digit-rows'
    changed('"feedforward"', '"forward"') >> tiny: LIF, hard: models: no network 'forward'
    changed("theta = [0.0, 5", "thet = [0.0, 5") >> FILE: diverges: no key 'thet'
    changed("degree = [1, 2]", "degree = [1, 0]") >> tiny: LNM degree 0: lnm: degree is 0
    path, selection=Selection("nothing") >> compare: tiny: no row 'nothing' >> LIF, hard
    path, selection=Selection(seed=9) >> compare: tiny: seed 9 is not in the plan >> 0, 1
    path, selection=Selection("degree 2", seed=1) >> compare: tiny: no setting is chosen for
        'LNM degree 2', whose search
    path, selection=Selection(phase="test") >> compare: phase is 'test'
    path, jobs=0 >> compare: jobs is 0
"""
    names: dict[str, Any] = {
        "compare": compare,
        "changed": changed,
        "path": path,
        "Selection": RunSelection,
    }
    table = table.replace("FILE", str(tmp_path / "new" / "tiny.toml"))
    names["out"] = out
    assert_refused(table, {}, run=lambda call: eval(f"compare({call}, out=out)", names))
    assert not out.exists()


# --- the queue


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> ComparisonRuns:
    """Return the runs of the plan, all made."""
    runs = tiny(tmp_path_factory.mktemp("whole"))
    compare(runs.plan, runs.out)
    return runs


def test_searches_then_the_best_setting_with_each_seed(whole: ComparisonRuns) -> None:
    plan, found = whole.plan, whole.results.read()
    assert len(found) == 4 + 10 == len({r.key for r in found})
    chosen = best_settings(plan, found)
    for row in ("LNM degree 1", "LNM degree 2"):
        accuracies = {r.setting: r.accuracy for r in found if r.row == row and r.phase == "search"}
        assert accuracies[chosen[row]] == max(accuracies.values())
        assert {r.setting for r in found if r.row == row and r.phase == "final"} == {chosen[row]}
    failed = [r for r in found if r.values["failed"]]
    assert {r.row for r in failed} == {"diverges"}
    assert failed[0].values["failed"].startswith("train: the gradient of layers.0.neuron.theta is")
    assert whole.waiting(RunSelection()) == []
    config = json.loads((whole.folder_of(plan.searches()[0]) / "config.json").read_text())["config"]
    assert (config["validation"], config["epochs"], config["threads"]) == (20, 1, 1)
    before = whole.results.path.read_bytes()
    compare(plan, whole.out)
    assert whole.results.path.read_bytes() == before
    assert len(whole.ended()) == 8
    assert all(whole.is_complete(run) for run in whole.ended())


def test_a_selection(tmp_path: Path) -> None:
    runs = tiny(tmp_path, SHORT + LIF + "[[row]]\nfamily = 'plif'\n")
    runs.work(RunSelection("plif", seeds=1), progress=False)
    assert [r.key for r in runs.results.read()] == [("plif", "final", 0, 0)]
    runs.work(RunSelection(seed=1), minutes=0.0)
    runs.work(RunSelection(phase="search"))
    assert len(runs.results.read()) == 1
    table = compare(runs.plan, runs.out, selection=RunSelection(seed=1))
    assert [r.key[::3] for r in runs.results.read()] == [("plif", 0), ("lif", 1), ("plif", 1)]
    assert [row.complete for row in table.rows] == [False, True]


def test_no_run_is_lost_or_doubled_by_interruptions(
    whole: ComparisonRuns, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a step, between the end of a run and its result, and within the line of a result."""
    runs, add = tiny(tmp_path), ResultFile.add

    def torn(self: ResultFile, *arguments: Any) -> None:
        add(self, *arguments)
        self.path.write_bytes(self.path.read_bytes()[:-30])
        raise KeyboardInterrupt

    for _ in range(2):
        with stopped(Trainer, "step", 11):
            compare(runs.plan, runs.out)
    with stopped(ResultFile, "add", 0):
        compare(runs.plan, runs.out)
    with monkeypatch.context() as patch:
        patch.setattr(ResultFile, "add", torn)
        with pytest.raises(KeyboardInterrupt):
            compare(runs.plan, runs.out)
    compare(runs.plan, runs.out)
    assert in_order(runs.results.path) == in_order(whole.results.path)


@pytest.mark.slow
def test_killed_processes(whole: ComparisonRuns, tmp_path: Path) -> None:
    """Two processes, killed twice as soon as there is one more file, give the same results."""
    runs = tiny(tmp_path)
    command = [sys.executable, "-m", "lnm_codegen.cli", "compare", str(tmp_path / "tiny.toml")]
    command += ["--out", str(runs.out), "--jobs", "2"]
    for _ in range(2):
        before = set(runs.out.glob("*/checkpoint.safetensors"))
        process = subprocess.Popen(command, start_new_session=True, stderr=subprocess.PIPE)
        while set(runs.out.glob("*/checkpoint.safetensors")) == before and process.poll() is None:
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    assert len(runs.results.read()) < 14
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "diverged" in done.stdout
    assert in_order(runs.results.path) == in_order(whole.results.path)
    found = json.loads((runs.out / "table.json").read_text())
    assert found == compare(runs.plan, whole.out).as_dict()


class Broken:
    """A pool whose process is killed."""

    def __init__(self, *_: object, **__: object) -> None: ...
    def __enter__(self) -> Broken:
        return self

    def __exit__(self, *_: object) -> None: ...
    def submit(self, *_: object) -> Broken:
        return self

    def result(self) -> None:
        raise BrokenProcessPool


def test_runs_that_cannot_start_have_no_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Missing files, a killed process, and an accuracy that is missing: it would count as 0 %."""
    ecg, out = plan_file(tmp_path, TINY.replace('"digits-rows"', '"ecg-qtdb"')), tmp_path / "runs"
    with pytest.raises(ToolError, match=r"^data: ecg-qtdb: .*nope does not exist"):
        compare(ecg, out, data_dir=tmp_path / "nope")
    with pytest.raises(ToolError, match=r"^tiny: LNM degree 1: data: ecg-qtdb: "):
        compare(ecg, out, data_dir=tmp_path)
    (tmp_path / "own.py").write_text("def error(outputs, targets):\n    return 0.5\n")
    metric = f'batch = 20\nmetric = "{tmp_path / "own.py"}:error"\n'
    text = SHORT.replace("batch = 20\n", metric) + LIF
    with pytest.raises(UnsupportedError, match=r"^tiny: lif: compare: runs are compared by acc"):
        compare(plan_file(tmp_path, text), out)
    monkeypatch.setattr(queue, "ProcessPoolExecutor", Broken)
    with pytest.raises(ToolError, match=r"^compare: a process was killed\. Give the same command"):
        compare(plan_file(tmp_path), out, jobs=2)
    assert not (out / "results.csv").exists()


def test_samples_in_python(tmp_path: Path) -> None:
    """`data` takes what `run` takes; the plan then names none. Others are not of the results."""
    text = SHORT.replace('name = "digits-rows"\nlimit = 60\n', "") + LIF
    data, out = load("digits-rows", limit=60), tmp_path / "runs"
    table = compare(plan_file(tmp_path, text), out, data=data)
    named = plan_file(tmp_path, SHORT + LIF)
    assert table.rows[0].values == compare(named, tmp_path / "named").rows[0].values
    for given_, said in (
        (load("digits-rows", limit=50), "tiny: lif: data: .* the run has other samples"),
        (data.held_out(20), r"tiny: lif: data: the samples have no test split\."),
    ):
        with pytest.raises(ModelError, match=f"^{said}"):
            compare(named, tmp_path / "named", data=given_)


CHANGING = '''
import torch
from torch.utils.data import TensorDataset
import lnm_codegen as lnm

def samples():
    x = torch.rand(40, 5, 8, generator=torch.Generator().manual_seed(0))
    y = torch.arange(40) % 2
    return TensorDataset(x[:20], y[:20]), TensorDataset(x[20:], y[20:])

def triple():
    x, y = torch.rand(90, 8, 8, generator=torch.Generator().manual_seed(0)), torch.arange(90) % 3
    return tuple(TensorDataset(x[k : k + 30], y[k : k + 30]) for k in (0, 30, 60))

@lnm.family
def neuron():
    v, x = lnm.state("v"), lnm.input("x")
    decay = lnm.param("decay", init=0.5, learnable=True)
    return lnm.Neuron(charge={v: decay * v + x}, fire=v - 1, reset=lnm.hard_reset(v, 0.0))

class Net(torch.nn.Sequential):
    def __init__(self, sample, classes):
        layer = lnm.nn.NeuronLayer(lnm.get("lif", tau=2.0), backend="torch")
        super().__init__(torch.nn.Linear(8, 4), layer, torch.nn.Linear(4, classes))

    def forward(self, x):
        """Not part of the code."""
        return super().forward(x)
'''


@pytest.mark.parametrize(
    ("row", "changes"),
    [
        (
            'name = "mine"\nfamily = "{own}:neuron"',
            [
                ("torch.rand(40", "2 * torch.rand(40", "the run has other inputs"),
                ("% 2", "// 4 % 2", "the run has other labels"),
                ("+ x", "+ 2 * x", "its definition has changed"),
                ("init=0.5", "init=0.25", "an initial value has changed"),
            ],
        ),
        (
            'name = "net"\nnetwork = "{own}:Net"',
            [
                ("tau=2.0", "tau=3.0", "the neuron of '1' has changed"),
                ("(4, classes)", "(4, classes, bias=False)", "run: .*2.bias"),
                ("forward(x)", "forward(2 * x)", "the source of Net has changed"),
            ],
        ),
    ],
)
def test_files_that_changed_are_refused(
    row: str, changes: list[tuple[str, str, str]], tmp_path: Path
) -> None:
    """A table never mixes two data sets, neurons or networks, nor shows those of before."""
    own, out = tmp_path / "own.py", tmp_path / "runs"
    text = (
        f'[data]\nname = "{own}:samples"\n[network]\nname = "feedforward"\n[train]\nepochs = 1\n'
        f'backend = "torch"\n[final]\nseeds = 1\n[[row]]\n{row.format(own=own)}\n'
    )
    own.write_text(CHANGING)
    compare(plan_file(tmp_path, text), out)
    lines = (out / "results.csv").read_text()
    for was, now, said in changes:
        assert was in CHANGING
        own.write_text(CHANGING.replace(was, now))
        for seeds in (1, 2):
            plan = plan_file(tmp_path, text.replace("seeds = 1", f"seeds = {seeds}"))
            with pytest.raises(ModelError, match=f"{said}.* give other files with --results and"):
                compare(plan, out)
            assert (out / "results.csv").read_text() == lines
    own.write_text(CHANGING.replace("Not part", "No part") + "# a comment\n")
    assert len(compare(plan, out).rows[0].values) == 2


def test_no_search_reads_the_test_samples(tmp_path: Path) -> None:
    """Without held-out samples it does not begin; of a triple, it has the second part."""
    text = SHORT.replace("validation = 20\n", "") + SEARCHED
    with pytest.raises(ModelError, match=r"^tiny: lif: search: .* no sample is held out\."):
        compare(plan_file(tmp_path, text), tmp_path / "none")
    (tmp_path / "own.py").write_text(CHANGING)
    runs = tiny(tmp_path, text.replace("digits-rows", f"{tmp_path}/own.py:triple"))
    first = compare(runs.plan, runs.out)
    found = [*runs.plan.searches(), *runs.plan.finals(runs.best())]
    samples = [load_run(runs.folder_of(run)).data for run in found]
    assert [data.is_held_out for data in samples] == [run.phase == "search" for run in found]

    def few(data: Dataset) -> torch.Tensor:
        return data.test.few(0)[0]  # type: ignore[no-any-return,index]

    assert torch.equal(few(samples[0].with_test()), few(samples[-1]))
    assert not torch.equal(few(samples[0]), few(samples[-1]))
    again = compare(runs.plan, tmp_path / "again", data=samples[0])
    assert again.as_dict() == first.as_dict()
    assert len(samples[0].train) == 30


def test_a_run_that_starts_from_another(tmp_path: Path) -> None:
    """Of the same seed, in a search from its best setting, so that no held-out sample was seen."""
    settings = "settings = [{ lr = 1e-2 }, { lr = 2e-2, decay = 0.6 }]\n"
    runs, row = tiny(tmp_path, TINY + FROZEN + settings), "LNM degree 1, frozen"
    assert [j.row for j in runs.plan.searches()].count(row) == 2
    runs.work(RunSelection(row, phase="search"))
    assert runs.results.read() == []  # the row that it starts from has no setting yet
    runs.work(RunSelection("degree 1"), progress=False)
    best = runs.best()["LNM degree 1"]
    for job in (*runs.plan.searches(), *runs.plan.finals(runs.best())):
        if job.row == row:
            config = json.loads((runs.folder_of(job) / "config.json").read_text())["config"]
            first = Path(config["neurons_from"]).name
            assert first == f"LNM-degree-1_{job.phase}{best}_seed{job.seed}"


def test_a_plan_that_changed_is_refused(whole: ComparisonRuns) -> None:
    """A setting, an option, or the number of settings; rows and seeds may be added."""
    folder = whole.out.parent
    for old, new, said in (
        ("decay = 0.6", "decay = 0.7", "LNM degree 1, setting 1: the result is of 'lr = "),
        ("epochs = 2", "epochs = 3", "setting 0: the result is of epochs = 2, the plan has 3"),
        ("hidden = [8]", "hidden = [9]", r"network_arguments = {.*'hidden': \[8\]"),
        ("validation = 20", "validation = 10", "the result is of validation = 20, the plan has 10"),
        (", { lr = 2e-2, decay = 0.6 }", "", "setting 1: .*, the plan has no such setting"),
    ):
        with pytest.raises(ModelError, match=f"^tiny: .*{said}"):
            compare(plan_file(folder, TINY.replace(old, new)), whole.out)
    more = TINY.replace("seeds = [0, 1]", "seeds = [0, 1, 2]") + LIF
    threads = TINY.replace("batch = 20", "batch = 20\nthreads = 2")
    for text, count in ((more, 5 + 3), (threads, 0)):
        runs = runs_of(plan_file(folder, text), whole.out)
        assert len(runs.waiting(RunSelection())) == count


# --- results


def test_lines_of_an_earlier_version(
    whole: ComparisonRuns, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file gains the column at the next result; old lines count, by their settings.

    A machine without git does not lose the result of a run.
    """
    lines, found = whole.results.path.read_text().splitlines(), whole.results.read()
    old = [line.rpartition(',"{')[0] for line in lines[1:]]
    file = ResultFile(tmp_path / "old.csv")
    file.path.write_text("\n".join([",".join(COLUMNS[:-1]), *old[:-1]]) + "\n")
    assert [r.key for r in file.read()] == [r.key for r in found][:-1]
    changed = plan_of(tomllib.loads(TINY.replace("epochs = 2", "epochs = 3")), "tiny")
    assert best_settings(changed, file.read()) == whole.best()
    last = found[-1]
    file.add(whole.plan.run_of(*last.key), last.values["shown"], {"failed": "x"})
    assert file.path.read_text().startswith(",".join(COLUMNS) + "\n")
    assert [r.key for r in file.read()] == [r.key for r in found]
    assert [r.values["config"] == "" for r in file.read()] == [True] * 13 + [False]
    file.path.write_text("row,pha")  # a header that was not finished
    assert file.read() == []
    run = whole.plan.searches()[0]
    file.add(run, "", {"accuracy": 0.5})
    assert [r.key for r in file.read()] == [run.key]
    file.path.write_text("a,b\n1,2\n")
    with pytest.raises(ModelError, match=r"not results of lnm compare: it has other columns\."):
        file.read()
    monkeypatch.setenv("PATH", "")
    assert file._commit() == ""


# --- statistics


@settings(max_examples=50)
@given(VALUES, VALUES)
def test_a_difference_is_that_of_the_formulas(a: list[float], b: list[float]) -> None:
    """Welch's t, its degrees of freedom, the interval by the quantile of Student's t, and p."""
    found = difference(a, b)
    if found is None:
        assert len(set(a)) == len(set(b)) == 1
        return
    parts = [statistics.variance(v) / len(v) for v in (a, b)]
    mean, error = statistics.mean(a) - statistics.mean(b), math.sqrt(sum(parts))
    df = sum(parts) ** 2 / (parts[0] ** 2 / (len(a) - 1) + parts[1] ** 2 / (len(b) - 1))
    half = float(student.ppf(0.975, df)) * error
    assert (found.mean, found.low, found.high) == pytest.approx((mean, mean - half, mean + half))
    p = 2 * float(student.sf(abs(mean) / error, df))
    assert found.p == pytest.approx(p, rel=1e-6, abs=1e-300)


@settings(max_examples=30)
@given(VALUES)
def test_the_interval_of_a_mean(values: list[float]) -> None:
    assert half_width(values[:1]) is None
    assert half_width([3.0, 3.0]) == 0.0
    assert half_width([0.0, 2.0]) == pytest.approx(12.7062047)  # t of one degree of freedom
    assume(len(set(values)) > 1)
    low, high = ttest_1samp(values, 0).confidence_interval(0.95)
    assert half_width(values) == pytest.approx((high - low) / 2)


@settings(max_examples=50)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm(ps: list[float]) -> None:
    """It keeps the order, its smallest p is Bonferroni's, and no p exceeds Bonferroni's."""
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])  # 3*0.01, 2*0.03
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []
    corrected = holm(ps)
    for p, q in zip(ps, corrected, strict=True):
        assert p <= q <= min(1.0, len(ps) * p) + 1e-12
    assert min(corrected) == min(1.0, len(ps) * min(ps))
    order = sorted(range(len(ps)), key=ps.__getitem__)
    assert sorted(corrected) == [corrected[k] for k in order]


# --- table


def filled(folder: Path, accuracies: dict[str, list[Any]]) -> ComparisonTable:
    """Return the table of rows with these accuracies; None is a run that diverged."""
    rows = [{"name": name, "family": "lif"} for name in accuracies]
    seeds = max(map(len, accuracies.values()))
    plan = plan_of({"final": {"seeds": seeds}, "row": rows}, "filled")
    file = ResultFile(folder / "filled.csv")
    for name, found in accuracies.items():
        for seed, accuracy in enumerate(found):
            values = {"accuracy": accuracy, "parameters": 1234}
            run = plan.run_of(name, "final", 0, seed)
            file.add(run, "", {"failed": "NaN"} if accuracy is None else values)
    return table_of(plan, file.read())


def test_the_table(tmp_path: Path) -> None:
    a, b, c = [0.9, 0.91, 0.92], [0.8, 0.81, 0.83], [0.91, 0.9, 0.93]
    given_ = {"a": a, "b": b, "c": c, "few": [0.5], "bad": [None] * 3, "none": []}
    table = filled(tmp_path, given_)
    assert table.reference == "a"
    tests = [difference([100 * v for v in x], [100 * v for v in a]) for x in (b, c)]
    ps = holm([test.p for test in tests if test is not None])
    assert {k: p for k, (_, p) in table.compared.items()} == pytest.approx({1: ps[0], 2: ps[1]})
    lines, found = table.markdown().splitlines(), table.compared[1][0]
    assert lines[0].startswith("| neuron | n | test, % | difference from a, points (95 % interval)")
    assert lines[2] == "| a | 3 | 91.0 ± 2.5 | reference |  | 1,234 |  |  |"
    assert lines[3] == (
        f"| b | 3 | {mean_text([80, 81, 83])} | {found.mean:+.1f} ({found.low:+.1f} to"
        f" {found.high:+.1f}) | {ps[0]:.2g} | 1,234 |  |  |"
    )
    assert lines[5] == "| few | 1 of 3 | 50.0 |  |  | 1,234 |  |  |"
    assert lines[6] == "| bad | 0 of 3, 3 diverged |  |  |  |  |  |  |"
    assert "3 runs diverged, and no mean includes them." in lines
    said = "Not complete, and not compared: few (1 of 3); bad (0 of 3, 3 diverged); none (0 of 3)."
    assert said in lines
    plain = table.as_dict()
    assert plain["rows"][1]["difference"] == {**vars(found), "holm": ps[0]}
    assert plain["rows"][3]["half_width"] is None
    assert plain["rows"][1]["accuracies"] == {"0": 80.0, "1": 81.0, "2": 83.0}
    assert json.loads(json.dumps(plain)) == plain
    (tmp_path / "equal").mkdir()
    equal = filled(tmp_path / "equal", {"a": [0.5, 0.5], "b": [0.5, 0.5], "c": [0.6, 0.6]})
    assert not equal.compared  # equal values have no test
    assert equal.cells()[2][:4] == ("c", "2", "60.0 ± 0.0", "")


def test_held_out_accuracies(whole: ComparisonRuns) -> None:
    found = whole.results.read()
    table = table_of(whole.plan, found, "LIF, soft")
    assert set(table.validation) == {"LNM degree 1", "LNM degree 2"}
    best = max(r.accuracy for r in found if (r.row, r.phase) == ("LNM degree 1", "search"))
    assert table.validation["LNM degree 1"] == 100 * best
    assert table.cells()[2][-2] == whole.plan.rows[2].shown[whole.best()["LNM degree 1"]]
    header, lines = search_table(whole.plan, found)
    assert header == ("neuron", "setting", "held out", "train")
    assert [line[0] for line in lines] == ["LNM degree 1"] * 2 + ["LNM degree 2"] * 2
    with pytest.raises(ModelError, match=r"^compare: tiny: no row 'x'\."):
        table_of(whole.plan, found, "x")


def test_the_figure(tmp_path: Path) -> None:
    """A point for each seed, the mean, and the text; a name is no formula."""
    table = filled(tmp_path, {"a$_$": [0.9, 0.91], "b": [0.8, None], "few": [0.7], "none": []})
    figure, marks = accuracy_figure(table.rows), {"GRU": 91, "old": 10}
    text = figure_data(lambda: accuracy_figure(table.rows, marks))
    assert text == figure_data(lambda: accuracy_figure(table.rows, marks))
    found = {e.text for e in ElementTree.fromstring(text).iter() if e.tag.endswith("}text")}
    assert {"a$_$", "b", "few", "90.5 ± 6.4, n = 2", "80.0, n = 1, 1 diverged"} <= found
    assert not any("old" in (word or "") for word in found)
    (axis,) = figure.axes
    assert sorted(axis.lines[1].get_xdata()) == pytest.approx([90, 91])
    assert axis.lines[4].get_markerfacecolor() == "white"  # it lacks a seed
    assert figure_data(lambda: figure, "pdf").startswith(b"%PDF")
    with pytest.raises(ModelError, match=r"^accuracy_figure: no row has a result"):
        accuracy_figure(table.rows[3:])
