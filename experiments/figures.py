"""Figures of test accuracies as SVG: a point for each seed, a large one for the mean.

Text stays text, in a font that viewers have. The same data make the same file.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from summary import Shown  # isort: skip

GREY, ORANGE, LIGHT, DARK = "#7f7f7f", "#c55a11", "#5b9bd5", "#1f4e79"
STYLE: dict[str, Any] = {
    "svg.hashsalt": "lnm_codegen",
    "svg.fonttype": "none",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 10,
}


def accuracies(rows: Sequence[Shown], published: Mapping[str, float], subject: str) -> Figure:
    """Return the figure of some rows.

    A row whose plan has more seeds than have run has an open mark. Published marks are vertical
    lines; those left of the axis are omitted.
    """
    values = [v for row in rows for v in row.values]
    low = 5 * math.floor((min(values) - 1) / 5)
    marks = {name: mark for name, mark in published.items() if mark >= low}
    high = min(100, 5 * math.ceil((max([*values, *marks.values()]) + 1) / 5))
    figure = Figure(figsize=(7.2, 1.0 + 0.32 * len(rows)), layout="constrained")
    axis = figure.subplots()
    for place, row in enumerate(rows):
        colour = colour_of(row.name)
        axis.hlines(-place, low, high, color="#dddddd", linewidth=0.8, zorder=0)
        face = colour if row.complete else "white"
        axis.plot([row.mean], [-place], "o", color=colour, mfc=face, ms=10, clip_on=False)
        points = row.values
        axis.plot(points, [-place] * len(points), "o", color="black", ms=2.5, clip_on=False)
        text = f"{row.test}, n = {row.n}"
        axis.text(high + 0.02 * (high - low), -place, text, va="center", fontsize=9)
    for name, mark in marks.items():
        axis.axvline(mark, color="black", linewidth=0.8, linestyle=":")
        side = "left" if mark == max(marks.values()) else "right"
        axis.text(mark, 0.75, f" {name} {mark} ", ha=side, fontsize=8.5, va="center")
    axis.set_yticks([-k for k in range(len(rows))], [row.name for row in rows], fontsize=9)
    axis.set(xlim=(low, high), ylim=(0.5 - len(rows), 1.1))
    axis.set_xlabel(f"{subject}, % (mean ± 95 % interval)", fontsize=9)
    axis.spines[["top", "right", "left"]].set_visible(False)
    return figure


def colour_of(name: str) -> str:
    """Return the colour of a neuron."""
    name = name.rpartition(": ")[2]
    if "two states" in name:
        return DARK
    if name.startswith("LNM"):
        return LIGHT
    return GREY if name.split(",")[0] in ("LIF", "IF") else ORANGE


def svg(rows: Sequence[Shown], published: Mapping[str, float], subject: str) -> str:
    """Return the figure of some rows as the text of an SVG file."""
    with mpl.rc_context(STYLE):
        file = io.StringIO()
        figure = accuracies(rows, published, subject)
        FigureCanvasSVG(figure).print_svg(file, metadata={"Date": None, "Creator": None})
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines()) + "\n"
