"""Figures of an analysis, drawn by matplotlib without a display.

A panel shows the charge of a layer and the diagonal. On the diagonal the potential stays; above it
a neuron charges itself, below it leaks. The visited interval is shaded; LIF with h = 0.5*v is
dashed.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from lnm_codegen.analysis.canvas import new_figure
from lnm_codegen.insight.analysis import LayerAnalysis, RunAnalysis
from lnm_codegen.train.figure import LIF_DECAY

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_INK, _QUIET, _LIF, _COOL = "#1f4e79", "#9a9a9a", "#c55a11", "#dbe7f3"
_COLORS = {
    "leaky": "#1f4e79", "integrator": "#2a9d8f", "quadratic-like": "#b5179e",
    "bistable": "#e63946", "self-exciting": "#f4a261", "oscillating": "#6a994e", "other": "#777777",
}  # fmt: skip
_COLUMNS = 4
_DRAWN = 64
"""Largest number of curves in one panel."""


def grid_figure(found: RunAnalysis) -> Figure:
    """Return the charge of every layer, a panel for each."""
    count = len(found.layers)
    across = min(_COLUMNS, count)
    down = math.ceil(count / across)
    figure = new_figure("analyze", 3.1 * across, 3.0 * down)
    axes = figure.subplots(down, across, squeeze=False).flatten()
    for axis in axes[count:]:
        axis.set_axis_off()
    named: dict[str, Artist] = {}
    for k, (axis, layer) in enumerate(zip(axes, found.layers, strict=False)):
        draw_charge(axis, layer)
        handles, labels = axis.get_legend_handles_labels()
        named |= dict(zip(map(str, labels), handles, strict=True))
        classes = ", ".join(f"{name} {n}" for name, n in list(layer.classes.items())[:3])
        axis.set_title(f"{k + 1}: {layer.name}\n{classes or 'no class'}", fontsize=8)
    figure.legend(list(named.values()), list(named), fontsize=7, loc="outside lower center",
                  ncols=min(len(named), 3 * across))  # fmt: skip
    return figure


def layer_figure(layer: LayerAnalysis) -> Figure:
    """Return the panels of one layer: charge, f-I curve, potentials, rates, history."""
    learned = [(n, v) for n, v in (layer.history or {}).items() if len(v) > 1]
    across, down = (2, 2) if not learned else (3, 2)
    figure = new_figure("analyze", 3.7 * across, 3.1 * down)
    axes: list[Axes] = list(figure.subplots(down, across).flatten())
    for axis in axes[4 + len(learned) :]:
        axis.set_axis_off()
    draw_charge(axes[0], layer)
    axes[0].legend(fontsize=6, loc="best", framealpha=0.6)
    axes[0].set_title("charge without input", fontsize=9)
    _draw_response(axes[1], layer)
    _draw_potential(axes[2], layer)
    _draw_rates(axes[3], layer)
    for axis, (name, values) in zip(axes[4:], learned, strict=False):
        _draw_history(axis, name, values)
    return figure


def png(figure: Figure, dpi: int = 100) -> bytes:
    """Return a figure as PNG."""
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=dpi)
    return data.getvalue()


def draw_charge(axis: Axes, layer: LayerAnalysis) -> None:
    """Draw the charge of some rows, coloured by class, with their fixed points."""
    if layer.activity is None or not layer.curve.shape[1]:
        _write(axis, "no state, no curve")
        return
    z, visited = layer.z, layer.activity.visited
    low, high = float(visited[:, 0].min()), float(visited[:, 1].max())
    axis.axvspan(low, high, color=_COOL, linewidth=0, label="visited")
    axis.plot(z, z, color=_QUIET, linewidth=1, label="diagonal")
    axis.plot(z, LIF_DECAY * z, "--", color=_LIF, linewidth=1, label=f"LIF, {LIF_DECAY:g}·v")
    columns = _spread(layer.curve.shape[1])
    named: set[str] = set()
    for k in columns:
        label = "" if isinstance(layer.dynamics, str) else layer.dynamics[k].label
        axis.plot(
            z, layer.curve[:, k], color=_COLORS.get(label, _INK), zorder=3,
            linewidth=1.6 if len(columns) == 1 else 0.6, alpha=1 if len(columns) == 1 else 0.6,
            label=label if label not in named else None,
        )  # fmt: skip
        named.add(label)
    _draw_points(axis, layer, columns)
    top = max(float(z[-1]), min(float(layer.curve.max()), float(z[-1]) + 1.0))
    axis.set_xlim(float(z[0]), float(z[-1]))
    axis.set_ylim(float(z[0]) - 0.3, top + 0.2)
    axis.set_xlabel("v[t-1]", fontsize=8)
    axis.set_ylabel("h[t]", fontsize=8)
    axis.tick_params(labelsize=7)


def _draw_points(axis: Axes, layer: LayerAnalysis, columns: Sequence[int]) -> None:
    if isinstance(layer.dynamics, str):
        return
    low, high = float(layer.z[0]), float(layer.z[-1])
    for k in columns:
        for p in layer.dynamics[k].points:
            if low <= p.v <= high:
                face = _INK if p.kind == "stable" else "white"
                axis.plot([p.v], [p.v], "o", color=_INK, markerfacecolor=face, markersize=3,
                          markeredgewidth=0.7, zorder=4)  # fmt: skip


def _spread(count: int) -> list[int]:
    if count <= _DRAWN:
        return list(range(count))
    return sorted({round(k) for k in torch.linspace(0, count - 1, _DRAWN).tolist()})


def _draw_response(axis: Axes, layer: LayerAnalysis) -> None:
    axis.set_title("rate under a constant input", fontsize=9)
    if layer.response is None:
        _write(axis, "no f-I curve: no spikes, or several inputs")
        return
    rates = layer.response.rates[:, _spread(layer.response.rates.shape[1])]
    one = rates.shape[1] == 1
    axis.plot(layer.response.currents, rates, color=_INK, linewidth=1.6 if one else 0.5,
              alpha=1 if one else 0.5)  # fmt: skip
    axis.set_xlabel("x", fontsize=8)
    axis.set_ylabel("spikes per step", fontsize=8)
    axis.set_ylim(-0.03, 1.03)
    axis.tick_params(labelsize=7)


def _draw_potential(axis: Axes, layer: LayerAnalysis) -> None:
    axis.set_title("charged potential h, on test samples", fontsize=9)
    edges, counts = ([], []) if layer.activity is None else layer.activity.charged.trimmed()
    if not counts:
        _write(axis, "not recorded")
        return
    axis.stairs(counts, edges, fill=True, color=_INK)
    axis.set_yscale("log")
    axis.set_xlabel("h", fontsize=8)
    axis.set_ylabel("neurons and steps", fontsize=8)
    axis.tick_params(labelsize=7)


def _draw_rates(axis: Axes, layer: LayerAnalysis) -> None:
    axis.set_title("firing rate of each neuron", fontsize=9)
    if layer.activity is None:
        _write(axis, "not recorded")
        return
    rates = layer.activity.fired.flatten()
    axis.hist(rates.numpy(), bins=40, range=(0, max(float(rates.max()), 1e-3)), color=_INK)
    axis.axvline(float(rates.mean()), color=_LIF, linewidth=1, label=f"mean {rates.mean():.3f}")
    axis.set_xlabel("spikes per step", fontsize=8)
    axis.set_ylabel("neurons", fontsize=8)
    axis.legend(fontsize=7)
    axis.tick_params(labelsize=7)


def _draw_history(axis: Axes, name: str, values: torch.Tensor) -> None:
    axis.set_title(f"{name} in training", fontsize=9)
    epochs = range(len(values))
    for i in range(values.shape[2]):
        mean = values[:, :, i].mean(1)
        (line,) = axis.plot(epochs, mean, linewidth=1.4, label=f"{name}_{i}")
        if values.shape[1] > 1:
            spread = values[:, :, i].std(1)
            axis.fill_between(epochs, mean - spread, mean + spread, alpha=0.15, linewidth=0,
                              color=line.get_color())  # fmt: skip
    axis.set_xlabel("epoch", fontsize=8)
    axis.legend(fontsize=7)
    axis.tick_params(labelsize=7)


def _write(axis: Axes, text: str) -> None:
    axis.text(0.5, 0.5, text, transform=axis.transAxes, ha="center", va="center", fontsize=7)
    axis.set_xticks([])
    axis.set_yticks([])
