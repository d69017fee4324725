"""Figures of an analysis, drawn by matplotlib without a display.

A panel of a layer with one state shows its charge and the diagonal. On the diagonal the potential
stays; above it a neuron charges itself, below it leaks. The visited interval is shaded; LIF with
h = 0.5*v is dashed if the potential begins at 0. A panel of a layer with several states shows its
poles in the unit disc; its responses follow.
"""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import Tensor

from lnm_codegen.analysis.canvas import new_figure
from lnm_codegen.analysis.charge import potential_of
from lnm_codegen.analysis.linear.step import StepMap
from lnm_codegen.analysis.report import RESPONSE_STEPS
from lnm_codegen.insight.analysis import RunAnalysis
from lnm_codegen.insight.layer import LayerAnalysis
from lnm_codegen.ir.declarations import State
from lnm_codegen.plot.axes import CLASS_COLORS, COOL, INK, WARM, legend_below
from lnm_codegen.plot.charge import draw_charge, draw_marks
from lnm_codegen.plot.plane import draw_plane
from lnm_codegen.plot.poles import draw_poles
from lnm_codegen.plot.response import default_input, draw_rates, draw_response
from lnm_codegen.plot.response import impulse as impulse_of
from lnm_codegen.plot.subject import MOST_CURVES
from lnm_codegen.sections import Panel
from lnm_codegen.train.figure import LIF_DECAY, draw_history
from lnm_codegen.train.stability.layers import numbers_of
from lnm_codegen.validation import counted

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


# Panels of a neuron layer, each a small figure with its alternative text.


WIDTH, HEIGHT, LINE = 3.4, 2.5, 0.16
"""Size of a panel without its legend, and height of a line of the legend, in inches."""
_LEGEND_WIDTH = 56
"""Characters in a line of the legend."""


def panels(layer: LayerAnalysis) -> tuple[Panel, ...]:
    """Return the panels of a layer: charge or poles, f-I curve, potentials, rates, history.

    A layer with several states also has responses, and with two states a phase plane.
    """
    rows = counted(len(layer.selected), "row")
    classes = ", ".join(f"{name} {n}" for name, n in layer.classes.items()) or "no class"
    found = []
    if layer.modes is None:
        text = f"Charged potential after a step without input, of {rows}: {classes}"
        found.append(Panel(text, partial(_draw_charge, layer=layer)))
    else:
        text = f"Eigenvalues in the complex plane with the unit circle, of {rows}: {classes}"
        found.append(Panel(text, partial(_draw_poles, layer=layer)))
        if len(layer.layer.neuron.states) == 2:
            text = "Phase plane of the typical row: nullclines, trajectories, fixed points"
            found.append(Panel(text, partial(draw_typical_plane, layer=layer)))
        for impulse, when in ((True, "an input in one step"), (False, "a constant input")):
            text = f"States of the typical row over time under {when}"
            draw = partial(draw_typical_response, layer=layer, impulse=impulse)
            found.append(Panel(text, draw))
    found += [
        Panel("Firing rate over a constant input", partial(_draw_response, layer=layer)),
        Panel("Histogram of the charged potential", partial(_draw_potential, layer=layer)),
        Panel("Histogram of the neurons' firing rates", partial(_draw_rates, layer=layer)),
    ]
    if layer.movement is not None and len(layer.movement.epochs) > 1:
        text = "Number of rows of each class after each epoch"
        found.append(Panel(text, partial(draw_classes, layer=layer)))
    for name, values in (layer.history or {}).items():
        if len(values) > 1:
            text = f"Median and 10 to 90 % range of {name} after each epoch"
            found.append(Panel(text, partial(_draw_history, name=name, values=values)))
    return tuple(found)


def panel_figure(panel: Panel) -> tuple[str, Figure]:
    """Return the title of a panel and its figure, whose legend is below the axes."""
    figure = new_figure("analyze", WIDTH, HEIGHT)
    axes = figure.subplots()
    panel.draw(axes)
    title = axes.get_title().replace("\n", ", ")
    axes.set_title("")
    named: dict[str, Artist] = {}
    for axis in figure.axes:
        shrink(axis)
        handles, labels = axis.get_legend_handles_labels()
        named |= {str(label): handle for label, handle in zip(labels, handles, strict=True)}
        own = axis.get_legend()
        if own is not None:
            own.remove()
    if named:
        columns = min(len(named), max(1, _LEGEND_WIDTH // (max(map(len, named)) + 6)))
        figure.set_figheight(HEIGHT + LINE * math.ceil(len(named) / columns))
        legend = figure.legend(
            list(named.values()), list(named), fontsize=7, ncols=columns,
            loc="outside lower center", frameon=False, columnspacing=1.2,
        )  # fmt: skip
        for line in legend.get_lines():
            line.set(alpha=None, linewidth=max(line.get_linewidth(), 1.2))
    return title, figure


def _draw_charge(axis: Axes, layer: LayerAnalysis) -> None:
    draw_layer(axis, layer)
    axis.set_title("charge without input")


def _draw_poles(axis: Axes, layer: LayerAnalysis) -> None:
    draw_layer(axis, layer)
    axis.set_title("poles")


def _draw_response(axis: Axes, layer: LayerAnalysis) -> None:
    axis.set_title("rate under a constant input")
    if layer.response is None:
        write(axis, "no f-I curve: no spikes, or several inputs")
        return
    columns = spread(layer.response.rates.shape[1])
    labels = [layer.labels[k] for k in columns] if layer.labels else ()
    currents, rates = layer.response.currents.numpy(), layer.response.rates[:, columns].numpy()
    draw_rates(axis, currents, rates, labels, layer.layer.neuron.inputs[0].name)


def _draw_potential(axis: Axes, layer: LayerAnalysis) -> None:
    axis.set_title("charged potential h")
    edges, counts = ([], []) if layer.activity is None else layer.activity.charged.trimmed()
    if not counts:
        write(axis, "not recorded")
        return
    axis.stairs(counts, edges, fill=True, color=INK)
    axis.set_yscale("log")
    axis.set_xlabel("h")
    axis.set_ylabel("neurons and steps")


def _draw_rates(axis: Axes, layer: LayerAnalysis) -> None:
    axis.set_title("firing rate of each neuron")
    if layer.activity is None:
        write(axis, "not recorded")
        return
    rates = layer.activity.fired.flatten()
    axis.hist(rates.numpy(), bins=40, range=(0, max(float(rates.max()), 1e-3)), color=INK)
    axis.axvline(float(rates.mean()), color=WARM, linewidth=1, label=f"mean {rates.mean():.4f}")
    axis.set_xlabel("spikes per step")
    axis.set_ylabel("neurons")


def _draw_history(axis: Axes, name: str, values: Tensor) -> None:
    axis.set_title(f"{name} in training")
    draw_history(axis, name, values)


# Panels of a layer with several states: poles, phase plane, responses, classes in training.


def draw_layer_poles(axis: Axes, layer: LayerAnalysis) -> None:
    """Draw the poles of a layer, and their paths in training."""
    assert layer.modes is not None
    draw_poles(axis, layer.modes, None if layer.movement is None else layer.movement.eigenvalues)


def draw_typical_plane(axis: Axes, layer: LayerAnalysis) -> None:
    """Draw the phase plane of the typical row of two states."""
    draw_plane(axis, _typical_step(layer), {})
    axis.legend(fontsize=6, loc="best", framealpha=0.7)
    axis.set_title(f"phase plane of {_typical_name(layer)}")


def draw_typical_response(axis: Axes, layer: LayerAnalysis, impulse: bool) -> None:
    """Draw the states of the typical row after an input in one step, or under a constant input.

    The input is that of `plot.step_response`.
    """
    step = _typical_step(layer)
    size = default_input(step)
    constant = np.full((RESPONSE_STEPS, 1), size)
    twins = draw_response(axis, step, impulse_of(size, RESPONSE_STEPS) if impulse else constant)
    legend_below(axis, *twins, columns=2, font="x-small")
    when = " once" if impulse else ""
    kind = "impulse" if impulse else "step"
    axis.set_title(
        f"{kind} response of {_typical_name(layer)}\n{step.inputs[0]} = {size:.3g}{when}"
    )


def draw_classes(axis: Axes, layer: LayerAnalysis) -> None:
    """Draw the number of rows of each class after each epoch."""
    assert layer.movement is not None
    axis.set_title("classes in training")
    for label, counts in layer.movement.classes.items():
        axis.plot(layer.movement.epochs, counts, ".-", color=CLASS_COLORS[label], label=label)
    axis.set_xlabel("epoch")
    axis.locator_params(axis="x", integer=True)
    axis.set_ylabel("rows")
    axis.legend(fontsize=6, framealpha=0.7)


def _typical_step(layer: LayerAnalysis) -> StepMap:
    assert layer.typical is not None
    values = numbers_of(layer.rows, [layer.selected[layer.typical]])
    return StepMap(layer.layer.neuron, values)


def _typical_name(layer: LayerAnalysis) -> str:
    assert layer.typical is not None
    return f"{layer.place(layer.typical)}, {layer.labels[layer.typical]}"
