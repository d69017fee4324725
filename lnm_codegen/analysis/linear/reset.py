"""Gain of the gradient through the reset at the threshold.

The reset is s' = R(s, spike), and a surrogate of slope g stands in for the derivative of the spike.
Where R changes nothing without a spike, a step at the threshold, z = 0, therefore multiplies
gradients by the matrix

    I + g(0) * J * grad z,    J = dR/d spike

also in steps without a spike, whose z is a little below 0. Its one eigenvalue that differs from 1
is 1 - G, with the gain G = -g(0) * (grad z . J). For a LIF neuron G is g(0) times the jump of the
reset: v_threshold - v_reset, or v_threshold if it is soft. A threshold of 1 and atan(alpha=2) give
G = 1. Beyond G = 2 the factor 1 - G is below -1: gradients of silent steps near the threshold
change sign and grow. `detach_reset` makes the matrix I. What R changes without a spike, such as a
counter or the decay of an adaptation, is no part of G.

A surrogate that is G times as wide has a gain of 1, so nothing grows. It does not correct the
gradients of silent steps: its tail reaches G times as far, and each factor 1 - g(z) * jump below
the threshold shrinks them.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from lnm_codegen.analysis.charge import potential_of, readable_inputs
from lnm_codegen.analysis.linear.step import RowKernels, Values, initial_states, kernels_of
from lnm_codegen.ir.interpret import Array, run
from lnm_codegen.ir.names import Names
from lnm_codegen.language.binding import rebound
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.language.surrogate import Z

MOST_GAIN = 2.0
"""Gain above which a factor of the gradient is below -1."""
_BELOW = 1e-6
"""Distance below the threshold, over the distance of the initial states."""


def reset_gain(neuron: Neuron, values: Values | None = None, rows: int = 1) -> Array:
    """Return the gain G of each parameter set, (R,), the largest of several spikes.

    It is 0 without spikes, without states and with `detach_reset`.

    Args:
        neuron: The neuron. G is taken at the initial states with the potential at the threshold;
            a random initial state counts as 0.
        values: Parameters; the declared `init` otherwise.
        rows: R.

    Raises:
        ModelError: A function initialises a parameter that `values` lacks.
        ShapeError: A parameter has another shape.
    """
    if not neuron.fire or not neuron.states or neuron.detach_reset:
        return np.zeros(rows)
    probe, names = _reset_neuron(neuron)
    kernels = kernels_of(probe, values or {}, rows)
    detached = kernels_of(probe.with_detach_reset(True), values or {}, rows)
    at = initial_states(neuron, values or {}, rows)
    found = [_gain(neuron, kernels, detached, name, at) for name in names]
    return np.asarray(np.max(found, axis=0))


def advice(neuron: Neuron, gain: float) -> str:
    """Return what to change in a neuron whose gain is above `MOST_GAIN`, or an empty text."""
    if gain <= MOST_GAIN:
        return ""
    wider = f"A surrogate {gain:.3g} times as wide"
    first = neuron.surrogates[0][1]
    if first.name == "atan":
        wider += f", atan(alpha={2 * float(first.slope.subs(Z, 0)) / gain:.3g}),"
    return (
        f"Near the threshold, each step multiplies gradients by {1 - gain:.3g}, even without a"
        f" spike. Set detach_reset=True. {wider} prevents this growth, but shrinks the gradients"
        " of silent steps."
    )


def _gain(
    neuron: Neuron, kernels: RowKernels, detached: RowKernels, spike: str, at: Array
) -> Array:
    """Return the gain of one spike, whose z is the output `spike`: the trace that it removes.

    `detached` are the kernels of the same reset whose spikes have no derivative.
    """
    states = [s.name for s in neuron.states]

    def run_at(
        point: Array, seeds: dict[str, float], kernels: RowKernels = kernels
    ) -> tuple[Array, Array]:
        names = (p.var.name for p in kernels.program.backward.inputs)
        given: dict[str, Any] = dict.fromkeys(names, 0.0)
        given |= {**kernels.table, **dict(zip(states, point, strict=True)), **seeds}
        given |= {s.name: 0.0 for s in neuron.inputs}
        found = run(kernels.program.backward, given)
        z = run(kernels.program.forward, given)[spike]
        grads = np.array([np.broadcast_to(found[f"grad_{n}"], at.shape[1:]) for n in states])
        return np.broadcast_to(z, at.shape[1:]), grads

    z, slope = run_at(at, {f"grad_{spike}": 1.0})
    own = states.index(potential_of(neuron).name)
    direction = np.where(slope[own] != 0, np.arange(len(states))[:, None] == own, slope)
    rise = (direction * slope).sum(0)
    below = _BELOW * np.maximum(np.abs(z), 1e-3)
    near = at - (z + below) * direction / np.where(rise != 0, rise, 1.0)
    silent, whole = (
        np.sum([run_at(near, {f"grad_{n}_next": 1.0}, of)[1][k] for k, n in enumerate(states)], 0)
        for of in (detached, kernels)
    )
    gain = np.asarray(silent - whole)
    return np.where(np.isfinite(gain), gain, 0.0)


@lru_cache(maxsize=256)
def _reset_neuron(neuron: Neuron) -> tuple[Neuron, tuple[str, ...]]:
    """Return the neuron whose charge keeps the states, and its outputs: the z of each spike."""
    names = Names({s.name for s in neuron.symbols} | {s.name for s, _ in neuron.fire})
    own = dict(neuron.bindings)

    def bound(pairs: Any) -> dict[Any, Any]:
        return {s: rebound(e, lambda e: e, own) for s, e in pairs}

    fire = bound(neuron.fire)
    output: dict[str, Any] = {names.fresh("z"): z for z in fire.values()}
    spikes = tuple(output)
    output |= {names.fresh("seen"): x for x in readable_inputs(neuron)}
    slopes = dict(neuron.surrogates)
    kept = Neuron(
        charge={s: s for s in neuron.states},
        fire=fire,
        reset=bound(neuron.reset),
        output=output,
        surrogate={spike: slopes[spike.name] for spike, _ in neuron.fire},
        name="reset",
    )
    return kept, spikes
