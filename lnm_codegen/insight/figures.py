"""Figures of an analysis, drawn by matplotlib without a display.

A panel of a layer with one state shows its charge and the diagonal. On the diagonal the potential
stays; above it a neuron charges itself, below it leaks. The visited interval is shaded; LIF with
h = 0.5*v is dashed if the potential begins at 0. A panel of a layer with several states shows its
poles in the unit disc; its responses follow.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, cast

import numpy as np
import torch

from lnm_codegen.analysis.canvas import new_figure
from lnm_codegen.analysis.charge import potential_of
from lnm_codegen.insight.analysis import LayerAnalysis, RunAnalysis
from lnm_codegen.insight.pole_panels import (
    draw_classes,
    draw_layer_poles,
    draw_typical_plane,
    draw_typical_response,
)
from lnm_codegen.ir.declarations import State
from lnm_codegen.plot.charge import draw_charge, draw_marks
from lnm_codegen.plot.response import draw_rates
from lnm_codegen.plot.style import COOL, INK, STATE_COLORS, WARM
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
    heights = (3.5, 2.4, 2.4) if any(layer.modes is not None for layer in found.layers) else (3.5,)
    figure = new_figure("analyze", 3.6 * across, sum(heights) * down + 0.4)
    figure.suptitle(f"{found.folder.name}: {found.network}", fontsize=10)
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
        _shrink(axis, 8)
    figure.legend(list(named.values()), list(named), fontsize=7, loc="outside lower center",
                  ncols=min(len(named), 3 * across))  # fmt: skip
    return figure


def _classes_text(layer: LayerAnalysis) -> str:
    """Return the most frequent classes with their numbers of rows; the rest is "..."."""
    parts = [f"{name} {n}" for name, n in layer.classes.items()]
    return ", ".join(parts[:_CLASSES] + ["..."] * (len(parts) > _CLASSES)) or "no class"


def layer_figure(layer: LayerAnalysis) -> Figure:
    """Return the panels of one layer: charge or poles, f-I curve, potentials, rates, history.

    A layer with several states also has responses, and with two states a phase plane.
    """
    panels: list[Callable[[Axes], None]] = [partial(_draw_first, layer=layer)]
    if layer.modes is not None and len(layer.layer.neuron.states) == 2:
        panels.append(partial(draw_typical_plane, layer=layer))
    if layer.modes is not None:
        panels += [partial(draw_typical_response, layer=layer, impulse=k) for k in (True, False)]
    panels += [
        partial(draw, layer=layer) for draw in (_draw_response, _draw_potential, _draw_rates)
    ]
    if layer.movement is not None and len(layer.movement.epochs) > 1:
        panels.append(partial(draw_classes, layer=layer))
    panels += [
        partial(_draw_history, name=name, values=values)
        for name, values in (layer.history or {}).items()
        if len(values) > 1
    ]
    across = 2 if len(panels) <= 4 else 3
    down = math.ceil(len(panels) / across)
    figure = new_figure("analyze", 4.1 * across, 3.4 * down)
    axes: list[Axes] = list(figure.subplots(down, across, squeeze=False).flatten())
    for axis, draw in zip(axes, panels, strict=False):
        draw(axis)
    for axis in axes[len(panels) :]:
        axis.set_axis_off()
    for axis in figure.axes:
        _shrink(axis)
    return figure


def _shrink(axis: Axes, title: int = 9) -> None:
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
        _write(axis, "no state, no curve")
        return
    z, visited = layer.z.numpy(), layer.activity.visited
    low, high = float(visited[:, 0].min()), float(visited[:, 1].max())
    axis.axvspan(low, high, color=COOL, linewidth=0, label="visited")
    if cast("State", potential_of(layer.layer.neuron).decl).init == 0:
        axis.plot(z, LIF_DECAY * z, "--", color=WARM, linewidth=1, label=f"LIF, {LIF_DECAY:g}·v")
    columns = _spread(layer.curve.shape[1])
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


def _draw_first(axis: Axes, layer: LayerAnalysis) -> None:
    draw_layer(axis, layer)
    if layer.modes is None:
        axis.set_title("charge without input")
        axis.legend(fontsize=6, loc="best", framealpha=0.7)
    else:  # beside the disc
        axis.set_title("poles")
        axis.legend(fontsize=6, loc="upper left", bbox_to_anchor=(1.02, 1.0))


def _spread(count: int) -> list[int]:
    return sorted(
        {round(k) for k in torch.linspace(0, count - 1, min(count, MOST_CURVES)).tolist()}
    )


def _draw_response(axis: Axes, layer: LayerAnalysis) -> None:
    axis.set_title("rate under a constant input")
    if layer.response is None:
        _write(axis, "no f-I curve: no spikes, or several inputs")
        return
    columns = _spread(layer.response.rates.shape[1])
    labels = [layer.labels[k] for k in columns] if layer.labels else ()
    draw_rates(
        axis, layer.response.currents.numpy(), layer.response.rates[:, columns].numpy(), labels
    )


def _draw_potential(axis: Axes, layer: LayerAnalysis) -> None:
    axis.set_title("charged potential h, on test samples")
    edges, counts = ([], []) if layer.activity is None else layer.activity.charged.trimmed()
    if not counts:
        _write(axis, "not recorded")
        return
    axis.stairs(counts, edges, fill=True, color=INK)
    axis.set_yscale("log")
    axis.set_xlabel("h")
    axis.set_ylabel("neurons and steps")


def _draw_rates(axis: Axes, layer: LayerAnalysis) -> None:
    axis.set_title("firing rate of each neuron")
    if layer.activity is None:
        _write(axis, "not recorded")
        return
    rates = layer.activity.fired.flatten()
    axis.hist(rates.numpy(), bins=40, range=(0, max(float(rates.max()), 1e-3)), color=INK)
    axis.axvline(float(rates.mean()), color=WARM, linewidth=1, label=f"mean {rates.mean():.3f}")
    axis.set_xlabel("spikes per step")
    axis.set_ylabel("neurons")
    axis.legend(fontsize=7)


def _draw_history(axis: Axes, name: str, values: torch.Tensor) -> None:
    axis.set_title(f"{name} in training")
    epochs = range(len(values))
    for i in range(values.shape[2]):
        mean, color = values[:, :, i].mean(1), STATE_COLORS[i % len(STATE_COLORS)]
        style = ("-", "--")[i // len(STATE_COLORS) % 2]
        axis.plot(epochs, mean, style, color=color, linewidth=1.4, label=f"{name}_{i}")
        if values.shape[1] > 1:
            spread = values[:, :, i].std(1)
            axis.fill_between(epochs, mean - spread, mean + spread, alpha=0.15, linewidth=0,
                              color=color)  # fmt: skip
    axis.set_xlabel("epoch")
    axis.locator_params(axis="x", integer=True)
    axis.legend(fontsize=7)


def _write(axis: Axes, text: str) -> None:
    axis.text(0.5, 0.5, text, transform=axis.transAxes, ha="center", va="center", fontsize=7)
    axis.set_xticks([])
    axis.set_yticks([])
