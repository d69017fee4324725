"""Figures of test accuracies as SVG, in the colours of the pages: those of `accuracy_figure`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from comparison import parts
from matplotlib.figure import Figure

from lnm_codegen.train.comparison.table import (
    ComparisonRow,
    accuracy_figure,
    draw_rows,
    figure_data,
    limits,
)

GREY, ORANGE, LIGHT, DARK = "#7f7f7f", "#c55a11", "#5b9bd5", "#1f4e79"


def accuracies(
    rows: Sequence[ComparisonRow], published: Mapping[str, float], subject: str
) -> Figure:
    """Return the figure of some rows."""
    return accuracy_figure(rows, published, subject, colour_of)


def panels(rows: Sequence[ComparisonRow], subject: str) -> Figure:
    """Return the figure of rows named "task: neuron": a panel for each task, of all its neurons."""
    tasks, neurons = (list(dict.fromkeys(names)) for names in zip(*map(parts, rows), strict=True))
    figure = Figure(figsize=(7.2, 1.0 + 0.28 * len(neurons)), layout="constrained")
    axes = figure.subplots(1, len(tasks), sharey=True, squeeze=False)[0]
    for axis, task in zip(axes, tasks, strict=True):
        mine = {neurons.index(parts(row)[1]): row for row in rows if parts(row)[0] == task}
        draw_rows(axis, mine, neurons, limits([*mine.values()], ()), colour_of)
        axis.set_title(task, fontsize=9.5)
        axis.tick_params(axis="x", labelsize=8)
    figure.supxlabel(f"{subject}, %", fontsize=9)
    return figure


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
    return figure_data(figure).decode()
