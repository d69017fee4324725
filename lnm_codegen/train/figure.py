"""Figures of learned neuron layers: the charge curve of each, the diagonal, and the LIF neuron.

A layer with several states shows its poles in the unit disc. Below are the learned parameters of
any neuron after each epoch.

A crossing of curve and diagonal is a fixed point of the potential: stable if the slope there is
between -1 and 1. Above the diagonal the potential rises without input; below it falls.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from lnm_codegen.analysis.canvas import new_figure
from lnm_codegen.analysis.linear.modes import modes_of_step
from lnm_codegen.families.common import LOWEST
from lnm_codegen.nn.layer import NeuronLayer
from lnm_codegen.plot.axes import QUIET, STATE_COLORS, WARM
from lnm_codegen.plot.charge import charged, draw_charge
from lnm_codegen.plot.poles import draw_poles
from lnm_codegen.plot.subject import MOST_CURVES, step_of
from lnm_codegen.train.models.base import neurons_of
from lnm_codegen.train.stability.layers import learned_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, FigureBase
    from torch import Tensor, nn


LIF_DECAY = 0.5
_MOST_PARAMETERS, _HEIGHT = 6, 1.5
"""Most parameters in the figure of a run; height of the axes of each, in inches."""
_ROWS, _NEAR = "#56B4E9", 8.0
"""Colour of single parameter sets; distances to the threshold within which `v_min` is drawn."""


def run_figure(
    name: str, network: nn.Module, history: Mapping[str, Tensor], v_min: float | None = LOWEST
) -> Figure:
    """Draw a column per neuron layer: its curve, and below each learned parameter over epochs.

    At most 6 parameters are drawn, the first that the neuron declares: the median over channels or
    neurons, and the 10 to 90 % range.

    Args:
        name: Title.
        network: A trained network.
        history: `<layer>.<parameter>` -> (epochs + 1, *shape).
        v_min: See `curves_figure`.

    Raises:
        ToolError: matplotlib is not installed.
    """
    layers = [layer_history(history, k, layer) for k, layer in enumerate(neurons_of(network))]
    words = list(dict.fromkeys(word for layer in layers for word in layer))[:_MOST_PARAMETERS]
    if not words:
        return curves_figure({name: network}, v_min)
    columns, below = len(layers), _HEIGHT * len(words)
    whole = new_figure("train", 4.2 * columns, 4.0 + below)
    upper, lower = whole.subfigures(2, 1, squeeze=False, height_ratios=(4.0, below))[:, 0]
    _draw_curves(upper, {name: network}, v_min)
    axes = lower.subplots(len(words), columns, squeeze=False)
    for column, layer in zip(axes.T, layers, strict=True):
        for axis, word in zip(column, words, strict=True):
            if word not in layer:
                axis.set_axis_off()
                continue
            draw_history(axis, word, layer[word])
            axis.set_ylabel(word, parse_math=False)
            if layer[word].shape[2] > 1:
                axis.legend(fontsize=6, loc="upper left", bbox_to_anchor=(1.02, 1.0))
        for axis in column[:-1]:
            axis.set_xlabel("")
    return whole


def curves_figure(networks: Mapping[str, nn.Module], v_min: float | None = LOWEST) -> Figure:
    """Draw a row per network and a column per neuron layer.

    Args:
        networks: Title of a row -> network.
        v_min: Lower end of the axes where it suits the neuron; see `draw_curve`.

    Raises:
        ToolError: matplotlib is not installed.
    """
    columns = max(len(neurons_of(n)) for n in networks.values())
    figure = new_figure("train", 4.2 * columns, 3.6 * len(networks) + 0.4)
    _draw_curves(figure, networks, v_min)
    return figure


def _draw_curves(
    figure: FigureBase, networks: Mapping[str, nn.Module], v_min: float | None
) -> None:
    columns = max(len(neurons_of(n)) for n in networks.values())
    axes = figure.subplots(len(networks), columns, squeeze=False)
    for row, (name, network) in zip(axes, networks.items(), strict=True):
        layers = neurons_of(network)
        for k, axis in enumerate(row):
            if k >= len(layers):
                axis.set_axis_off()
                continue
            draw_curve(axis, layers[k], v_min)
            learned = textwrap.fill(learned_text(layers[k]), 52)
            axis.set_title(f"{name}, layer {k + 1}\n{learned}", fontsize=9, parse_math=False)
    if axes[0][0].get_legend() is None and axes[0][0].get_legend_handles_labels()[0]:
        axes[0][0].legend(fontsize=8, loc="upper left")


def draw_curve(axis: Axes, layer: NeuronLayer, v_min: float | None = None) -> None:
    """Draw one layer: its charge up to the threshold, or the poles of a layer with several states.

    The charge is flat where a clamp acts. Per channel or neuron, draw up to 64 curves and their
    mean. The lower end is `v_min` if that is below the initial potential and near it, or else lies
    two distances to the threshold below.
    """
    if not layer.neuron.states:
        axis.text(0.5, 0.5, "no state", transform=axis.transAxes, ha="center", fontsize=7)
        return
    if len(layer.neuron.states) > 1:
        draw_poles(axis, modes_of_step(step_of("poles", layer, None)))
        axis.legend(fontsize=6, loc="upper left", bbox_to_anchor=(1.02, 1.0))  # beside the disc
        return
    step = step_of("charge", layer, None, MOST_CURVES)
    start, scale = float(step.start()[0, 0]), float(step.scale().max())
    near = v_min is not None and start - _NEAR * scale <= v_min < start
    low = v_min if near and v_min is not None else start - 2 * scale
    z = np.linspace(low, start + scale, 201)
    curves = charged(step, z)
    if step.rows > 1:
        axis.plot(z, curves, color=_ROWS, linewidth=0.6, alpha=0.6)
    draw_charge(axis, z, curves.mean(1, keepdims=True), step.states[0], "this layer")
    if start == 0:
        text = f"LIF, h = {LIF_DECAY:g}·v"
        axis.plot(z, LIF_DECAY * z, "--", color=WARM, linewidth=1.4, zorder=4, label=text)
    axis.axhline(start + scale, color=QUIET, linewidth=0.8, linestyle=":", label="threshold")
    axis.set_ylabel("h[t] at x = 0")
    height = float(z[-1] - z[0])
    inside = curves[np.isfinite(curves) & (np.abs(curves - z.mean()) <= height)]
    low, high = float(inside.min(initial=z[0])), float(inside.max(initial=z[-1]))
    axis.set_ylim(low - 0.05 * height, high + 0.05 * height)


# Learned parameters of a neuron layer after each epoch, as arrays and as a plot.


def layer_history(history: Mapping[str, Tensor], k: int, layer: NeuronLayer) -> dict[str, Tensor]:
    """Return parameter -> (epochs + 1, rows, elements) of layer k, in the order of declaration.

    Args:
        history: `<layer>.<parameter>` -> (epochs + 1, *shape), as in history.safetensors.
        k: Number of the layer; the first is 0.
        layer: The layer. A parameter of another shape is left out.
    """
    found = {}
    for decl in layer.neuron.params:
        value = history.get(f"{k}.{decl.name}")
        shape = tuple(getattr(layer, decl.name).shape)
        if value is not None and tuple(value.shape[1:]) == shape:
            found[decl.name] = value.reshape(len(value), -1, decl.size or 1).double()
    return found


def draw_history(axis: Axes, name: str, values: Tensor) -> None:
    """Draw a parameter after each epoch: the median over the rows and the 10 to 90 % range.

    Args:
        axis: Axes to draw into.
        name: Name of the parameter; element i has the label `<name>_<i>`.
        values: (epochs + 1, rows, elements).
    """
    epochs, (_, rows, elements) = range(len(values)), values.shape
    low, middle, high = np.quantile(values.numpy(), (0.1, 0.5, 0.9), axis=1)
    for i in range(elements):
        color = STATE_COLORS[i % len(STATE_COLORS)]
        style = ("-", "--")[i // len(STATE_COLORS) % 2]
        axis.plot(epochs, middle[:, i], style, color=color, linewidth=1.4, label=f"{name}_{i}")
        if rows > 1:
            axis.fill_between(epochs, low[:, i], high[:, i], alpha=0.15, linewidth=0, color=color)
    axis.set_xlabel("epoch")
    axis.locator_params(axis="x", integer=True)
