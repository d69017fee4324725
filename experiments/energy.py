"""Energy of an inference of every trained network, compared with LIF in the same network.

    python experiments/energy.py mnist1d_feedforward --against "LIF, hard"

The script reads the run folders of the final runs and writes results/<plan>.energy.csv, a line for
each network, compared with the LIF of its seed. Counts are means over the test set
(`insight/energy`). write.py rewrites the tables of pages.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path

from lnm_codegen.insight.energy.table import as_csv, energy_rows

sys.path.insert(0, str(Path(__file__).parent))
import places
from page import lines_of

OVERHEADS = ("fp32", "int8", "lemaire")
HEAD = (
    "neuron", "seeds", "MAC", "AC", "spikes", "rate", *(f"over LIF, {by}" for by in OVERHEADS),
    "ResNet-19, own rates", "ResNet-19, one rate",
)  # fmt: skip


def main() -> None:
    """Read the arguments and count."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("plan")
    parser.add_argument("--against", default="LIF", help="row that the overheads are relative to")
    parser.add_argument("--limit", type=int, help="use only N test samples")
    options = parser.parse_args()
    count(options.plan, options.against, options.limit)
    print("\n".join(table(options.plan)))


def path_of(plan: str) -> Path:
    return places.RESULTS / f"{plan}.energy.csv"


def count(name: str, against: str, limit: int | None) -> None:
    """Count every final run with a complete folder, seed by seed, and write the lines."""
    runs, rows = places.runs(name), []
    ended = [one for one in runs.ended() if runs.is_complete(one)]
    for seed in runs.plan.seeds:
        mine = {one.row: runs.folder_of(one) for one in ended if one.seed == seed}
        if against in mine:
            base = mine.pop(against)
            lines = energy_rows(list(mine.values()), base, limit)
            names = (against, *mine)
            rows += [
                {**line, "run": row, "seed": seed} for row, line in zip(names, lines, strict=True)
            ]
    made = {(row["run"], str(row["seed"])) for row in rows}
    others = [row for row in lines_of(path_of(name)) if (row["run"], row["seed"]) not in made]
    path_of(name).write_text(as_csv([*others, *rows]), encoding="utf-8")


def table(plan: str) -> list[str]:
    """Return the table of a plan: means over seeds."""
    lines = lines_of(path_of(plan))
    head = [f"| {' | '.join(HEAD)} |", f"|{' --- |' * len(HEAD)}"]
    order = [row.name for row in places.read_plan(plan).rows]
    names = sorted({line["run"] for line in lines}, key=order.index)
    return head + [row([line for line in lines if line["run"] == name]) for name in names]


def row(lines: list[dict[str, str]]) -> str:
    """Return the line of one neuron."""

    def mean(word: str) -> float:
        return statistics.mean(float(line[word]) for line in lines)

    cells = [lines[0]["run"], str(len(lines))]
    cells += [f"{mean(word):,.0f}" for word in ("mac", "ac", "spikes")] + [f"{mean('rate'):.3f}"]
    for word in (*(f"overhead_{by}" for by in OVERHEADS), "resnet19"):
        parts = f"{mean(f'{word}_neuron'):+.1f} neurons, {mean(f'{word}_rates'):+.1f} spikes"
        cells.append(f"{mean(word):+.1f} % ({parts})")
    folded = lines[0]["resnet19_folded"]
    cells.append(f"{mean('resnet19_folded'):+.1f} %" if folded else "")
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
