"""Figures of test accuracies as SVG: a point for each seed, a large one for the mean.

Text stays text, in a font that viewers have. The same data make the same file.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from comparison import Shown, parts  # isort: skip

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
    marks = {name: mark for name, mark in published.items() if mark >= limits(rows, ())[0]}
    low, high = limits(rows, tuple(marks.values()))
    figure = Figure(figsize=(7.2, 1.0 + 0.32 * len(rows)), layout="constrained")
    axis = figure.subplots()
    draw(axis, dict(enumerate(rows)), [row.name for row in rows], (low, high))
    for place, row in enumerate(rows):
        text = f"{row.test}, n = {row.n}"
        axis.text(high + 0.02 * (high - low), -place, text, va="center", fontsize=9)
    for name, mark in marks.items():
        axis.axvline(mark, color="black", linewidth=0.8, linestyle=":")
        side = "left" if mark == max(marks.values()) else "right"
        axis.text(mark, 0.75, f" {name} {mark} ", ha=side, fontsize=8.5, va="center")
    axis.set_ylim(top=1.1)
    axis.set_xlabel(f"{subject}, % (mean ± 95 % interval)", fontsize=9)
    return figure


def panels(rows: Sequence[Shown], subject: str) -> Figure:
    """Return the figure of rows named "task: neuron": a panel for each task, of all its neurons."""
    tasks, neurons = (list(dict.fromkeys(names)) for names in zip(*map(parts, rows), strict=True))
    figure = Figure(figsize=(7.2, 1.0 + 0.28 * len(neurons)), layout="constrained")
    axes = figure.subplots(1, len(tasks), sharey=True, squeeze=False)[0]
    for axis, task in zip(axes, tasks, strict=True):
        mine = {neurons.index(parts(row)[1]): row for row in rows if parts(row)[0] == task}
        draw(axis, mine, neurons, limits([*mine.values()], ()))
        axis.set_title(task, fontsize=9.5)
        axis.tick_params(axis="x", labelsize=8)
    figure.supxlabel(f"{subject}, %", fontsize=9)
    return figure


def draw(
    axis: Axes, rows: Mapping[int, Shown], names: Sequence[str], ends: tuple[float, float]
) -> None:
    """Draw rows at their places among `names`: a point for each seed, a large one for the mean."""
    for place, row in rows.items():
        colour = colour_of(row.name)
        axis.hlines(-place, *ends, color="#dddddd", linewidth=0.8, zorder=0)
        face = colour if row.complete else "white"
        axis.plot([row.mean], [-place], "o", color=colour, mfc=face, ms=10, clip_on=False)
        points = row.values
        axis.plot(points, [-place] * len(points), "o", color="black", ms=2.5, clip_on=False)
    axis.set_yticks([-k for k in range(len(names))], names, fontsize=9)
    axis.set(xlim=ends, ylim=(0.5 - len(names), 0.5))
    axis.spines[["top", "right", "left"]].set_visible(False)


def limits(rows: Sequence[Shown], marks: tuple[float, ...]) -> tuple[float, float]:
    """Return the ends of an axis that has all seeds of some rows and some marks, by steps of 5."""
    values = [v for row in rows for v in row.values]
    low = 5 * math.floor((min(values) - 1) / 5)
    return low, min(100, 5 * math.ceil((max([*values, *marks]) + 1) / 5))


def colour_of(name: str) -> str:
    """Return the colour of a neuron."""
    name = name.rpartition(": ")[2]
    if "two states" in name:
        return DARK
    if name.startswith("LNM"):
        return LIGHT
    return GREY if name.split(",")[0] in ("LIF", "IF") else ORANGE


def svg(figure: Callable[[], Figure]) -> str:
    """Return what `figure` draws as the text of an SVG file."""
    with mpl.rc_context(STYLE):
        file = io.StringIO()
        FigureCanvasSVG(figure()).print_svg(file, metadata={"Date": None, "Creator": None})
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines()) + "\n"
