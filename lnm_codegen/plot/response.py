"""Responses of neurons over time, and firing rates over the input."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from lnm_codegen.analysis.charge import potential_of
from lnm_codegen.analysis.linear.step import StepMap, firing_rates, simulate
from lnm_codegen.errors import UnsupportedError
from lnm_codegen.ir.interpret import Array
from lnm_codegen.plot.axes import (
    QUIET,
    RATE_STEPS,
    STATE_COLORS,
    WARM,
    add_legend,
    axes_of,
    color_axis,
    draw_curves,
    ends_of,
    grouped,
    inputs_of,
    integer_of,
    interval_of,
    number_of,
    padded,
    rate_steps,
    twin_axes,
)
from lnm_codegen.plot.subject import MOST_CURVES, Subject, step_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CURRENTS = 129
"""Inputs of an f-I curve."""
_PART = 0.7
"""Default input over the distance to the threshold. With 1/2, the potential of a leak of 1/2 tends
to the threshold itself, and rounding would decide about spikes."""


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
    differs. At a spike the line goes to the charged state, then to the state after the reset.
    States whose ranges differ by more than a factor of 5 have a y axis each, at the right. A
    constrained layout leaves space for these beside given axes. Of several sets, draw the
    potential after each step, of at most 64.

    Args:
        subject: A neuron or a layer.
        x: The input in every step, of several inputs the first. By default 0.7 times the distance
            from the initial states to the threshold.
        steps: Number of steps.
        row: Number of a parameter set, or None for all.
        ax: Axes to draw into; a new figure by default.

    Raises:
        ModelError: An argument has another value.
        UnsupportedError: The neuron has no state.
        ToolError: matplotlib is not installed.
    """
    step, axes, size, steps = _begun("step_response", subject, x, steps, row, ax)
    twins = draw_response(axes, step, np.full((steps, 1), size))
    _finish(axes, step, twins, ax)
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
    step, axes, size, steps = _begun("impulse_response", subject, x, steps, row, ax)
    twins = draw_response(axes, step, impulse(size, steps))
    _finish(axes, step, twins, ax)
    axes.set_title(f"{step.neuron.name}: {step.inputs[0]} = {size:.4g} in the first step")
    return axes


def _begun(
    where: str, subject: Subject, x: float | None, steps: int, row: int | None, ax: Axes | None
) -> tuple[StepMap, Axes, float, int]:
    """Validate arguments; return the step, the axes, the input and the number of steps."""
    steps = integer_of(f"plot.{where}", "steps", steps)
    size = number_of(f"plot.{where}", "x", x, optional=True)
    step = step_of(where, subject, row, MOST_CURVES)
    return step, axes_of(where, ax), default_input(step) if size is None else size, steps


def _finish(axes: Axes, step: StepMap, twins: list[Axes], given: Axes | None) -> None:
    if step.rows == 1:
        add_legend(axes, *twins, given=given is not None)


def default_input(step: StepMap) -> float:
    """Return the input of a response that no argument gives: a part of the median scale."""
    return _PART * float(np.median(step.scale()))


def impulse(size: float, steps: int) -> Array:
    """Return an input (T, 1) in the first step alone."""
    x_seq = np.zeros((steps, 1))
    x_seq[0] = size
    return x_seq


def draw_response(axes: Axes, step: StepMap, x_seq: Array) -> list[Axes]:
    """Draw the response to an input (T, 1); return further axes, of states of another scale."""
    times = np.arange(len(x_seq) + 1)
    found = simulate(step, {step.inputs[0]: x_seq}, len(x_seq))
    axes.set_xlabel("time step")
    if step.rows > 1:
        name = potential_of(step.neuron).name
        states = found.states[:, step.states.index(name)]
        draw_curves(axes, times, states)
        axes.set_ylabel(f"{name} after the step")
        return []
    fired = found.spikes[:, 0]
    silent = without_spikes(step, x_seq)
    lines = [
        with_resets(found.states[:, k, 0], found.charged[:, k, 0], fired)
        for k in range(len(step.states))
    ]
    groups = grouped([ends_of(values) for _, values in lines])
    every = twin_axes(axes, len(groups))
    for own, group in zip(every, groups, strict=True):
        for k in group:
            name, color = step.states[k], STATE_COLORS[k % len(STATE_COLORS)]
            own.plot(*lines[k], color=color, linewidth=1.6, label=name)
            known = np.isfinite(silent[:, k])
            if fired.any() and (silent[:, k] != found.states[:, k, 0])[known].any():
                own.plot(times, silent[:, k], "--", color=color, linewidth=0.9,
                         label=f"{name} without spikes")  # fmt: skip
        _set_height(own, np.concatenate([lines[k][1] for k in group]), silent[:, group])
        own.set_ylabel("state" if len(groups) == 1 else ", ".join(step.states[k] for k in group))
        if len(group) == 1 < len(groups):
            color_axis(own, STATE_COLORS[group[0] % len(STATE_COLORS)])
    if fired.any():
        at = np.flatnonzero(fired) + 1
        axes.plot(at, np.full(len(at), 0.97), "|", color=WARM, markersize=9,
                  transform=axes.get_xaxis_transform(), label="spike")  # fmt: skip
    return every[1:]


def _set_height(axes: Axes, values: Array, silent: Array) -> None:
    """Show the states, and what lies within twice their range of the response without spikes."""
    low, high = ends_of(values)
    size = high - low
    near = silent[np.isfinite(silent) & (silent >= low - size) & (silent <= high + size)]
    axes.set_ylim(padded((float(near.min(initial=low)), float(near.max(initial=high)))))


def with_resets(after: Array, charged: Array, spikes: Array) -> tuple[Array, Array]:
    """Return times and values of a line through the states after each step, (T + 1,).

    Where the reset of a spike (T,) changed the state, the charged value (T,) comes first, at the
    same time. A reset without a spike is a part of the step.
    """
    times, values = [0], [after[0]]
    steps = zip(charged, after[1:], spikes, strict=True)
    for t, (before, now, spike) in enumerate(steps, start=1):
        if spike and before != now:
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
    steps: int | None = None,
    *,
    row: int | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the firing rate over a constant input, from the initial states.

    Args:
        subject: A neuron or a layer with spikes.
        x: Least and greatest input. By default from an input without a spike, 0 if possible, to
            one at which the rate is 1/2 or stops to rise; see `plot.ranges.inputs_of`.
        steps: Number of steps that the rate is the mean of. By default 256, or 1,024 for a neuron
            with fewer than 8 spikes in 256 steps of the greatest input.
        row: Number of a parameter set, or None for all; at most 64 are drawn.
        ax: Axes to draw into; a new figure by default.

    Raises:
        ModelError: An argument has another value.
        UnsupportedError: The neuron has no state, or no spikes.
        ToolError: matplotlib is not installed.
    """
    where = "plot.fi_curve"
    count = None if steps is None else integer_of(where, "steps", steps)
    step = step_of("fi_curve", subject, row, MOST_CURVES)
    if not step.neuron.fire:
        accepted, remedy = "a neuron with spikes", "Call lnm.plot.step_response."
        raise UnsupportedError(f"{where}: {step.neuron.name}", "no spikes", accepted, remedy)
    ends = None if x is None else interval_of(where, "x", x)
    axes = axes_of("fi_curve", ax)
    low, high = inputs_of(step, count or RATE_STEPS) if ends is None else ends
    if count is None:
        count = rate_steps(step, high)
    currents = np.linspace(low, high, CURRENTS)
    draw_rates(axes, currents, firing_rates(step, currents, count), name=step.inputs[0])
    axes.set_title(f"{step.neuron.name}: firing rate")
    return axes


def draw_rates(
    axes: Axes, currents: Array, rates: Array, labels: Sequence[str] = (), name: str = "x"
) -> None:
    """Draw the rates (P, R) of parameter sets over an input (P,); see `draw_curves`.

    Without a spike, say so.
    """
    draw_curves(axes, currents, rates, labels)
    axes.axhline(0, color=QUIET, linewidth=0.5, zorder=1)
    axes.set_xlabel(f"constant input {name}")
    axes.set_ylabel("spikes per step")
    axes.locator_params(axis="x", nbins=6)
    if not rates.any():
        text = f"silent for {currents[0]:.4g} <= {name} <= {currents[-1]:.4g}"
        axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", fontsize="small")
    top = float(rates.max(initial=0.0))
    axes.set_ylim(-0.03 * max(top, 0.02), 1.08 * max(top, 0.02))
