"""Queue of an experiment: every job of its file without a result, searches first.

    python experiments/run.py mnist1d_feedforward --jobs 2
    python experiments/run.py mnist1d_feedforward --row "LIF, hard" --seed 3     one run of a row
    python experiments/run.py mnist1d_feedforward --row "LIF, hard" --seed 11    of a further seed

A job with a result is not run again; again.py repeats it. A seed that the plan lacks is run in the
setting that the search chose; its place among the others is printed, and no result is written.

The queue can be stopped at any moment and started again, also in several processes: a lock claims a
job, the result is written when the run ends, and an interrupted run resumes after its last epoch.
Run folders are in experiments/runs (not committed), results in experiments/results.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from lnm_codegen.errors import DivergedError, LnmError
from lnm_codegen.nn import keep_pages
from lnm_codegen.train.data import Dataset
from lnm_codegen.train.engine import dataset_of
from lnm_codegen.train.runs.runner import RunResult, run

sys.path.insert(0, str(Path(__file__).parent))
import results
from plan import Job, Plan, names_of, read_plan, selected

RUNS = Path(__file__).parent / "runs"
DATA: dict[str, Dataset] = {}


def main() -> None:
    """Read the arguments and work through the queue."""
    keep_pages()  # each step allocates and frees the same tensors
    options = arguments()
    plan = read_plan(options.plan)
    rows = [row for row in plan.rows if row.name in names_of(plan, options.row)]
    if options.seed is not None and not any(options.seed in row.seeds for row in rows):
        beyond(plan, options)
        return
    if not waiting(plan, options):
        print(f"{options.plan}: nothing left to run of this selection")
        return
    if options.jobs == 1:
        work(options)
        return
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=work, args=(options,)) for _ in range(options.jobs)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    sys.exit(any(worker.exitcode for worker in workers))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("plan", help="a TOML file of this folder, without .toml")
    parser.add_argument("--jobs", type=at_least_one, default=1, help="processes of one thread")
    parser.add_argument("--row", help="a row, or a text in the names of several rows")
    parser.add_argument(
        "--seed", type=int, help="only final runs of this seed, or of a further one"
    )
    parser.add_argument(
        "--seeds", metavar="N", type=at_least_one, help="only the first N seeds of the plan"
    )
    parser.add_argument("--phase", choices=("search", "final"), help="only this phase")
    parser.add_argument("--data-dir", type=Path, help="folder of the data, if they need one")
    parser.add_argument("--minutes", type=float, help="start no job after N minutes")
    return parser.parse_args()


def at_least_one(text: str) -> int:
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text}. Accepted: 1 or more.")
    return int(text)


def work(options: argparse.Namespace) -> None:
    """Run one job after another until none is left."""
    torch.set_num_threads(1)
    plan, began = read_plan(options.plan), time.monotonic()
    while options.minutes is None or time.monotonic() - began < 60 * options.minutes:
        job, lock = claim(plan, options)
        if job is None or lock is None:
            if not waiting(plan, options):
                return
            time.sleep(2)  # other processes have the rest; their results may add jobs
            continue
        try:
            do(plan, job, options.data_dir)
        except LnmError as error:
            sys.exit(f"{plan.name}: {job.row}: {error}")
        finally:
            lock.release()


def waiting(plan: Plan, options: argparse.Namespace) -> list[Job]:
    """Return the jobs without a result, in order."""
    found = results.read(plan.name)
    best = results.best_settings(plan, found)
    jobs = [] if options.phase == "final" or options.seed is not None else plan.searches()
    if options.phase != "search":
        jobs += plan.finals(best, options.seeds)
    ended = {r.key: not r.values["failed"] for r in found}
    return [
        job
        for job in selected(plan, jobs, options.row, options.seed)
        if job.key not in ended and ready(plan, job, best, ended)
    ]


def ready(
    plan: Plan, job: Job, best: Mapping[str, int], ended: Mapping[tuple[str, str, int, int], bool]
) -> bool:
    """Report whether the run that a job starts from, if any, is known and has not diverged."""
    if job.after is None:
        return True
    if job.after not in best:
        return False
    return ended.get(first_of(plan, job, best).key, job.phase == "search")


def claim(plan: Plan, options: argparse.Namespace) -> tuple[Job | None, FileLock | None]:
    """Return the first job that no other process has claimed."""
    for job in waiting(plan, options):
        folder = folder_of(job)
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(f"{folder}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            continue
        if job.key in {r.key for r in results.read(plan.name)}:
            lock.release()
            continue
        return job, lock
    return None, None


def first_of(plan: Plan, job: Job, best: Mapping[str, int]) -> Job:
    """Return the run whose learned neurons a job starts from, of the same phase and seed."""
    row = next(row for row in plan.rows if row.name == job.after)
    return plan.job(row, job.phase, best[row.name], job.seed)


def folder_of(job: Job) -> Path:
    name = "".join(c if c.isalnum() else "-" for c in job.row)
    return RUNS / job.plan / f"{name}_{job.phase}{job.setting}_seed{job.seed}"


def complete(job: Job) -> bool:
    """Report whether the folder of a job has a whole run: its figure is written last."""
    return (folder_of(job) / "figure.png").is_file()


def train(plan: Plan, job: Job, data_dir: Path | None) -> RunResult:
    """Run or resume a job, and before it the run that it starts from, if necessary."""
    config = replace(job.config, data_dir=data_dir or job.config.data_dir)
    if job.after is not None:
        first = first_of(plan, job, results.best_settings(plan, results.read(plan.name)))
        with FileLock(f"{folder_of(first)}.lock"):
            if not complete(first):
                train(plan, first, data_dir)
        config = replace(config, neurons_from=folder_of(first))
    key = f"{config.data} {config.data_arguments} {config.limit} {config.validation}"
    if key not in DATA:
        DATA[key] = dataset_of(config)
    return run(config, folder_of(job), resume=True, data=DATA[key])


def do(plan: Plan, job: Job, data_dir: Path | None) -> None:
    """Run a job and write its result; for a run that diverged, the reason."""
    row = next(r for r in plan.rows if r.name == job.row)
    shown, began = row.shown[job.setting], time.perf_counter()
    try:
        result = train(plan, job, data_dir)
    except DivergedError as error:
        reason, _, _ = str(error).partition(" Epoch ")  # without the path on this machine
        results.add(job, shown, {"failed": reason})
        print(f"{job.plan} {job.row} {job.phase} {shown} seed {job.seed}: {error}", flush=True)
        return
    last, seconds = result.epochs[-1], [e.seconds for e in result.epochs]
    values = {
        "accuracy": round(last.test_accuracy or 0.0, 6),
        "train_accuracy": round(last.train_accuracy, 6), "loss": round(last.loss, 6),
        "rates": " ".join(f"{r:.5f}" for r in last.rates),
        "outside": " ".join(f"{r:.3g}" for r in last.outside),
        "parameters": sum(p.numel() for p in result.network.parameters()),
        "seconds_per_epoch": round(sorted(seconds)[len(seconds) // 2], 4),
    }  # fmt: skip
    results.add(job, shown, values)
    print(
        f"{job.plan} {job.row} {job.phase} {shown} seed {job.seed}: {values['accuracy']:.4f}"
        f" train {values['train_accuracy']:.4f} in {time.perf_counter() - began:.0f} s",
        flush=True,
    )


def beyond(plan: Plan, options: argparse.Namespace) -> None:
    """Train a row with a seed that the plan lacks and print where the accuracy falls."""
    if options.row is None:
        sys.exit(f"{plan.name}: seed {options.seed} is not in the plan. Name a row with --row.")
    torch.set_num_threads(1)
    found = results.read(plan.name)
    best, names = results.best_settings(plan, found), names_of(plan, options.row)
    rows = [row for row in plan.rows if row.name in names and row.name in best]
    jobs = [plan.job(row, "final", best[row.name], options.seed) for row in rows]
    if not jobs:
        sys.exit(f"{plan.name}: {options.row}: no setting is chosen; its search is not complete.")
    for job in jobs:
        others = [
            r.accuracy
            for r in found
            if (r.row, r.phase) == (job.row, "final") and not r.values["failed"]
        ]
        folder_of(job).parent.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(f"{folder_of(job)}.lock"):
                accuracy = train(plan, job, options.data_dir).epochs[-1].test_accuracy or 0.0
            said = results.place(accuracy, others)
        except DivergedError as error:
            said = str(error)
        except LnmError as error:
            sys.exit(f"{plan.name}: {job.row}: {error}")
        print(f"{job.plan} {job.row} seed {job.seed}, not in the plan: {said}", flush=True)


if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    main()
