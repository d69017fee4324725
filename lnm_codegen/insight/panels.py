"""Panels of a neuron layer, each a small figure with its alternative text."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from torch import Tensor

from lnm_codegen.analysis.canvas import new_figure
from lnm_codegen.insight.figures import draw_layer, shrink, spread, write
from lnm_codegen.insight.layer import LayerAnalysis
from lnm_codegen.insight.pole_panels import draw_classes, draw_typical_plane, draw_typical_response
from lnm_codegen.plot.response import draw_rates
from lnm_codegen.plot.style import INK, WARM
from lnm_codegen.train.history import draw_history
from lnm_codegen.validation import counted

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH, HEIGHT, LINE = 3.4, 2.5, 0.16
"""Size of a panel without its legend, and height of a line of the legend, in inches."""
_LEGEND_WIDTH = 56
"""Characters in a line of the legend."""


@dataclass(frozen=True)
class Panel:
    """A panel: its alternative text, and the function that draws it and sets its title."""

    text: str
    draw: Callable[[Axes], None]


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
