"""Panels of a layer with several states: poles, phase plane, responses, classes in training."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lnm_codegen.analysis.linear.step import StepMap
from lnm_codegen.analysis.report import RESPONSE_STEPS
from lnm_codegen.insight.layer import LayerAnalysis
from lnm_codegen.plot.legend import legend_below
from lnm_codegen.plot.plane import draw_plane
from lnm_codegen.plot.poles import draw_poles
from lnm_codegen.plot.response import default_input, draw_response
from lnm_codegen.plot.response import impulse as impulse_of
from lnm_codegen.plot.style import CLASS_COLORS
from lnm_codegen.train.stability.modes import numbers_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes


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
