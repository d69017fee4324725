"""Charge of a neuron against the diagonal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from lnm_codegen.analysis.charge import potential_of
from lnm_codegen.analysis.linear.modes import distinct_points, find_points, stability
from lnm_codegen.analysis.linear.step import StepMap, resets_silently
from lnm_codegen.ir.interpret import Array
from lnm_codegen.plot.axes import (
    INK,
    KIND_FACES,
    QUIET,
    WARM,
    add_legend,
    axes_of,
    draw_curves,
    interval_of,
    number_of,
)
from lnm_codegen.plot.subject import MOST_CURVES, Subject, step_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_PLACES = 401


def charge(
    subject: Subject,
    x: float = 0.0,
    *,
    span: Sequence[float] | None = None,
    row: int | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the charged potential h[t] over v[t-1] at a constant input, and the diagonal.

    Above the diagonal the potential rises, below it falls. Of one parameter set with one state,
    the fixed points are marked, filled if stable, unless the reset acts without a spike. Other
    states keep their initial values.

    Args:
        subject: A neuron or a layer.
        x: The input; of several inputs, the first.
        span: Least and greatest potential; by default around the initial one and the threshold.
        row: Number of a parameter set, or None for all; at most 64 are drawn.
        ax: Axes to draw into; a new figure by default.

    Raises:
        ModelError: An argument has another value.
        UnsupportedError: The neuron has no state.
        ToolError: matplotlib is not installed.
    """
    x = number_of("plot.charge", "x", x)
    step = step_of("charge", subject, row, MOST_CURVES)
    low, high = default_span(step) if span is None else interval_of("plot.charge", "span", span)
    axes = axes_of("charge", ax)
    v = np.linspace(low, high, _PLACES)
    inputs = {step.inputs[0]: x}
    h = charged(step, v, inputs)
    draw_charge(axes, v, h, potential_of(step.neuron).name)
    if step.rows == 1:
        draw_threshold(axes, step, v, h[:, 0], inputs)
        if len(step.states) == 1 and not resets_silently(step.neuron):
            draw_marks(axes, [p for p in _found_points(step, inputs) if low <= p[0] <= high])
    axes.set_title(f"{step.neuron.name}: charge at {step.inputs[0]} = {x:g}")
    add_legend(axes, given=ax is not None)
    return axes


def charged(step: StepMap, v: Array, x: dict[str, float] | None = None) -> Array:
    """Return the charged potential of each parameter set after a step from v (P,), (P, R)."""
    at = step.states.index(potential_of(step.neuron).name)
    return np.asarray(step.fire(_states(step, v), x)[1][at])


def _states(step: StepMap, v: Array) -> Array:
    """Return the initial states with other potentials, (n, P, R)."""
    states = np.repeat(step.start()[:, None], len(v), axis=1)
    states[step.states.index(potential_of(step.neuron).name)] = v[:, None]
    return states


def draw_charge(
    axes: Axes, v: Array, h: Array, name: str, label: str = "h", labels: Sequence[str] = ()
) -> None:
    """Draw the charged potentials h (P, R) over v (P,), and the diagonal; see `draw_curves`."""
    axes.plot(v, v, color=QUIET, linewidth=1, label=f"diagonal, h = {name}")
    draw_curves(axes, v, h, labels, label)
    axes.set_xlim(float(v[0]), float(v[-1]))
    axes.set_xlabel(f"{name}[t-1]")
    axes.set_ylabel("h[t], charged")


def draw_threshold(
    axes: Axes, step: StepMap, v: Array, h: Array, x: dict[str, float] | None = None
) -> None:
    """Draw the threshold of one parameter set, if z is the charged potential less a constant."""
    level = h - step.margin(_states(step, v), x)[:, 0]
    if np.isfinite(level).all() and np.ptp(level) <= 1e-9 * max(1.0, float(np.abs(level).max())):
        axes.axhline(float(level[0]), color=WARM, linewidth=1, linestyle="--", label="threshold")


def draw_marks(axes: Axes, points: Sequence[tuple[float, str]], size: float = 6) -> None:
    """Draw fixed points (v, kind) on the diagonal."""
    for kind, face in KIND_FACES.items():
        at = [v for v, own in points if own == kind]
        if at:
            axes.plot(at, at, "o", color=INK, markerfacecolor=face, zorder=4, markersize=size,
                      label=f"{kind} fixed point")  # fmt: skip


def _found_points(step: StepMap, x: dict[str, float]) -> list[tuple[float, str]]:
    found = []
    for (at,) in distinct_points(step, find_points(step, x), x).T:
        slope = float(step.jacobian(np.array([[at]]), x)[0][0, 0, 0])
        found.append((float(at), stability(abs(slope))))
    return found


def default_span(step: StepMap) -> tuple[float, float]:
    """Return potentials around the initial ones and the threshold."""
    at = step.states.index(potential_of(step.neuron).name)
    start, scale = step.start()[at], step.scale()
    return float((start - 2 * scale).min()), float((start + 1.2 * scale).max())
