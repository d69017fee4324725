"""Queue of the experiments on learned dynamics: one run at a time, the most valuable rows first.

    python experiments/run_all.py --data-dir DIR        until every stage is complete
    python experiments/run_all.py --list                the stages, with the runs that have results

DIR holds QTDB_train.mat, QTDB_test.mat and the idx files of MNIST (docs/data.md). A stage is some
rows of a plan with the first seeds of that plan: a row is searched and run with these seeds before
the next begins. The queue can be killed at any moment and started again, as `run.py` can; a stage
that cannot start, say without its data, is reported, and the others go on.

The package is the one beside this folder, whatever is installed: a checkout of its own (`git
worktree add --detach DIR`) trains one commit while the files of another checkout change.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))
sys.path.insert(0, str(Path(__file__).parent))

import results
from plan import names_of, read_plan
from run import work

from lnm_codegen.nn import keep_pages


@dataclass(frozen=True)
class Stage:
    """Rows of a plan, with its first seeds.

    Attributes:
        plan: Name of the plan.
        seeds: Number of final seeds.
        rows: Names of rows, or texts in them, in this order; "" for all rows.
        files: The data are in the folder of --data-dir.
    """

    plan: str
    seeds: int
    rows: tuple[str, ...] = ("",)
    files: bool = False

    def options(self, row: str, data_dir: Path | None, minutes: float | None) -> argparse.Namespace:
        """Return the options of `run.py` for some of the rows."""
        return argparse.Namespace(
            plan=self.plan, row=row or None, seed=None, seeds=self.seeds, phase=None,
            data_dir=data_dir if self.files else None, minutes=minutes,
        )  # fmt: skip


MNIST1D = (
    "LNM two states, degree 1, free, channel", "LIF", "PLIF", "LNM degree 3, channel",
    "LNM two states, degree 1, pole, channel", "LNM degree 1, channel", "GLIF", "cuba_lif",
    "adlif", "brf", "rf", "LIF, drawn leaks", "LNM two states, degree 1, frozen as drawn, channel",
)  # fmt: skip
"""Rows of mnist1d_neurons on which a sentence of the README rests."""
ECG = (
    "LNM two states, degree 1, pole", "LIF", "ALIF", "brf", "LNM degree 1",
    "LNM two states, degree 1, free",
)  # fmt: skip
"""The same of ecg_qtdb_neurons."""
RECURRENT = ("LNM two states, degree 1, pole", "LIF", "PLIF")

STAGES = (
    Stage("mnist1d_neurons", 3, MNIST1D),
    Stage("ecg_qtdb_neurons", 3, ECG, files=True),
    Stage("mnist1d_neurons", 10, MNIST1D),
    Stage("curvature", 3, ("first bound", "gated memory", "delayed XOR")),
    Stage("ecg_qtdb_neurons", 10, ECG, files=True),
    Stage("mnist1d_neurons", 3),
    Stage("ecg_qtdb_neurons", 3, files=True),
    Stage("mnist_permuted", 1, files=True),
    Stage("fashion_conv_neurons", 3),
    Stage("mnist1d_recurrent_neurons", 3),
    Stage("fashion_columns", 10),
    Stage("curvature", 10),
    Stage("gated_memory", 10),
    Stage("mnist1d_recurrent_neurons", 10, RECURRENT),
    Stage("mnist1d_neurons", 10),
    Stage("ecg_qtdb_neurons", 10, files=True),
    Stage("mnist_permuted", 2, files=True),
)


def main() -> None:
    """Read the arguments and work through the stages."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", type=Path, help="folder of the files of ECG-QTDB and MNIST")
    parser.add_argument("--minutes", type=float, help="start no run after N minutes")
    parser.add_argument("--list", action="store_true", help="print the stages and run nothing")
    options = parser.parse_args()
    if options.list:
        for number, stage in enumerate(STAGES, 1):
            done, total = progress(stage)
            print(f"{number} {stage.plan}, {stage.seeds} seeds: {done} of {total} runs")
        return
    keep_pages()  # each step allocates and frees the same tensors
    sys.exit(run_stages(options.data_dir, options.minutes))


def run_stages(data_dir: Path | None, minutes: float | None) -> int:
    """Run what has no result, stage by stage; return 1 if a stage could not go on, else 0."""
    end = None if minutes is None else time.monotonic() + 60 * minutes
    failed: set[str] = set()
    for stage in STAGES:
        for row in stage.rows:
            left = None if end is None else (end - time.monotonic()) / 60
            if stage.plan in failed:
                continue
            try:
                work(stage.options(row, data_dir, left))
            except SystemExit as error:
                print(error, flush=True)
                failed.add(stage.plan)
    return int(bool(failed))


def progress(stage: Stage) -> tuple[int, int]:
    """Return the number of runs of a stage with a result, and of all its runs."""
    plan, found = read_plan(stage.plan), results.read(stage.plan)
    names = {name for row in stage.rows for name in names_of(plan, row)}
    # A final run is counted under any setting: its own is known after the search.
    wanted = {(j.row, j.setting, j.seed) for j in plan.searches()}
    wanted |= {(row.name, None, seed) for row in plan.rows for seed in row.seeds[: stage.seeds]}
    done = {(r.row, None if r.phase == "final" else r.setting, r.seed) for r in found}
    wanted = {key for key in wanted if key[0] in names}
    return len(wanted & done), len(wanted)


if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    main()
