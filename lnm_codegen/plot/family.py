"""Figure of `lnm analyze FAMILY`.

One state: the charge v[t-1] -> h[t] against the diagonal. Several states: poles, step and impulse
response, f-I curve, and of two states the phase plane.
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from lnm_codegen.analysis.canvas import new_figure
from lnm_codegen.analysis.fixed_points import FixedPoint, FixedPoints
from lnm_codegen.analysis.invariant import Invariant
from lnm_codegen.analysis.linear.step import StepMap, firing_rates
from lnm_codegen.analysis.report import Analysis, LinearAnalysis
from lnm_codegen.ir.interpret import Array
from lnm_codegen.plot.axes import COOL, GREEN, RATE_STEPS, inputs_of, legend_below, rate_steps
from lnm_codegen.plot.charge import (
    charged,
    default_span,
    draw_charge,
    draw_marks,
    draw_threshold,
)
from lnm_codegen.plot.plane import draw_plane
from lnm_codegen.plot.poles import draw_poles
from lnm_codegen.plot.response import (
    CURRENTS,
    default_input,
    draw_rates,
    draw_response,
    impulse,
)

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
    return _panels(found, found.linear, step)


def _panels(found: Analysis, linear: LinearAnalysis, step: StepMap) -> Figure:
    """Draw poles, responses and f-I curve; of two states, the phase plane is twice as wide."""
    plane = len(step.states) == 2
    figure = new_figure("analyze", 13.5 if plane else 10.0, 9.0)
    figure.suptitle(f"{found.neuron.name}: {linear.label}")
    axes = figure.subplot_mosaic("PSI;RLL" if plane else "PS;RI")
    draw_poles(axes["P"], linear.modes)
    axes["P"].set_title("poles")
    legend_below(axes["P"], columns=2)
    _draw_response(axes["S"], step, constant=True)
    _draw_response(axes["I"], step, constant=False)
    _draw_rates(axes["R"], found, step)
    if plane:
        draw_plane(axes["L"], step, {})
        axes["L"].set_title("phase plane without input")
        legend_below(axes["L"], columns=4)
    return figure


def _draw_response(axes: Axes, step: StepMap, *, constant: bool) -> None:
    size, steps = default_input(step), 64
    x_seq = np.full((steps, 1), size) if constant else impulse(size, steps)
    twins = draw_response(axes, step, x_seq)
    kind = ("step", "") if constant else ("impulse", " in the first step")
    axes.set_title(f"{kind[0]} response: {step.inputs[0]} = {size:.4g}{kind[1]}")
    legend_below(axes, *twins, columns=2)


def _draw_rates(axes: Axes, found: Analysis, step: StepMap) -> None:
    """Draw the f-I curve over the given inputs; if nothing fires there, over those of `fi_curve`.

    Then the given inputs are shaded.
    """
    axes.set_title("firing rate")
    name = step.inputs[0]
    if not step.neuron.fire:
        axes.text(0.5, 0.5, "no spikes", transform=axes.transAxes, ha="center")
        axes.set_axis_off()
        return
    inside = found.inputs[name]
    low, high = float(inside.low), float(inside.high)
    currents = np.linspace(low, high if high > low else low + 1.0, CURRENTS)
    rates = firing_rates(step, currents, RATE_STEPS)
    if not rates.any():
        least, most = inputs_of(step)
        currents = np.linspace(min(low, least), max(high, most), CURRENTS)
        rates = firing_rates(step, currents, rate_steps(step, currents[-1]))
    draw_rates(axes, currents, rates, name=name)
    if currents[-1] > high > low:
        axes.axvspan(low, high, color=COOL, linewidth=0, zorder=0, label=f"{name} in {inside}")
        legend_below(axes, columns=1)


def _draw_charge(axes: Axes, found: Analysis, step: StepMap) -> None:
    state = step.states[0]
    low, high = _extent(found, step)
    v = np.linspace(low, high, 401)
    lowest, highest = _band(found, step, v)
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


def _band(found: Analysis, step: StepMap, v: Array) -> tuple[Array, Array]:
    """Return the least and greatest charged potential (P,) over a grid of the inputs.

    The grid has the ends of each interval, and of up to three inputs seven values between them.
    """
    count = 9 if len(found.inputs) <= 3 else 2
    values = (np.linspace(float(i.low), float(i.high), count) for i in found.inputs.values())
    lowest = highest = charged(step, v, {n: float(i.low) for n, i in found.inputs.items()})[:, 0]
    for at in product(*values):
        h = charged(step, v, dict(zip(found.inputs, map(float, at), strict=True)))[:, 0]
        lowest, highest = np.minimum(lowest, h), np.maximum(highest, h)
    return lowest, highest


def _at_rest(found: Analysis) -> tuple[FixedPoint, ...]:
    first = found.fixed_points[0] if isinstance(found.fixed_points, tuple) else None
    return first.points if isinstance(first, FixedPoints) else ()


def _extent(found: Analysis, step: StepMap) -> tuple[float, float]:
    """Return the potentials to draw: the interval of the ranges, with the fixed points near it.

    Without ranges they are those of `plot.charge`.
    """
    low, high = default_span(step)
    if found.states is not None:
        inside = found.states[step.states[0]]
        low, high = float(inside.low), float(inside.high)
    span = max(high - low, 0.5 * float(step.scale()[0]))
    near = [float(p.v.low) for p in _at_rest(found) if low - span <= p.v.low <= high + span]
    return min([low, *near]) - 0.1 * span, max([high, *near]) + 0.1 * span
