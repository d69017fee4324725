"""Axes for states of different scale: states whose ranges differ much have a y axis each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from lnm_codegen.ir.interpret import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Ends: TypeAlias = tuple[float, float]
"""Least and greatest value."""
MOST_RATIO = 5.0
"""Largest ratio of the range of shared axes to the range of a state on them."""
_APART = 50
"""Distance between the second y axis and each further one, in points."""


def color_axis(axes: Axes, color: str) -> None:
    """Colour the y axis of one state as its line, so that a further axis shows whose it is."""
    axes.tick_params(axis="y", colors=color)
    axes.yaxis.label.set_color(color)
    axes.spines[axes.yaxis.get_label_position()].set_color(color)


def ends_of(values: Array) -> Ends:
    """Return the least and the greatest finite value; (0, 0) without any."""
    finite = values[np.isfinite(values)]
    return (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)


def grouped(ends: Sequence[Ends]) -> list[list[int]]:
    """Return the numbers of the states that share axes, in the order of declaration.

    A state joins the first group whose common range is at most `MOST_RATIO` times the range of
    each of its states. A constant state has no range, and so limits no group.
    """
    groups: list[list[int]] = []
    for k in range(len(ends)):
        home = next((g for g in groups if _fit([ends[i] for i in (*g, k)])), None)
        if home is None:
            groups.append([k])
        else:
            home.append(k)
    return groups


def _fit(ends: Sequence[Ends]) -> bool:
    whole = max(high for _, high in ends) - min(low for low, _ in ends)
    sizes = [high - low for low, high in ends if not _is_constant((low, high))]
    return not sizes or whole <= MOST_RATIO * min(sizes)


def _is_constant(ends: Ends) -> bool:
    return ends[1] - ends[0] <= 1e-9 * max(abs(ends[0]), abs(ends[1]))


def padded(ends: Ends) -> Ends:
    """Return the limits of an axis with a margin; around a constant, a tenth of it or 1."""
    low, high = ends
    if _is_constant(ends):
        size = 0.1 * abs(high) or 1.0
        return low - size, high + size
    return low - 0.08 * (high - low), high + 0.12 * (high - low)


def twin_axes(axes: Axes, count: int) -> list[Axes]:
    """Return the axes and `count - 1` more, with the same x axis and a y axis each at the right.

    The given axes stay on top, so that their legend covers the lines of the others.
    """
    found = [axes]
    for k in range(count - 1):
        twin = axes.twinx()
        twin.spines["right"].set_position(("outward", _APART * k))
        found.append(twin)
    if count > 1:
        found[1].patch.set(visible=True, facecolor=axes.get_facecolor())
        axes.patch.set_visible(False)
        axes.set_zorder(found[-1].get_zorder() + 1)
    return found
