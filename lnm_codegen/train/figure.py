"""Figures of learned neuron layers: the charge curve of each, the diagonal, and the LIF neuron.

A crossing of curve and diagonal is a fixed point of the potential: stable if the slope there is
between -1 and 1. Above the diagonal the potential rises without input; below it falls.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch

from lnm_codegen.analysis.canvas import new_figure
from lnm_codegen.errors import UnsupportedError
from lnm_codegen.families.common import LOWEST
from lnm_codegen.nn import NeuronLayer
from lnm_codegen.train.models import Network
from lnm_codegen.train.stability.curve import charge_curve, learned_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LIF_DECAY = 0.5
_INK, _QUIET, _LIF = "#1f4e79", "#b0b0b0", "#c55a11"


def curves_figure(networks: Mapping[str, Network], v_min: float | None = LOWEST) -> Figure:
    """Draw a row per network and a column per neuron layer.

    Args:
        networks: Title of a row -> network.
        v_min: Lower end of the axes; the upper end is the layer's threshold.

    Raises:
        ToolError: matplotlib is not installed.
    """
    columns = max(len(n.neurons) for n in networks.values())
    figure = new_figure("train", 4.2 * columns, 3.6 * len(networks) + 0.4)
    axes = figure.subplots(len(networks), columns, squeeze=False)
    for row, (name, network) in zip(axes, networks.items(), strict=True):
        for k, axis in enumerate(row):
            if k >= len(network.neurons):
                axis.set_axis_off()
                continue
            draw_curve(axis, network.neurons[k], LOWEST if v_min is None else v_min)
            learned = textwrap.fill(learned_text(network.neurons[k]), 52)
            axis.set_title(f"{name}, layer {k + 1}\n{learned}", fontsize=9)
    axes[0][0].legend(fontsize=8, loc="upper left")
    return figure


def draw_curve(axis: Axes, layer: NeuronLayer, v_min: float = LOWEST) -> None:
    """Draw one layer's curve over [v_min, v_threshold], flat where a clamp acts.

    Per channel or neuron, draw up to 64 curves and their mean.
    """
    threshold = getattr(layer, "v_threshold", None)
    high = 1.0 if threshold is None else float(threshold.detach().mean())
    z = torch.linspace(v_min, high, 201)
    axis.plot(z, z, color=_QUIET, linewidth=1, label="diagonal, h = v")
    lif = f"LIF, h = {LIF_DECAY:g}·v"
    axis.plot(z, LIF_DECAY * z, "--", color=_LIF, linewidth=1.2, zorder=3, label=lif)
    axis.axhline(high, color=_QUIET, linewidth=0.8, linestyle=":")
    axis.set_xlabel("v[t-1]")
    axis.set_ylabel("h[t] at x = 0")
    try:
        with torch.no_grad():
            curves = charge_curve(layer, z)
    except UnsupportedError as error:
        axis.text(0.5, 0.1, str(error), transform=axis.transAxes, ha="center", fontsize=7)
        return
    if curves.shape[1] > 1:
        axis.plot(z, curves[:, :64], color=_INK, linewidth=0.5, alpha=0.3)
    axis.plot(z, curves.mean(1), color=_INK, linewidth=2, label="this layer")
    axis.set_ylim(v_min - 0.2, max(high, float(curves.mean(1).max())) + 0.3)
