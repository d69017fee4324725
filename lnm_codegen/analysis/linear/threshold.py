"""Factor of gradients in a silent step at the threshold.

The charge comes before the reset. A silent step whose potential is a little below the threshold V,
before and after the charge, multiplies gradients by the matrix

    (I + g(0) * J * grad z) * A

The first factor is that of the reset (`reset`). A is the Jacobian of the charge there, without
input. For one state the product is f'(V) * (1 - G). Gradients of such steps grow if the greatest
modulus of its eigenvalues is above 1. With `detach_reset` the matrix is A.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from lnm_codegen.analysis.charge import readable_inputs
from lnm_codegen.analysis.linear.poles import EDGE, eigenvalues, is_real
from lnm_codegen.analysis.linear.reset import probe_of, reset_gain, reset_jacobians
from lnm_codegen.analysis.linear.step import Values
from lnm_codegen.ir.interpret import Array
from lnm_codegen.ir.names import Names
from lnm_codegen.language.binding import rebound
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.language.surrogate import Z


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
    charge = probe_of(_charge_neuron(neuron), values, rows)
    found = []
    for near, silent, whole in reset_jacobians(neuron, values, rows):
        a = charge.jacobian(near)
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
    names, own = Names({s.name for s in neuron.symbols}), dict(neuron.bindings)
    charged = {s: rebound(e, lambda e: e, own) for s, e in neuron.charge}
    output: dict[str, Any] = {names.fresh("out"): neuron.states[0]}
    output |= {names.fresh("seen"): x for x in readable_inputs(neuron)}
    charge: dict[Any, Any] = {s: s for s in neuron.states} | charged
    return Neuron(charge=charge, output=output, name="charge")
