"""Repetition of final runs: train them again and print each accuracy with those of the table.

    python experiments/again.py mnist1d_feedforward --row "LIF, hard" --seed 3
    python experiments/again.py mnist1d_feedforward --row "LIF, hard" --seed 11    a further seed
    python experiments/again.py ecg_qtdb --data-dir folder --jobs 2

A seed that the plan lacks is trained in the setting that the search chose. No result is written.
energy.py, dynamics.py and `lnm analyze` read the run folders in experiments/runs. A run whose
folder is complete is not trained again.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import sys
from pathlib import Path

from filelock import Timeout

from lnm_codegen.errors import DivergedError, LnmError
from lnm_codegen.nn import keep_pages
from lnm_codegen.train.comparison.plan import PlannedRun
from lnm_codegen.train.comparison.queue import ComparisonRuns

sys.path.insert(0, str(Path(__file__).parent))
import places


def main() -> None:
    """Read the arguments and train in `--jobs` processes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("plan", help="a TOML file of this folder, without .toml")
    parser.add_argument("--row", help="a row, or a text in the names of several rows")
    parser.add_argument("--seed", type=int, help="only runs of this seed, or of a further one")
    parser.add_argument("--jobs", type=int, default=1, help="processes of one thread")
    parser.add_argument("--data-dir", type=Path, help="folder of the data, if they need one")
    options = parser.parse_args()
    runs = places.runs(options.plan, options.data_dir)
    try:
        selected = repeatable(runs, options.row, options.seed)
    except LnmError as error:
        sys.exit(str(error))
    if not selected:
        parser.error(f"the table of {options.plan} has no final run of this row and seed")
    for one in selected:
        if runs.is_complete(one):
            said = f"not trained again, its run folder is complete: {runs.folder_of(one)}"
            print(f"{named(runs, one)}: {said}")
    left = [one for one in selected if not runs.is_complete(one)]
    if options.jobs == 1:
        repeat(runs, left)
        return
    context = multiprocessing.get_context("spawn")
    workers = [
        context.Process(target=repeat, args=(runs, left))
        for _ in range(min(options.jobs, len(left)))
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    sys.exit(any(worker.exitcode for worker in workers))


def repeatable(runs: ComparisonRuns, row: str | None, seed: int | None) -> list[PlannedRun]:
    """Return the selected final runs with an accuracy in the table, or those of a further seed."""
    plan, best = runs.plan, runs.best()
    rows = [name for name in plan.names(row) if name in best]
    selected = [r for r in runs.ended() if r.row in rows and seed in (None, r.seed)]
    if row is not None and seed is not None:
        further = [name for name in rows if seed not in plan.row(name).seeds]
        selected += [plan.run_of(name, "final", best[name], seed) for name in further]
    return selected


def repeat(runs: ComparisonRuns, left: list[PlannedRun]) -> None:
    """Train each of these runs that no other process has trained or is training."""
    finals = [r for r in runs.results.read() if r.phase == "final" and not r.values["failed"]]
    for one in left:
        try:
            with runs.lock_of(one).acquire(timeout=0):
                if runs.is_complete(one):
                    continue
                accuracy = runs.train(one).epochs[-1].test_accuracy or 0.0
        except Timeout:
            continue
        except DivergedError as error:
            print(f"{named(runs, one)}: {error}", flush=True)
            continue
        except LnmError as error:
            sys.exit(f"{named(runs, one)}: {error}")
        same = {r.seed: r.accuracy for r in finals if r.row == one.row}
        said = f"{accuracy:.4f}, in the table {same.get(one.seed, float('nan')):.4f}"
        if one.seed not in same:
            said = place(accuracy, list(same.values()))
        print(f"{named(runs, one)}: {said}", flush=True)


def place(accuracy: float, others: list[float]) -> str:
    """Return an accuracy in percent, with the place that it has among others."""
    said = f"{100 * accuracy:.1f}"
    if not others:
        return f"{said}; the table has no seed of this row"
    low, high, mean = (100 * f(others) for f in (min, max, statistics.mean))
    one = len(others) == 1
    spread = "" if one else f", standard deviation {100 * statistics.stdev(others):.1f}"
    below = sum(other < accuracy for other in others)
    return (
        f"{said}; the table has n = {len(others)}, {low:.1f} to {high:.1f},"
        f" mean {mean:.1f}{spread}; {below} of them are below"
    )


def named(runs: ComparisonRuns, one: PlannedRun) -> str:
    return f"{runs.plan.name} {one.row} seed {one.seed}"


if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    keep_pages()  # each step allocates and frees the same tensors
    main()
