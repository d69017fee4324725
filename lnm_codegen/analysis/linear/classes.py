"""Classes of linear behaviour of a step with several states.

a_1 is the eigenvalue of greatest modulus r of the Jacobian at the point. The first class that
applies wins, in this order:

    diverging           r > 1, and a free run leaves the bound
    unstable but reset  r > 1, and every free run stays: resets, or clamps, hold the states
    integrator          a_1 is real with |a_1 - 1| <= 0.1: the neuron sums its input
    resonator           a_1 is complex with r >= 0.9, near the circle: it rings for 9 steps or more
    oscillator          a_1 is complex with r < 0.9: a damped oscillation
    alternating         a_1 is real and below -0.05: a deviation changes its sign at every step
    real poles          a_1 is real and otherwise: leaks without an oscillation of a_1

r > 1 means r > 1 + 1e-6, for the rounding of learned numbers. Free runs: see `modes`.
"""

from __future__ import annotations

import numpy as np

from lnm_codegen.analysis.linear.poles import is_real
from lnm_codegen.ir.interpret import Array

SLOW, FLAT, EDGE = 0.1, 0.05, 1e-6
"""Distance of a slow pole from 1 or the circle; a real eigenvalue above -FLAT does not alternate;
excess of r over 1 that counts as rounding."""
POLE_CLASSES = (
    "real poles", "integrator", "oscillator", "resonator", "alternating", "unstable but reset",
    "diverging",
)  # fmt: skip


def classify_poles(values: Array, bounded: bool) -> str:
    """Return the class of eigenvalues (n,), by falling modulus; one of `POLE_CLASSES`.

    Args:
        values: Eigenvalues. NaN counts as diverging.
        bounded: Free runs stay within the bound; read only if r > 1.
    """
    first = complex(values[0])
    radius = abs(first)
    if not radius <= 1 + EDGE:
        return "unstable but reset" if bounded and np.isfinite(radius) else "diverging"
    if bool(is_real(np.array(first))):
        if abs(first.real - 1) <= SLOW:
            return "integrator"
        return "alternating" if first.real < -FLAT else "real poles"
    return "resonator" if radius >= 1 - SLOW else "oscillator"


def stability(radius: float) -> str:
    """Return "stable", "unstable" or "neutral" for the greatest modulus of the eigenvalues."""
    if abs(radius - 1) <= EDGE:
        return "neutral"
    return "stable" if radius < 1 else "unstable"
