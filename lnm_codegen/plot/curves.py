"""Curves of parameter sets, coloured by class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lnm_codegen.ir.interpret import Array
from lnm_codegen.plot.style import CLASS_COLORS, INK

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw_curves(
    axes: Axes, x: Array, y: Array, labels: Sequence[str] = (), label: str | None = None
) -> None:
    """Draw a curve for each parameter set; many are thin.

    Args:
        axes: Axes to draw into.
        x: (P,).
        y: (P, R).
        labels: Class of each set, for its colour; the legend names each class once.
        label: Name of the curves in the legend, without classes.
    """
    many = y.shape[1] > 1
    named: set[str | None] = set()
    for k in range(y.shape[1]):
        own = labels[k] if labels else label
        color = CLASS_COLORS.get(own or "", INK)
        shown = None if own in named else own
        axes.plot(x, y[:, k], color=color, linewidth=0.7 if many else 1.8,
                  alpha=0.7 if many else 1.0, zorder=3, label=shown)  # fmt: skip
        named.add(own)
