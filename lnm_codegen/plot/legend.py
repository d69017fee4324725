"""Legends of plots: below the axes in figures of our own, small and inside given axes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.legend import Legend

Place: TypeAlias = Literal["best", "upper right", "upper left", "lower right", "lower left"]
"""Place of a legend inside axes."""
MOST_COVERED = 0.15
"""Largest share of given axes that a legend covers; a larger one is omitted."""
_CORNERS: tuple[Place, ...] = ("upper right", "upper left", "lower right", "lower left")
_BELOW = 0.5
"""Height of the tick labels and the label of the x axis, in inches."""


def legend_below(axes: Axes, *twins: Axes, columns: int = 3, font: str = "small") -> None:
    """Put the legend of axes, and of axes that share their x axis, below the axes.

    A constrained layout leaves space for it.
    """
    from matplotlib.transforms import ScaledTranslation

    down = ScaledTranslation(0, -_BELOW, axes.figure.dpi_scale_trans)
    axes.legend(*_entries(axes, *twins), fontsize=font, loc="upper center", ncols=columns,
                bbox_to_anchor=(0.5, 0), bbox_transform=axes.transAxes + down,
                borderaxespad=0, frameon=False)  # fmt: skip


def legend_inside(axes: Axes, *twins: Axes, place: Place = "best") -> None:
    """Put a small legend inside given axes, or none if it covers too much of them."""
    axes.apply_aspect()
    places = _CORNERS if twins else (place,)  # "best" ignores the lines of other axes
    hidden = [_points_behind(_small(axes, twins, one), axes, *twins) for one in places]
    legend = _small(axes, twins, places[hidden.index(min(hidden))])
    box, inside = legend.get_window_extent(), axes.get_window_extent()
    if box.width * box.height > MOST_COVERED * inside.width * inside.height:
        legend.remove()


def _small(axes: Axes, twins: tuple[Axes, ...], place: Place) -> Legend:
    return axes.legend(*_entries(axes, *twins), fontsize="x-small", framealpha=0.7, loc=place)


def _points_behind(legend: Legend, *axes: Axes) -> int:
    """Return the number of points of lines that a legend covers."""
    box = legend.get_window_extent()
    lines = [line for one in axes for line in one.lines]
    return sum(
        box.count_contains(line.get_transform().transform(line.get_xydata())) for line in lines
    )


def add_legend(axes: Axes, *twins: Axes, given: bool, place: Place = "best") -> None:
    """Put a legend inside the axes that a caller has `given`, or below axes of our own."""
    if given:
        legend_inside(axes, *twins, place=place)
    else:
        legend_below(axes, *twins)


def _entries(*axes: Axes) -> tuple[list[Artist], list[str]]:
    """Return the handles and labels of all axes."""
    handles: list[Artist] = []
    labels: list[str] = []
    for one in axes:
        own, names = one.get_legend_handles_labels()
        handles += own
        labels += [str(name) for name in names]
    return handles, labels
