"""Figures of an analysis, drawn by matplotlib without a display.

A panel of a layer with one state shows its charge and the diagonal. On the diagonal the potential
stays; above it a neuron charges itself, below it leaks. The visited interval is shaded; LIF with
h = 0.5*v is dashed if the potential begins at 0. A panel of a layer with several states shows its
poles in the unit disc; its responses follow.
"""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING, cast

import numpy as np
import torch

from lnm_codegen.analysis.canvas import new_figure
from lnm_codegen.analysis.charge import potential_of
from lnm_codegen.insight.analysis import RunAnalysis
from lnm_codegen.insight.layer import LayerAnalysis
from lnm_codegen.insight.pole_panels import (
    draw_layer_poles,
    draw_typical_response,
)
from lnm_codegen.ir.declarations import State
from lnm_codegen.plot.charge import draw_charge, draw_marks
from lnm_codegen.plot.style import COOL, WARM
from lnm_codegen.plot.subject import MOST_CURVES
from lnm_codegen.train.figure import LIF_DECAY

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLUMNS, _CLASSES = 4, 3
"""Panels in a row of the grid; classes in the title of a panel."""


def grid_figure(found: RunAnalysis) -> Figure:
    """Return a panel with the charge or the poles of every layer.

    Below poles are the impulse and the step response of the typical row.
    """
    count = len(found.layers)
    across = min(_COLUMNS, count)
    down = math.ceil(count / across)
    heights = (3.5, 3.0, 3.0) if any(layer.modes is not None for layer in found.layers) else (3.5,)
    figure = new_figure("analyze", 3.6 * across, sum(heights) * down + 0.4)
    name = found.folder.resolve().name  # "." has none
    figure.suptitle(f"{name}: {found.network}", fontsize=10, parse_math=False)
    axes = figure.subplots(len(heights) * down, across, squeeze=False, height_ratios=heights * down)
    named: dict[str, Artist] = {}
    for k, layer in enumerate(found.layers):
        row, column = divmod(k, across)
        axis, *below = axes[len(heights) * row : len(heights) * (row + 1), column]
        draw_layer(axis, layer)
        handles, labels = axis.get_legend_handles_labels()
        names = (str(label).partition(" (")[0] for label in labels)  # without a layer's counts
        named |= dict(zip(names, handles, strict=True))
        axis.set_title(f"{k + 1}: {layer.name}\n{_classes_text(layer)}")
        if layer.modes is not None:
            for other, impulse in zip(below, (True, False), strict=True):
                draw_typical_response(other, layer, impulse)
    for axis in axes.flatten():
        if not axis.has_data():
            axis.set_axis_off()
    for axis in figure.axes:
        shrink(axis, 8)
    figure.legend(list(named.values()), list(named), fontsize=7, loc="outside lower center",
                  ncols=min(len(named), 3 * across))  # fmt: skip
    return figure


def _classes_text(layer: LayerAnalysis) -> str:
    """Return the most frequent classes with their numbers of rows; the rest is "..."."""
    parts = [f"{name} {n}" for name, n in layer.classes.items()]
    return ", ".join(parts[:_CLASSES] + ["..."] * (len(parts) > _CLASSES)) or "no class"


def shrink(axis: Axes, title: int = 9) -> None:
    """Set the fonts of a panel."""
    axis.tick_params(labelsize=7)
    axis.xaxis.label.set_fontsize(8)
    axis.yaxis.label.set_fontsize(8)
    axis.title.set_fontsize(title)


def png(figure: Figure, dpi: int = 100) -> bytes:
    """Return a figure as PNG."""
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=dpi)
    return data.getvalue()


def draw_layer(axis: Axes, layer: LayerAnalysis) -> None:
    """Draw the poles of a layer, or its charge, coloured by class."""
    if layer.modes is not None:
        draw_layer_poles(axis, layer)
        return
    if layer.activity is None or not layer.curve.shape[1]:
        write(axis, "no state, no curve")
        return
    z, visited = layer.z.numpy(), layer.activity.visited
    low, high = max(float(visited[:, 0].min()), z[0]), min(float(visited[:, 1].max()), z[-1])
    axis.axvspan(low, high, color=COOL, linewidth=0, label="visited")
    if cast("State", potential_of(layer.layer.neuron).decl).init == 0:
        axis.plot(z, LIF_DECAY * z, "--", color=WARM, linewidth=1, label=f"LIF, {LIF_DECAY:g}·v")
    columns = spread(layer.curve.shape[1])
    h = layer.curve[:, columns].detach().numpy()
    labels = [layer.labels[k] for k in columns] if layer.labels else ()
    draw_charge(axis, z, h, layer.potential, "h", labels)
    if not isinstance(layer.dynamics, str):
        points = [(p.v, p.kind) for k in columns for p in layer.dynamics[k].points]
        draw_marks(axis, [(v, kind) for v, kind in points if z[0] <= v <= z[-1]], size=3)
    # The curves decide the height, as far as they are within twice the width of the potentials.
    width = float(z[-1] - z[0])
    near = h[np.isfinite(h) & (np.abs(h - z.mean()) <= width)]
    low, high = float(near.min(initial=z[0])), float(near.max(initial=z[-1]))
    axis.set_ylim(low - 0.05 * (high - low), high + 0.05 * (high - low))


def spread(count: int) -> list[int]:
    """Return at most `MOST_CURVES` indices below a count, evenly spaced."""
    return sorted(
        {round(k) for k in torch.linspace(0, count - 1, min(count, MOST_CURVES)).tolist()}
    )


def write(axis: Axes, text: str) -> None:
    """Write a text in place of a plot."""
    axis.text(0.5, 0.5, text, transform=axis.transAxes, ha="center", va="center", fontsize=7)
    axis.set_xticks([])
    axis.set_yticks([])
