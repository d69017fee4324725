"""Repetition of final runs: train them again and print each accuracy with that of the table.

    python experiments/again.py mnist1d_feedforward --row "LIF, hard" --seed 3
    python experiments/again.py ecg_qtdb --data-dir folder --jobs 2

It writes no result. energy.py, dynamics.py and `lnm analyze` read the run folders that it leaves
in experiments/runs. A run whose folder is complete is not trained again.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from lnm_codegen.errors import DivergedError, LnmError
from lnm_codegen.nn import keep_pages

sys.path.insert(0, str(Path(__file__).parent))
import results
from plan import Job, Plan, read_plan, selected
from run import at_least_one, complete, folder_of, train


def main() -> None:
    """Read the arguments and train in `--jobs` processes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("plan", help="a TOML file of this folder, without .toml")
    parser.add_argument("--row", help="a row, or a text in the names of several rows")
    parser.add_argument("--seed", type=int, help="only runs of this seed")
    parser.add_argument("--jobs", type=at_least_one, default=1, help="processes of one thread")
    parser.add_argument("--data-dir", type=Path, help="folder of the data, if they need one")
    options = parser.parse_args()
    plan = read_plan(options.plan)
    selected_jobs = repeatable(plan, options.row, options.seed)
    if not selected_jobs:
        parser.error(f"the table of {plan.name} has no final run of this row and seed")
    for job in selected_jobs:
        if complete(job):
            print(f"{named(job)}: not trained again, its run folder is complete: {folder_of(job)}")
    jobs = [job for job in selected_jobs if not complete(job)]
    if options.jobs == 1:
        repeat(plan, jobs, options.data_dir)
        return
    context = multiprocessing.get_context("spawn")
    workers = [
        context.Process(target=repeat, args=(plan, jobs, options.data_dir))
        for _ in range(min(options.jobs, len(jobs)))
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    sys.exit(any(worker.exitcode for worker in workers))


def repeatable(plan: Plan, row: str | None, seed: int | None) -> list[Job]:
    """Return the selected final runs that have an accuracy in the table."""
    found = results.read(plan.name)
    whole = {r.key for r in found if not r.values["failed"]}
    jobs = plan.finals(results.best_settings(plan, found))
    return [job for job in selected(plan, jobs, row, seed) if job.key in whole]


def repeat(plan: Plan, jobs: list[Job], data_dir: Path | None) -> None:
    """Train each of `jobs` that no other process has trained or is training."""
    torch.set_num_threads(1)
    recorded = {r.key: r.accuracy for r in results.read(plan.name)}
    for job in jobs:
        folder_of(job).parent.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(f"{folder_of(job)}.lock", timeout=0):
                if complete(job):
                    continue
                accuracy = train(plan, job, data_dir).epochs[-1].test_accuracy or 0.0
        except Timeout:
            continue
        except DivergedError as error:
            print(f"{named(job)}: {error}", flush=True)
            continue
        except LnmError as error:
            sys.exit(f"{named(job)}: {error}")
        print(f"{named(job)}: {accuracy:.4f}, in the table {recorded[job.key]:.4f}", flush=True)


def named(job: Job) -> str:
    return f"{job.plan} {job.row} seed {job.seed}"


if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    keep_pages()  # each step allocates and frees the same tensors
    main()
