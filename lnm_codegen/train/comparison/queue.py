"""Queue of a comparison: every run of a plan without a result, searches first.

A lock claims a run, and its result is written when it ends. So a comparison may be stopped at any
moment, by any means, and started again, in several processes and on machines that share the folder.
A run that was interrupted resumes after its last whole epoch.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from lnm_codegen.analysis.canvas import require_matplotlib
from lnm_codegen.errors import DivergedError, LnmError, ModelError, ToolError, UnsupportedError
from lnm_codegen.families import FAMILIES
from lnm_codegen.files import unwritable
from lnm_codegen.nn.memory import keep_pages
from lnm_codegen.train.comparison.plan import ComparisonPlan, PlannedRun, read_plan
from lnm_codegen.train.comparison.results import ResultFile, best_settings
from lnm_codegen.train.comparison.significance import require_scipy
from lnm_codegen.train.comparison.table import ComparisonTable, reference_of, table_of
from lnm_codegen.train.data.dataset import Dataset
from lnm_codegen.train.data.own import samples_of
from lnm_codegen.train.names import is_reference
from lnm_codegen.train.runs.config import TrainConfig, neuron_of, require_same_definition
from lnm_codegen.train.runs.origin import (
    changed_code,
    dataset_of,
    read_origin,
    require_same_data,
    require_same_neuron,
)
from lnm_codegen.train.runs.runner import RunResult, run
from lnm_codegen.train.runs.saved import load_run
from lnm_codegen.validation import require_integer, require_one_of

_RESTART = "Restore it, or give other files with --results and --out."
_WAIT = 2.0
"""Seconds until a process asks again for a run that no other process has claimed."""
_LOADED: dict[str, Dataset] = {}
"""Samples by the options that name them, so that a process loads them once."""


@dataclass(frozen=True)
class RunSelection:
    """Some runs of a plan.

    Attributes:
        row: A row, or a text in the names of several rows.
        seed: Only final runs of this seed.
        seeds: Only the first N final seeds.
        phase: "search" or "final"; None for both.
    """

    row: str | None = None
    seed: int | None = None
    seeds: int | None = None
    phase: str | None = None

    def __post_init__(self) -> None:
        require_integer("compare", "seeds", self.seeds, optional=True)
        require_one_of("compare", "phase", self.phase, (None, "search", "final"))

    def of(self, plan: ComparisonPlan, best: Mapping[str, int]) -> list[PlannedRun]:
        """Return the runs of a plan, the final ones of the rows that have a best setting."""
        rows = plan.names(self.row)
        searched = self.phase != "final" and self.seed is None
        runs = plan.searches() if searched else []
        if self.phase != "search":
            runs += plan.finals(best, self.seeds)
        return [r for r in runs if r.row in rows and self.seed in (None, r.seed)]


@dataclass(frozen=True)
class ComparisonRuns:
    """The runs of a plan: their folders, their results, and their data.

    Attributes:
        plan: The plan.
        out: The folder of the run folders.
        results: The file of their results.
        data: Samples for every run; None loads those of the plan.
        data_dir: Folder of the data, in place of that of the plan.
    """

    plan: ComparisonPlan
    out: Path
    results: ResultFile
    data: Dataset | None = field(default=None, repr=False)
    data_dir: Path | None = None

    def folder_of(self, planned: PlannedRun) -> Path:
        """Return the run folder of a run."""
        return self.out / planned.folder

    def lock_of(self, planned: PlannedRun) -> FileLock:
        """Return the lock of a run, not yet acquired."""
        folder = self.out / ".locks"
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise unwritable("compare", folder, error) from None
        return FileLock(folder / f"{planned.folder}.lock")

    def is_complete(self, planned: PlannedRun) -> bool:
        """Report whether the folder of a run has a whole run: its figure is written last."""
        return (self.folder_of(planned) / "figure.png").is_file()

    def best(self) -> dict[str, int]:
        """Return the best setting of each row whose search is complete."""
        return best_settings(self.plan, self.results.read())

    def ended(self) -> list[PlannedRun]:
        """Return the final runs that have a result and did not diverge."""
        keys = {r.key for r in self.results.read() if not r.values["failed"]}
        return [r for r in self.plan.finals(self.best()) if r.key in keys]

    def waiting(self, selection: RunSelection) -> list[PlannedRun]:
        """Return the selected runs without a result, in order.

        A run that starts from another one waits for the result of that one.
        """
        records = self.results.read()
        best = best_settings(self.plan, records)
        ended = {r.key: not r.values["failed"] for r in records}

        def is_ready(planned: PlannedRun) -> bool:
            if planned.after is None:
                return True
            if planned.after not in best:
                return False
            return ended.get(self._first(planned, best).key, planned.phase == "search")

        return [r for r in selection.of(self.plan, best) if r.key not in ended and is_ready(r)]

    def work(
        self, selection: RunSelection, minutes: float | None = None, progress: bool = True
    ) -> None:
        """Make one run after another until none is left, or none is begun after `minutes`.

        Raises:
            LnmError: A run cannot start.
        """
        end = None if minutes is None else time.monotonic() + 60 * minutes
        while end is None or time.monotonic() < end:
            claim = self._claim(selection)
            if claim is None:
                if not self.waiting(selection):
                    return
                time.sleep(_WAIT)  # other processes have the rest; their results may add runs
                continue
            planned, lock = claim
            try:
                self.do(planned, progress)
            finally:
                lock.release()

    def _claim(self, selection: RunSelection) -> tuple[PlannedRun, FileLock] | None:
        """Return the first run that no other process has claimed, with its lock."""
        for planned in self.waiting(selection):
            lock = self.lock_of(planned)
            try:
                lock.acquire(timeout=0)
            except Timeout:
                continue
            if planned.key not in {r.key for r in self.results.read()}:
                return planned, lock
            lock.release()
        return None

    def _first(self, planned: PlannedRun, best: Mapping[str, int]) -> PlannedRun:
        """Return the run whose learned neurons a run starts from, of the same phase and seed."""
        assert planned.after is not None
        return self.plan.run_of(planned.after, planned.phase, best[planned.after], planned.seed)

    def train(self, planned: PlannedRun) -> RunResult:
        """Make or resume a run, and before it the run that it starts from, if necessary.

        Raises:
            DivergedError: It diverged.
            LnmError: It cannot start.
        """
        threads = planned.config.threads or 1  # results must not depend on `jobs`
        config = replace(self._placed(planned), threads=threads)
        if planned.after is not None:
            first = self._first(planned, self.best())
            with self.lock_of(first):
                if not self.is_complete(first):
                    self.train(first)
            config = replace(config, neurons_from=self.folder_of(first))
        data = self._samples(planned, config)
        if config.metric is not None or not data.has_classes:
            problem = "runs are compared by accuracy, and this one has none"
            accepted = "labels that are classes, and no metric of your own"
            raise UnsupportedError("compare", problem, accepted)
        return run(config, self.folder_of(planned), resume=True, data=data)

    def require_same_origin(self, rows: Sequence[str]) -> None:
        """Refuse neurons, networks and samples of yours that changed since a run with a result.

        A run folder of each row, phase and setting is compared. A result without its folder is not.

        Raises:
            ModelError: One has changed.
            LnmError: One cannot be read.
        """
        records = [r for r in self.results.read() if r.row in rows]
        for planned in {r.key[:3]: self.plan.run_of(*r.key) for r in records}.values():
            if self.is_complete(planned):
                try:
                    self._require_same_origin(planned)
                except LnmError as error:
                    raise error.within(f"{self.plan.name}: {planned.row}") from None

    def _require_same_origin(self, planned: PlannedRun) -> None:
        config, folder = self._placed(planned), self.folder_of(planned)
        origin = read_origin(folder / "config.json")
        try:
            if config.family not in FAMILIES and not is_reference(config.network):
                neuron = neuron_of(config, recorded=True)
                require_same_neuron(origin, config, neuron, config.family)
                require_same_definition(folder, config, neuron)
            own_data = self.data is not None or config.data == "arrays" or ":" in config.data
            if own_data or is_reference(config.network):
                data = dataset_of(config, self._samples(planned, config))
                require_same_data(origin, data)
            if is_reference(config.network):
                with warnings.catch_warnings(action="ignore"):  # an error here
                    network = load_run(folder, data).network
                if changed := changed_code(origin, network):
                    raise ModelError(f"network: {config.network}", changed)
        except ModelError as error:
            raise ModelError(error.where, error.problem, error.accepted, _RESTART) from None

    def _placed(self, planned: PlannedRun) -> TrainConfig:
        """Return the config of a run with the folder of its data on this machine."""
        return replace(planned.config, data_dir=self.data_dir or planned.config.data_dir)

    def _samples(self, planned: PlannedRun, config: TrainConfig) -> Dataset:
        """Return the samples of a run; of a triple, a search has the second part to test on."""
        data = self.data
        if data is None:
            key = repr((config.data, config.data_dir, config.data_arguments, config.limit))
            if key not in _LOADED:
                _LOADED[key] = dataset_of(replace(config, validation=0))
            data = _LOADED[key]
        if planned.phase == "search":
            if not (config.validation or data.is_held_out):
                problem = "settings are searched, and no sample is held out"
                remedy = "Give validation in [search], or data that return (train, valid, test)."
                raise ModelError("search", problem, remedy=remedy)
            return data
        whole = data.with_test()
        if whole.is_held_out:
            problem, remedy = "the samples have no test split", "Give (train, valid, test)."
            raise ModelError("data", problem, remedy=remedy)
        return whole

    def do(self, planned: PlannedRun, progress: bool = True) -> None:
        """Make a run and write its result; of a run that diverged, the reason.

        Raises:
            LnmError: It cannot start.
        """
        shown, began = self.plan.row(planned.row).shown[planned.setting], time.perf_counter()
        setting = f" ({shown})" * bool(shown)
        title = f"{planned.row}, {planned.phase}{setting}, seed {planned.seed}"
        try:
            values = _values(self.train(planned))
            said = f"{100 * values['accuracy']:.1f} %"
        except DivergedError as error:
            reason, _, _ = str(error).partition(" Epoch ")  # without the path on this machine
            values, said = {"failed": reason}, f"diverged: {reason}"
        except LnmError as error:
            raise error.within(f"{self.plan.name}: {planned.row}") from None
        self.results.add(planned, shown, values)
        if progress:
            seconds = f"in {time.perf_counter() - began:.0f} s"
            print(f"{title}: {said} {seconds}", file=sys.stderr, flush=True)


def _values(result: RunResult) -> dict[str, Any]:
    """Return the columns of a run that ended."""
    last, seconds = result.epochs[-1], [e.seconds for e in result.epochs]
    return {
        "accuracy": round(last.test_accuracy or 0.0, 6),
        "train_accuracy": round(last.train_accuracy or 0.0, 6), "loss": round(last.loss, 6),
        "rates": " ".join(f"{r:.5f}" for r in last.rates),
        "outside": " ".join(f"{r:.3g}" for r in last.outside),
        "parameters": sum(p.numel() for p in result.network.parameters()),
        "seconds_per_epoch": round(sorted(seconds)[len(seconds) // 2], 4),
    }  # fmt: skip


def runs_of(
    plan: ComparisonPlan | str | Path,
    out: str | Path | None = None,
    results: str | Path | None = None,
    data: Any = None,
    data_dir: str | Path | None = None,
) -> ComparisonRuns:
    """Return the runs of a plan, or of its file, in their places: see `compare`."""
    known = plan if isinstance(plan, ComparisonPlan) else read_plan(plan)
    folder = Path("runs", known.name) if out is None else Path(out)
    file = ResultFile(folder / "results.csv" if results is None else Path(results))
    samples = None if data is None else samples_of("compare", data)
    return ComparisonRuns(
        known, folder, file, samples, None if data_dir is None else Path(data_dir)
    )


def compare(
    plan: ComparisonPlan | str | Path,
    out: str | Path | None = None,
    *,
    results: str | Path | None = None,
    data: Any = None,
    data_dir: str | Path | None = None,
    selection: RunSelection | None = None,
    reference: str | None = None,
    jobs: int = 1,
    minutes: float | None = None,
    progress: bool = False,
) -> ComparisonTable:
    """Make every run of a plan that has no result yet, and return the table of all results.

    It may be stopped at any moment, and continues when it is called again.

    Args:
        plan: A plan of `read_plan`, or its file.
        out: Folder of the run folders; by default runs/<plan>.
        results: CSV file of the results; by default results.csv in `out`.
        data: Samples for every run, as `run` takes them; by default those that the plan names.
        data_dir: Folder of the data, in place of that of the plan.
        selection: Some runs of the plan; by default all.
        reference: Row that the others are compared with; by default that of the plan.
        jobs: Number of processes. With more than one, a script needs the guard
            `if __name__ == "__main__":`. Results do not depend on it: a run has the threads of the
            plan, by default one.
        minutes: Begin no run after this time.
        progress: Print a line on standard error for each run.

    Raises:
        ModelError: The plan does not fit its results; a neuron, a network or samples of yours have
            changed since a run with a result; or a run cannot start.
        ToolError: The data, matplotlib or SciPy are missing, or a process was killed.
    """
    require_scipy("compare")
    require_matplotlib("compare")  # each run draws a figure
    require_integer("compare", "jobs", jobs)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ModelError("compare", "started by torchrun", remedy="Start it alone, with jobs.")
    runs, chosen = runs_of(plan, out, results, data, data_dir), selection or RunSelection()
    base, rows = reference_of(runs.plan, reference), runs.plan.names(chosen.row)
    if chosen.seed is not None and not any(chosen.seed in runs.plan.row(r).seeds for r in rows):
        seeds = sorted({seed for r in rows for seed in runs.plan.row(r).seeds})
        problem, accepted = f"seed {chosen.seed} is not in the plan", map(str, seeds)
        raise ModelError(f"compare: {runs.plan.name}", problem, accepted)
    if data is None:
        runs.plan.require_names(rows, runs.data_dir)
    _LOADED.clear()  # files may have changed since an earlier call
    is_waiting = bool(runs.waiting(chosen))
    runs.require_same_origin(rows)
    if is_waiting:
        _work(runs, chosen, minutes, progress, jobs)
    elif unsearched := [row for row in rows if row not in runs.best()]:
        problem = f"no setting is chosen for {unsearched[0]!r}, whose search is not complete"
        remedy = "Make its search first: leave out the seed and the phase."
        raise ModelError(f"compare: {runs.plan.name}", problem, remedy=remedy)
    return table_of(runs.plan, runs.results.read(), base)


def _work(
    runs: ComparisonRuns,
    selection: RunSelection,
    minutes: float | None,
    progress: bool,
    jobs: int,
) -> None:
    if jobs == 1:
        runs.work(selection, minutes, progress)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, context, initializer=keep_pages) as pool:
        parts = [pool.submit(runs.work, selection, minutes, progress) for _ in range(jobs)]
        try:
            for part in parts:
                part.result()
        except BrokenProcessPool:
            problem, remedy = "a process was killed", "Give the same command again to go on."
            raise ToolError("compare", problem, remedy=remedy) from None
