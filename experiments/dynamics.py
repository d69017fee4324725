"""Classes of behaviour of the trained neurons in each layer, over the final seeds.

    python experiments/dynamics.py mnist1d_feedforward --rows LNM
    python experiments/dynamics.py mnist1d_feedforward --rows "LNM degree 3, channel, soft" \
        --figure docs/dynamics.png

The script analyses the run folders of the final runs (`lnm analyze` does one) and writes
results/<plan>.dynamics.csv, a line for each layer of each network. With --figure it only draws the
charge of every layer, for the first seed of the first such row. write.py rewrites the tables of
pages.
"""

from __future__ import annotations

import argparse
import csv
import io
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lnm_codegen.analysis.canvas import png
from lnm_codegen.insight import CLASSES, analyze_run
from lnm_codegen.insight.figures import grid_figure
from lnm_codegen.train.comparison.plan import PlannedRun
from lnm_codegen.train.runs.saved import load_run

sys.path.insert(0, str(Path(__file__).parent))
import places
from page import lines_of

SAMPLES = 200
"""Test samples of a network, enough for the potentials that it visits."""


def main() -> None:
    """Read the arguments; analyse, or draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("plan")
    parser.add_argument("--rows", default="LNM", help="rows whose names begin with this text")
    parser.add_argument("--figure", type=Path, metavar="FILE.png", help="draw one network instead")
    options = parser.parse_args()
    if options.figure is not None:
        first = next(whole(options.plan, options.rows), None)
        if first is None:
            parser.error(f"no run folder of {options.plan} is complete: again.py makes them")
        found = analyze_run(load_run(first[1]), SAMPLES)
        options.figure.write_bytes(png(grid_figure(found)))
        print(f"{options.figure}: {first[0].row}, seed {first[0].seed}. {found.diversity}")
    else:
        count(options.plan, options.rows)
        print("\n".join(table(options.plan)))


def path_of(plan: str) -> Path:
    return places.RESULTS / f"{plan}.dynamics.csv"


def whole(name: str, rows: str) -> Iterator[tuple[PlannedRun, Path]]:
    """Yield the final runs of some rows that have a result, with their complete folders."""
    runs = places.runs(name)
    for one in runs.ended():
        if one.row.startswith(rows) and runs.is_complete(one):
            yield one, runs.folder_of(one)


def count(name: str, rows: str) -> None:
    """Analyse every such run that is not yet in the table, and add its lines."""
    known = {(line["row"], line["seed"]) for line in lines_of(path_of(name))}
    lines: list[dict[str, Any]] = list(lines_of(path_of(name)))
    for one, folder in whole(name, rows):
        if (one.row, str(one.seed)) in known:
            continue
        for k, layer in enumerate(analyze_run(load_run(folder), SAMPLES).layers, 1):
            counts = {label: layer.classes.get(label, 0) for label in CLASSES}
            lines.append({"row": one.row, "seed": one.seed, "layer": k, **counts})
    text = io.StringIO()
    out = csv.DictWriter(text, ("row", "seed", "layer", *CLASSES), lineterminator="\n")
    out.writeheader()
    out.writerows(lines)
    path_of(name).write_text(text.getvalue(), encoding="utf-8")


def table(name: str) -> list[str]:
    """Return the table of a plan: the share of each class in each layer, over all seeds."""
    lines = lines_of(path_of(name))
    layers = sorted({line["layer"] for line in lines}, key=int)
    head = ["neuron", "seeds", *(f"layer {k}" for k in layers)]
    shown = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    order = [row.name for row in places.read_plan(name).rows]
    for row in sorted({line["row"] for line in lines}, key=order.index):
        mine = [line for line in lines if line["row"] == row]
        cells = [shares([line for line in mine if line["layer"] == k]) for k in layers]
        shown.append(f"| {row} | {len({line['seed'] for line in mine})} | {' | '.join(cells)} |")
    return shown


def shares(lines: list[dict[str, str]]) -> str:
    """Return the classes of some layers as counts, or in percent beyond 20 neurons."""
    counts = Counter({label: sum(int(line[label]) for line in lines) for label in CLASSES})
    total = counts.total()
    words = [
        f"{label} {n}" if total <= 20 else f"{label} {100 * n / total:.0f} %"
        for label, n in counts.most_common()
        if n
    ]
    return ", ".join(words) + (f" of {total}" if total <= 20 else "")


if __name__ == "__main__":
    main()
