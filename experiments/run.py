"""Run an experiment: every job of its file that has no result yet, searches first.

    python experiments/run.py mnist1d_feedforward --jobs 2
    python experiments/run.py mnist1d_feedforward --row "LIF, hard" --seed 3     one run of a row

What has a result is not run again; again.py repeats it. It may be stopped at any moment and started
again, in several processes at once: a job is claimed by a lock, a result is written when the run
has ended, and a run that was cut off goes on after its last epoch. Run folders lie in
experiments/runs (not committed); results in experiments/results.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from lnm_codegen.bench.measure import keep_memory
from lnm_codegen.errors import DivergedError, LnmError
from lnm_codegen.train.data import Dataset
from lnm_codegen.train.engine import dataset_of
from lnm_codegen.train.runs.runner import RunResult, run

sys.path.insert(0, str(Path(__file__).parent))
import results
from plan import Job, Plan, read_plan, selected

RUNS = Path(__file__).parent / "runs"
DATA: dict[str, Dataset] = {}


def main() -> None:
    """Read the arguments and work through the queue."""
    keep_memory()  # a step makes and frees the same tensors again and again
    options = arguments()
    if not waiting(read_plan(options.plan), options):
        print(f"{options.plan}: nothing left to run of what was asked for")
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
    parser.add_argument("--jobs", type=some, default=1, help="processes, each with one thread")
    parser.add_argument("--row", help="the row of this name, or all whose name holds this text")
    parser.add_argument("--seed", type=int, help="only final runs of this seed")
    parser.add_argument("--phase", choices=("search", "final"), help="only this phase")
    parser.add_argument("--data-dir", type=Path, help="folder of the data, where they need one")
    parser.add_argument("--minutes", type=float, help="begin no job after so many minutes")
    return parser.parse_args()


def some(text: str) -> int:
    """Return a number of processes."""
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} processes. Accepted: 1 or more.")
    return int(text)


def work(options: argparse.Namespace) -> None:
    """Take one job after another until none is left."""
    torch.set_num_threads(1)
    plan, began = read_plan(options.plan), time.monotonic()
    while options.minutes is None or time.monotonic() - began < 60 * options.minutes:
        job, lock = claim(plan, options)
        if job is None or lock is None:
            if not waiting(plan, options):
                return
            time.sleep(2)  # others work on all that is left; what they find may make more
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
    done = {r.key for r in found}
    jobs = [] if options.phase == "final" or options.seed is not None else plan.searches()
    if options.phase != "search":
        jobs += plan.finals(results.chosen(plan, found))
    ended = {(r.row, r.seed) for r in found if r.phase == "final" and not r.values["failed"]}
    return [
        job
        for job in selected(plan, jobs, options.row, options.seed)
        if job.key not in done and (job.after is None or (job.after, job.seed) in ended)
    ]


def claim(plan: Plan, options: argparse.Namespace) -> tuple[Job | None, FileLock | None]:
    """Return the first job that no other process works on."""
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


def first_of(plan: Plan, job: Job) -> Job:
    """Return the final run whose learned neurons a job begins with."""
    jobs = plan.finals(results.chosen(plan, results.read(plan.name)))
    return next(j for j in jobs if (j.row, j.seed) == (job.after, job.seed))


def folder_of(job: Job) -> Path:
    name = "".join(c if c.isalnum() else "-" for c in job.row)
    return RUNS / job.plan / f"{name}_{job.phase}{job.setting}_seed{job.seed}"


def complete(job: Job) -> bool:
    """Whether the folder of a job has a whole run: its figure is written last."""
    return (folder_of(job) / "figure.png").is_file()


def train(plan: Plan, job: Job, data_dir: Path | None) -> RunResult:
    """Run a job, from where it was cut off; first, if need be, the run that it begins with."""
    config = replace(job.config, data_dir=data_dir or job.config.data_dir)
    if job.after is not None:
        first = first_of(plan, job)
        with FileLock(f"{folder_of(first)}.lock"):
            if not complete(first):
                train(plan, first, data_dir)
        config = replace(config, neurons_from=folder_of(first))
    key = f"{config.data} {config.data_arguments} {config.limit} {config.validation}"
    if key not in DATA:
        DATA[key] = dataset_of(config)
    return run(config, folder_of(job), resume=True, data=DATA[key])


def do(plan: Plan, job: Job, data_dir: Path | None) -> None:
    """Run a job and write its result; a run that diverged has none but the reason."""
    row = next(r for r in plan.rows if r.name == job.row)
    shown, began = row.shown[job.setting], time.perf_counter()
    try:
        result = train(plan, job, data_dir)
    except DivergedError as error:
        said, _, _ = str(error).partition(" Epoch ")  # what is kept where is of this machine
        results.add(job, shown, {"failed": said})
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


if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    main()
