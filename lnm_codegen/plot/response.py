"""Responses of neurons over time, and firing rates over the input."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from lnm_codegen.analysis.charge import potential_of
from lnm_codegen.analysis.linear.response import firing_rates, simulate
from lnm_codegen.analysis.linear.step import StepMap
from lnm_codegen.ir.interpret import Array
from lnm_codegen.plot.curves import draw_curves
from lnm_codegen.plot.style import QUIET, STATE_COLORS, WARM
from lnm_codegen.plot.subject import MOST_CURVES, Subject, axes_of, step_of
from lnm_codegen.validation import require_integer, require_interval, require_number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CURRENTS, RATE_STEPS = 129, 256
"""Inputs of an f-I curve, and steps of each."""


def step_response(
    subject: Subject,
    x: float | None = None,
    steps: int = 64,
    *,
    row: int | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the states under a constant input, from the initial states.

    Of one parameter set, draw every state, and dashed its response without spikes where that
    differs. At a spike the line goes to the charged state, then to the state after the reset. Of
    several sets, draw the potential after each step, of at most 64.

    Args:
        subject: A neuron or a layer.
        x: The input in every step, of several inputs the first. By default half the distance from
            the initial states to the threshold.
        steps: Number of steps.
        row: Number of a parameter set, or None for all.
        ax: Axes to draw into; a new figure by default.

    Raises:
        ModelError: An argument has another value.
        UnsupportedError: The neuron has no state.
        ToolError: matplotlib is not installed.
    """
    step, axes, size = _begun("step_response", subject, x, steps, row, ax)
    draw_response(axes, step, np.full((steps, 1), size))
    axes.set_title(f"{step.neuron.name}: {step.inputs[0]} = {size:.4g}")
    return axes


def impulse_response(
    subject: Subject,
    x: float | None = None,
    steps: int = 64,
    *,
    row: int | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the states for an input in the first step alone; see `step_response`."""
    step, axes, size = _begun("impulse_response", subject, x, steps, row, ax)
    x_seq = np.zeros((steps, 1))
    x_seq[0] = size
    draw_response(axes, step, x_seq)
    axes.set_title(f"{step.neuron.name}: {step.inputs[0]} = {size:.4g} in the first step")
    return axes


def _begun(
    where: str, subject: Subject, x: float | None, steps: int, row: int | None, ax: Axes | None
) -> tuple[StepMap, Axes, float]:
    """Validate arguments; return the step, the axes and the input."""
    require_integer(f"plot.{where}", "steps", steps)
    require_number(f"plot.{where}", "x", x, optional=True)
    step = step_of(where, subject, row, MOST_CURVES)
    size = float(np.median(step.scale())) / 2 if x is None else float(x)
    return step, axes_of(where, ax), size


def draw_response(axes: Axes, step: StepMap, x_seq: Array) -> None:
    """Draw the response to an input (T, 1)."""
    times = np.arange(len(x_seq) + 1)
    found = simulate(step, {step.inputs[0]: x_seq}, len(x_seq))
    axes.set_xlabel("time step")
    if step.rows > 1:
        name = potential_of(step.neuron).name
        states = found.states[:, step.states.index(name)]
        draw_curves(axes, times, states)
        axes.set_ylabel(f"{name} after the step")
        return
    silent = without_spikes(step, x_seq)
    spread: list[Array] = []
    for k, name in enumerate(step.states):
        color = STATE_COLORS[k % len(STATE_COLORS)]
        t, values = with_resets(found.states[:, k, 0], found.charged[:, k, 0])
        axes.plot(t, values, color=color, linewidth=1.6, label=name)
        spread.append(values)
        if not np.array_equal(silent[:, k], found.states[:, k, 0]):
            axes.plot(times, silent[:, k], "--", color=color, linewidth=0.9,
                      label=f"{name} without spikes")  # fmt: skip
    _set_height(axes, np.concatenate(spread), silent)
    fired = np.flatnonzero(found.spikes[:, 0]) + 1
    if len(fired):
        axes.plot(fired, np.full(len(fired), 0.97), "|", color=WARM, markersize=9,
                  transform=axes.get_xaxis_transform(), label="spike")  # fmt: skip
    axes.set_ylabel("state")
    axes.legend(fontsize="small")


def _set_height(axes: Axes, values: Array, silent: Array) -> None:
    """Show the states, and what lies within twice their extent of the response without spikes."""
    finite = values[np.isfinite(values)]
    low, high = float(finite.min(initial=0.0)), float(finite.max(initial=0.0))
    height = max(high - low, 1e-9)
    near = silent[np.isfinite(silent) & (silent >= low - height) & (silent <= high + height)]
    low, high = float(near.min(initial=low)), float(near.max(initial=high))
    margin = 0.08 * max(high - low, 1e-9)
    axes.set_ylim(low - margin, high + 1.5 * margin)


def with_resets(after: Array, charged: Array) -> tuple[Array, Array]:
    """Return times and values of a line through the states after each step, (T + 1,).

    Where a reset changed the state, the charged value (T,) comes first, at the same time.
    """
    times, values = [0], [after[0]]
    for t, (before, now) in enumerate(zip(charged, after[1:], strict=True), start=1):
        if before != now:
            times.append(t)
            values.append(before)
        times.append(t)
        values.append(now)
    return np.array(times), np.array(values)


def without_spikes(step: StepMap, x_seq: Array) -> Array:
    """Return the states of the first parameter set without spikes, (T + 1, n)."""
    now = step.start()
    found = [now[:, 0]]
    for x in x_seq:
        now = step.next(now, {step.inputs[0]: x})
        found.append(now[:, 0])
    return np.array(found)


def fi_curve(
    subject: Subject,
    x: Sequence[float] | None = None,
    steps: int = RATE_STEPS,
    *,
    row: int | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the firing rate over a constant input, from the initial states.

    Args:
        subject: A neuron or a layer with spikes.
        x: Least and greatest input; by default from 0 to four times an input at which half
            of the parameter sets fire.
        steps: Number of steps that the rate is the mean of.
        row: Number of a parameter set, or None for all; at most 64 are drawn.
        ax: Axes to draw into; a new figure by default.

    Raises:
        ModelError: An argument has another value.
        UnsupportedError: The neuron has no state.
        ToolError: matplotlib is not installed.
    """
    require_integer("plot.fi_curve", "steps", steps)
    step = step_of("fi_curve", subject, row, MOST_CURVES)
    low, high = _inputs_of(step) if x is None else require_interval("plot.fi_curve", "x", x)
    axes = axes_of("fi_curve", ax)
    currents = np.linspace(low, high, CURRENTS)
    draw_rates(axes, currents, firing_rates(step, currents, steps))
    axes.set_xlabel(f"constant input {step.inputs[0]}")
    axes.set_title(f"{step.neuron.name}: firing rate")
    return axes


def draw_rates(axes: Axes, currents: Array, rates: Array, labels: Sequence[str] = ()) -> None:
    """Draw the rates (P, R) of parameter sets over the inputs (P,); see `draw_curves`."""
    draw_curves(axes, currents, rates, labels)
    axes.axhline(0, color=QUIET, linewidth=0.5, zorder=1)
    axes.set_xlabel("constant input x")
    axes.set_ylabel("spikes per step")
    top = float(rates.max(initial=0.0))
    axes.set_ylim(-0.03 * max(top, 0.02), 1.08 * max(top, 0.02))


def _inputs_of(step: StepMap) -> tuple[float, float]:
    """Return 0 and four times the least power-of-two multiple of the scale that fires half."""
    scale = float(np.median(step.scale()))
    tried = scale * 2.0 ** np.arange(-6, 8)
    fired = (firing_rates(step, tried, 64) > 0).mean(1) >= 0.5
    least = tried[fired.argmax()] if fired.any() else scale
    return 0.0, 4.0 * float(least)
