"""Figure of a comparison: a point for each seed, a large one for the mean of each neuron."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from lnm_codegen.analysis.canvas import new_figure
from lnm_codegen.errors import ModelError
from lnm_codegen.plot.axes import INK
from lnm_codegen.train.comparison.table import ComparisonRow

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NO_MARKS: Mapping[str, float] = MappingProxyType({})
_STYLE: dict[Any, Any] = {
    "svg.hashsalt": "lnm_codegen", "svg.fonttype": "none", "font.sans-serif": ["DejaVu Sans"],
    "font.size": 10,
}  # fmt: skip
"""Text stays text, in a font that viewers have. The same data make the same file."""


def accuracy_figure(
    rows: Sequence[ComparisonRow],
    marks: Mapping[str, float] = NO_MARKS,
    subject: str = "test accuracy",
    colour_of: Callable[[str], str] = lambda _: INK,
) -> Figure:
    """Return the figure of some rows; those without a result are left out.

    A row whose plan has more seeds than have run has an open mark.

    Args:
        rows: Rows of a table.
        marks: Accuracies in percent by name, such as published ones, as vertical lines. Those left
            of the axis are left out.
        subject: Label of the axis.
        colour_of: Name of a row -> its colour.

    Raises:
        ModelError: No row has a result.
        ToolError: matplotlib is not installed.
    """
    rows = [row for row in rows if row.ended]
    if not rows:
        raise ModelError("accuracy_figure", "no row has a result", remedy="Make the runs first.")
    marks = {name: mark for name, mark in marks.items() if mark >= limits(rows, ())[0]}
    low, high = limits(rows, tuple(marks.values()))
    figure = new_figure("compare", 7.2, 1.0 + 0.32 * len(rows))
    axis = figure.subplots()
    draw_rows(axis, dict(enumerate(rows)), [row.name for row in rows], (low, high), colour_of)
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


def draw_rows(
    axis: Axes,
    rows: Mapping[int, ComparisonRow],
    names: Sequence[str],
    ends: tuple[float, float],
    colour_of: Callable[[str], str],
) -> None:
    """Draw rows at their indices among `names`: a point for each seed, a large one for the mean."""
    for place, row in rows.items():
        colour = colour_of(row.name)
        axis.hlines(-place, *ends, color="#dddddd", linewidth=0.8, zorder=0)
        face = colour if row.complete else "white"
        axis.plot([row.mean], [-place], "o", color=colour, mfc=face, ms=10, clip_on=False)
        points = row.values
        axis.plot(points, [-place] * len(points), "o", color="black", ms=2.5, clip_on=False)
    axis.set_yticks([-k for k in range(len(names))], names, fontsize=9, parse_math=False)
    axis.set(xlim=ends, ylim=(0.5 - len(names), 0.5))
    axis.spines[["top", "right", "left"]].set_visible(False)


def limits(rows: Sequence[ComparisonRow], marks: tuple[float, ...]) -> tuple[float, float]:
    """Return the ends of an axis that has all seeds of some rows and some marks, by steps of 5."""
    values = [v for row in rows for v in row.values]
    low = 5 * math.floor((min(values) - 1) / 5)
    return low, min(100, 5 * math.ceil((max([*values, *marks]) + 1) / 5))


def figure_data(figure: Callable[[], Figure], format_: str = "svg") -> bytes:
    """Return what `figure` draws as a file of a format of matplotlib, such as svg, pdf or png."""
    import matplotlib as mpl

    metadata = {"svg": {"Date": None, "Creator": None}, "pdf": {"CreationDate": None}}
    file = io.BytesIO()
    with mpl.rc_context(_STYLE):
        figure().savefig(file, format=format_, dpi=200, metadata=metadata.get(format_))
    data = file.getvalue()
    if format_ != "svg":
        return data
    return b"".join(line.rstrip() + b"\n" for line in data.splitlines())
