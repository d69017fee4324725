"""Figure of the test accuracies of an experiment: a point for each seed, a bar for the mean.

    python experiments/figures.py mnist1d_feedforward docs/mnist1d_feedforward.png

Rows without a final run are left out. The figure needs only results/<plan>.csv.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from lnm_codegen.insight.figures import png

sys.path.insert(0, str(Path(__file__).parent))
import results
from plan import Plan, read_plan
from results import Result
from table import finals

COLORS = {"LNM": "#1f4e79"}
OTHER = "#c55a11"


def main() -> None:
    """Read the arguments and draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("plan")
    parser.add_argument("file", type=Path, help="a .png")
    options = parser.parse_args()
    figure = accuracies(read_plan(options.plan), results.read(options.plan))
    options.file.write_bytes(png(figure))
    print(options.file)


def accuracies(plan: Plan, found: list[Result]) -> Figure:
    """Return the figure of a plan."""
    points = {
        row.name: [100 * r.accuracy for r in finals(found, row.name).values() if r.accuracy >= 0]
        for row in plan.rows
    }
    shown = [name for name, values in points.items() if values]
    figure = Figure(figsize=(6.4, 0.6 + 0.2 * len(shown)), layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    for place, name in enumerate(reversed(shown)):
        color = COLORS.get(name.split()[0], OTHER)
        axis.plot(points[name], [place] * len(points[name]), "o", color=color, alpha=0.5, ms=3)
        axis.plot([statistics.mean(points[name])], [place], "|", color=color, ms=9, mew=2)
    axis.set_yticks(range(len(shown)), list(reversed(shown)), fontsize=7)
    axis.set_xlabel("test accuracy, %", fontsize=8)
    axis.tick_params(axis="x", labelsize=7)
    axis.grid(axis="x", linewidth=0.3)
    return figure


if __name__ == "__main__":
    main()
