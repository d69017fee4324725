"""Figure of the charge v[t-1] -> h[t] of a neuron with one state.

A fixed point lies where the curve crosses the diagonal: its mark is filled if it is stable, hollow
if not. Below threshold a step goes from the diagonal to the curve and back.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from lnm_codegen.analysis.canvas import new_figure
from lnm_codegen.analysis.exact import prepared_parameters
from lnm_codegen.analysis.fixed_points import FixedPoints, charge_kernel, only_state
from lnm_codegen.analysis.invariant import Invariant
from lnm_codegen.analysis.report import Analysis
from lnm_codegen.ir.interpret import Array, run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_INK, _QUIET, _WARM, _COOL = "#1f4e79", "#8c8c8c", "#c55a11", "#dbe7f3"
_STYLES = {"stable": _INK, "unstable": "white", "neutral": _QUIET}


def charge_figure(found: Analysis) -> Figure:
    """Draw the charge without input and at both ends of the input."""
    state = only_state(found.neuron)
    figure = new_figure("analyze", 5.6, 5.0)
    axis = figure.subplots()
    low, high = _extent(found, state)
    v = np.linspace(low, high, 401)
    axis.plot(v, v, color=_QUIET, linewidth=1, label=f"diagonal, h = {state}")
    _draw_charge(axis, found, state, v)
    _draw_marks(axis, found, state)
    axis.set_xlim(low, high)
    axis.set_xlabel(f"{state}[t-1]")
    axis.set_ylabel("h[t], charged")
    axis.set_title(f"{found.neuron.name}: charge against the diagonal", fontsize=10)
    axis.legend(fontsize=8, loc="upper left")
    return figure


def _draw_charge(axis: Axes, found: Analysis, state: str, v: Array) -> None:
    lowest = _charge(found, state, v, {n: float(i.low) for n, i in found.inputs.items()})
    highest = _charge(found, state, v, {n: float(i.high) for n, i in found.inputs.items()})
    at_rest = _charge(found, state, v, dict.fromkeys(found.inputs, 0.0))
    if found.inputs:
        text = ", ".join(f"{n} in {i}" for n, i in found.inputs.items())
        axis.fill_between(v, lowest, highest, color=_COOL, label=f"between the ends of {text}")
    axis.plot(v, at_rest, color=_INK, linewidth=2, label="h without input")
    drawn = np.concatenate([v, lowest, highest, at_rest])
    axis.set_ylim(float(drawn.min()), float(drawn.max()))


def _draw_marks(axis: Axes, found: Analysis, state: str) -> None:
    threshold = prepared_parameters(found.neuron, found.values).get("v_threshold")
    if threshold is not None:
        axis.axhline(
            float(threshold), color=_WARM, linewidth=1, linestyle="--", label="v_threshold"
        )
    if isinstance(found.invariant, Invariant):
        inside = found.invariant.states[state]
        axis.axvspan(float(inside.low), float(inside.high), color=_QUIET, alpha=0.12, linewidth=0,
                     label=f"invariant {inside}")  # fmt: skip
    for kind, color in _STYLES.items():
        at = [float(p.v.low) for p in _at_rest(found) if p.kind == kind]
        if at:
            axis.plot(at, at, "o", color=_INK, markerfacecolor=color, zorder=4,
                      label=f"{kind} fixed point")  # fmt: skip


def _at_rest(found: Analysis) -> Any:
    first = found.fixed_points[0] if isinstance(found.fixed_points, tuple) else None
    return first.points if isinstance(first, FixedPoints) else ()


def _charge(found: Analysis, state: str, v: Array, inputs: Mapping[str, float]) -> Array:
    kernel, charged = charge_kernel(found.neuron)
    numbers = prepared_parameters(found.neuron, found.values)
    values = {n: float(x) for n, x in numbers.items()} | dict(inputs) | {state: v}
    return np.broadcast_to(run(kernel, values)[charged], v.shape)


def _extent(found: Analysis, state: str) -> tuple[float, float]:
    """Return the potentials to draw: the interval of the ranges, with the fixed points near it."""
    low, high = -2.0, 1.0
    if found.states is not None:
        low, high = float(found.states[state].low), float(found.states[state].high)
    span = max(high - low, 0.5)
    near = [float(p.v.low) for p in _at_rest(found) if low - span <= p.v.low <= high + span]
    return min([low, *near]) - 0.1 * span, max([high, *near]) + 0.1 * span
