"""Factor of gradients in a silent step at the threshold.

The charge comes before the reset. A silent step whose potential is a little below the threshold V,
before and after the charge, multiplies gradients by the matrix

    (I + g(0) * J * grad z) * A

The first factor is that of the reset (`reset_gain`). A is the Jacobian of the charge there, without
input. For one state the product is f'(V) * (1 - G). Gradients of such steps grow if the greatest
modulus of its eigenvalues is above 1. With `detach_reset` the matrix is A.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from lnm_codegen.analysis.charge import potential_of
from lnm_codegen.analysis.linear.modes import EDGE, eigenvalues, is_real
from lnm_codegen.analysis.linear.step import (
    RowKernels,
    Values,
    initial_states,
    kernels_of,
    probe,
)
from lnm_codegen.ir.interpret import Array
from lnm_codegen.language.binding import rebound
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.language.surrogate import Z
from lnm_codegen.language.symbols import Declared


@dataclass(frozen=True, slots=True)
class ThresholdGradient:
    """Factor of gradients in a silent step at the threshold, of one or several parameter sets.

    Attributes:
        gain: The largest gain G.
        factor: The eigenvalue of greatest modulus, of the set where that is largest; the modulus
            itself if it is complex. 0 without spikes or states.
        detached: The same of this set with `detach_reset`.
    """

    gain: float = 0.0
    factor: float = 0.0
    detached: float = 0.0


def threshold_gradient(
    neuron: Neuron, values: Values | None = None, rows: int = 1
) -> ThresholdGradient:
    """Return the factor of gradients at the threshold; arguments and errors as of `reset_gain`."""
    if not neuron.fire or not neuron.states:
        return ThresholdGradient()
    charge = kernels_of(_charge_neuron(neuron), values or {}, rows)
    found = []
    for near, silent, whole in reset_jacobians(neuron, values, rows):
        a, _ = charge.jacobian(near)
        with np.errstate(invalid="ignore", over="ignore"):
            silent, whole = silent @ a, whole @ a
        detached = _largest(silent)
        found.append((detached if neuron.detach_reset else _largest(whole), detached))
    factors, detached = (np.concatenate(e) for e in zip(*found, strict=True))
    k = int(np.abs(factors).argmax())
    gain = float(reset_gain(neuron, values, rows).max())
    return ThresholdGradient(gain, float(factors[k]), float(detached[k]))


def advice(neuron: Neuron, found: ThresholdGradient) -> str:
    """Return what to change in a neuron that makes gradients grow there, or an empty text."""
    if abs(found.factor) <= 1 + EDGE or found.gain <= EDGE:
        return ""
    growth = (
        f"Near the threshold, each step multiplies gradients by {found.factor:.3g}, even without a"
        " spike."
    )
    if abs(found.detached) > 1 + EDGE:
        growth += f" The charge alone multiplies them by {found.detached:.3g}: limit its slope."
    if abs(found.factor) <= abs(found.detached):
        return growth
    wider = f"A surrogate {found.gain:.3g} times as wide"
    first = neuron.surrogates[0][1]
    if first.name == "atan":
        wider += f", atan(alpha={2 * float(first.slope.subs(Z, 0)) / found.gain:.3g}),"
    return (
        f"{growth} Set detach_reset=True. {wider} prevents this growth, but shrinks the gradients"
        " of silent steps."
    )


def _largest(matrices: Array) -> Array:
    """Return the eigenvalue of greatest modulus, (R,), or its modulus if complex; 0 for NaN."""
    first = eigenvalues(matrices)[:, 0]
    number = np.where(is_real(first), first.real, np.abs(first))
    return np.where(np.isfinite(number), number, 0.0)


@lru_cache(maxsize=256)
def _charge_neuron(neuron: Neuron) -> Neuron:
    """Return the neuron of the charge alone."""
    own = dict(neuron.bindings)
    charged = {s: rebound(e, lambda e: e, own) for s, e in neuron.charge}
    return probe(neuron, [("out", neuron.states[0])], charge=charged, name="charge")


# Gain of the gradient through the reset at the threshold.
#
# The reset is s' = R(s, spike), and a surrogate of slope g stands in for the derivative of the
# spike. Where R changes nothing without a spike, a step at the threshold, z = 0, therefore
# multiplies gradients by the matrix
#
#     I + g(0) * J * grad z,    J = dR/d spike
#
# also in steps without a spike, whose z is a little below 0. Its one eigenvalue that differs from 1
# is 1 - G, with the gain G = -g(0) * (grad z . J). For a LIF neuron G is g(0) times the jump of the
# reset: v_threshold - v_reset, or v_threshold if it is soft. A threshold of 1 and atan(alpha=2)
# give G = 1. `detach_reset` makes the matrix I. What R changes without a spike, such as a counter
# or the decay of an adaptation, is no part of G.
#
# A surrogate that is G times as wide has a gain of 1, so nothing grows. It does not correct the
# gradients of silent steps: its tail reaches G times as far, and each factor 1 - g(z) * jump below
# the threshold shrinks them.


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
    pairs = reset_jacobians(neuron, values, rows)
    gains = np.array([np.trace(s - w, axis1=-2, axis2=-1) for _, s, w in pairs])
    return np.asarray(np.where(np.isfinite(gains), gains, 0.0).max(0))


def reset_jacobians(
    neuron: Neuron, values: Values | None, rows: int
) -> list[tuple[Array, Array, Array]]:
    """Return for each spike: states a little below its threshold, (n, R), and matrices (R, n, n).

    These are the Jacobians of the reset there, with spikes that have no derivative and with
    surrogates.
    """
    kept = _reset_neuron(neuron)
    whole = kernels_of(kept, values or {}, rows)
    detached = kernels_of(kept.with_detach_reset(True), values or {}, rows)
    at = initial_states(neuron, values or {}, rows)
    names = [name for name, _ in kept.output][: len(kept.fire)]
    points = [_below_threshold(whole, potential_of(neuron), name, at) for name in names]
    return [(near, detached.jacobian(near)[0], whole.jacobian(near)[0]) for near in points]


def _below_threshold(kernels: RowKernels, potential: Declared, z: str, at: Array) -> Array:
    """Return states a little below the threshold of the spike whose z is an output."""
    value, slopes = kernels.run(at)[z], kernels.gradient(at, z)
    slope = np.array([slopes[s.name] for s in kernels.neuron.states])
    own = [s.name for s in kernels.neuron.states].index(potential.name)
    direction = np.where(slope[own] != 0, np.arange(len(at))[:, None] == own, slope)
    rise = (direction * slope).sum(0)
    below = _BELOW * np.maximum(np.abs(value), 1e-3)
    return np.asarray(at - (value + below) * direction / np.where(rise != 0, rise, 1.0))


@lru_cache(maxsize=256)
def _reset_neuron(neuron: Neuron) -> Neuron:
    """Return the neuron whose charge keeps the states; its first outputs are the z of spikes."""
    own, slopes = dict(neuron.bindings), dict(neuron.surrogates)
    fire, reset = (
        {s: rebound(e, lambda e: e, own) for s, e in pairs} for pairs in (neuron.fire, neuron.reset)
    )
    return probe(
        neuron,
        [("z", z) for z in fire.values()],
        fire=fire,
        reset=reset,
        surrogate={spike: slopes[spike.name] for spike in fire},
        name="reset",
    )
