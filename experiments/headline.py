"""Figure of the README: test accuracies on MNIST-1D, a point for each seed.

    python experiments/headline.py docs/headline.svg

It needs only experiments/results/*.csv. Published marks are of networks without spikes, by the
data set's authors.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path

import matplotlib as mpl
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).parent))
import results

ROWS = {
    "LIF": ("mnist1d_feedforward", "LIF, hard"),
    "PLIF, a learned leak": ("mnist1d_feedforward", "PLIF, channel, soft"),
    "LNM, one state, degree 3": ("mnist1d_feedforward", "LNM degree 3, channel, soft"),
    "LNM, two coupled states": ("mnist1d_two_states", "LNM two states, degree 1, free"),
}
"""Label -> plan and row."""
PUBLISHED = {"GRU": 91, "CNN": 94}
COLOURS = ("#7f7f7f", "#c55a11", "#5b9bd5", "#1f4e79")


def main() -> None:
    """Read the arguments and draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path, help="an .svg")
    options = parser.parse_args()
    mpl.rcParams.update({"svg.hashsalt": "headline", "font.size": 10})
    figure = headline()
    FigureCanvasSVG(figure).print_svg(options.file, metadata={"Date": None})
    print(options.file)


def headline() -> Figure:
    """Return the figure."""
    figure = Figure(figsize=(7.2, 2.4), layout="constrained")
    axis = figure.subplots()
    for place, (plan, row) in enumerate(ROWS.values()):
        found = [r for r in results.read(plan) if r.row == row and r.phase == "final"]
        values = [100 * r.accuracy for r in found]
        mean = statistics.mean(values)
        axis.hlines(-place, 60, 100, color="#dddddd", linewidth=0.8, zorder=0)
        axis.plot([mean], [-place], "o", color=COLOURS[place], ms=11)
        axis.plot(values, [-place] * len(values), "o", color="black", ms=2.5)
        text = f"{mean:.1f} ± {statistics.stdev(values):.1f}, {len(values)} seeds"
        axis.text(100.8, -place, text, va="center", fontsize=9)
    for name, mark in PUBLISHED.items():
        axis.axvline(mark, color="black", linewidth=0.8, linestyle=":")
        side = "right" if name == "GRU" else "left"
        axis.text(mark, 0.6, f" {name} {mark} ", ha=side, fontsize=8.5, va="center")
    axis.set_yticks([-k for k in range(len(ROWS))], list(ROWS))
    axis.set(xlim=(60, 100), ylim=(-3.5, 0.9), xlabel="test accuracy on MNIST-1D, %")
    axis.spines[["top", "right", "left"]].set_visible(False)
    return figure


if __name__ == "__main__":
    main()
