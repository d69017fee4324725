"""Figure of `lnm analyze FAMILY`.

One state: the charge v[t-1] -> h[t] against the diagonal. Several states: poles, responses, f-I
curve, and of two states the phase plane.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lnm_codegen.analysis.canvas import new_figure
from lnm_codegen.analysis.fixed_points import FixedPoint, FixedPoints
from lnm_codegen.analysis.invariant import Invariant
from lnm_codegen.analysis.linear.response import firing_rates
from lnm_codegen.analysis.linear.step import StepMap
from lnm_codegen.analysis.report import Analysis
from lnm_codegen.plot.charge import charged, draw_charge, draw_marks, draw_threshold
from lnm_codegen.plot.plane import draw_plane
from lnm_codegen.plot.poles import draw_poles
from lnm_codegen.plot.response import CURRENTS, RATE_STEPS, draw_rates, draw_response
from lnm_codegen.plot.style import COOL, GREEN

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def family_figure(found: Analysis) -> Figure:
    """Draw the figure of an analysis.

    Raises:
        UnsupportedError: The neuron has no state.
        ToolError: matplotlib is not installed.
    """
    step = StepMap(found.neuron, found.values)
    if found.linear is None:
        figure = new_figure("analyze", 5.6, 5.0)
        _draw_charge(figure.subplots(), found, step)
        return figure
    figure = new_figure("analyze", 10.0, 8.4)
    figure.suptitle(f"{found.neuron.name}: {found.linear.label}")
    axes = figure.subplots(2, 2)
    draw_poles(axes[0][0], found.linear.modes)
    axes[0][0].legend(fontsize="small", loc="upper left")
    axes[0][0].set_title("poles")
    _draw_step_response(axes[0][1], step)
    _draw_rates(axes[1][0], found, step)
    if len(step.states) == 2:
        draw_plane(axes[1][1], step, {})
        axes[1][1].set_title("phase plane without input")
    else:
        axes[1][1].set_axis_off()
    return figure


def _draw_step_response(axes: Axes, step: StepMap) -> None:
    size = float(step.scale()[0]) / 2
    draw_response(axes, step, np.full((64, 1), size))
    axes.set_title(f"{step.inputs[0]} = {size:.4g}")


def _draw_rates(axes: Axes, found: Analysis, step: StepMap) -> None:
    axes.set_title("firing rate")
    inside = found.inputs[step.inputs[0]]
    low, high = float(inside.low), float(inside.high)
    currents = np.linspace(low, high if high > low else low + 1.0, CURRENTS)
    draw_rates(axes, currents, firing_rates(step, currents, RATE_STEPS))
    axes.set_xlabel(f"constant input {step.inputs[0]}")


def _draw_charge(axes: Axes, found: Analysis, step: StepMap) -> None:
    state = step.states[0]
    low, high = _extent(found, state)
    v = np.linspace(low, high, 401)
    ends = [{n: float(i.low) for n, i in found.inputs.items()},
            {n: float(i.high) for n, i in found.inputs.items()}]  # fmt: skip
    lowest, highest = (charged(step, v, x)[:, 0] for x in ends)
    text = ", ".join(f"{n} in {i}" for n, i in found.inputs.items())
    axes.fill_between(v, lowest, highest, color=COOL, linewidth=0, label=f"h for {text}")
    h = charged(step, v)
    draw_charge(axes, v, h, state, "h without input")
    draw_threshold(axes, step, v, h[:, 0])
    if isinstance(found.invariant, Invariant):
        inside = found.invariant.states[state]
        for end, label in ((inside.low, f"invariant {inside}"), (inside.high, None)):
            axes.axvline(float(end), color=GREEN, linewidth=1.2, linestyle=":", label=label)
    draw_marks(axes, [(float(p.v.low), p.kind) for p in _at_rest(found)])
    drawn = np.concatenate([v, lowest, highest, h[:, 0]])
    axes.set_ylim(float(drawn.min()), float(drawn.max()))
    axes.set_title(f"{found.neuron.name}: charge against the diagonal", fontsize=10)
    axes.legend(fontsize=8, loc="upper left")


def _at_rest(found: Analysis) -> tuple[FixedPoint, ...]:
    first = found.fixed_points[0] if isinstance(found.fixed_points, tuple) else None
    return first.points if isinstance(first, FixedPoints) else ()


def _extent(found: Analysis, state: str) -> tuple[float, float]:
    """Return the potentials to draw: the interval of the ranges, with the fixed points near it."""
    low, high = -2.0, 1.0
    if found.states is not None:
        low, high = float(found.states[state].low), float(found.states[state].high)
    span = max(high - low, 0.5)
    near = [float(p.v.low) for p in _at_rest(found) if low - span <= p.v.low <= high + span]
    return min([low, *near]) - 0.1 * span, max([high, *near]) + 0.1 * span
