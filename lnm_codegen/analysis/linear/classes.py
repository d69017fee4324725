"""Classes of linear behaviour of a step with several states.

r is the greatest modulus of the eigenvalues of the Jacobian at the point. a_1 is the eigenvalue of
greatest modulus in the block of the states that the input reaches, or in the whole Jacobian if the
input reaches none. The first class that applies wins, in this order:

    diverging           r > 1, and a free run leaves the bound
    unstable but reset  r > 1, and every free run stays: resets, or clamps, hold the states
    integrator          a_1 is real with |a_1 - 1| <= 0.1: the neuron sums its input
    resonator           a_1 is complex with |a_1| >= 0.9, near the circle: it rings for long
    oscillator          a_1 is complex with |a_1| < 0.9: a damped oscillation
    alternating         a_1 is real and below -0.05: a deviation changes its sign at every step
    real poles          a_1 is real and otherwise: leaks without an oscillation of a_1

r > 1 means r > 1 + `poles.EDGE`, the rounding of learned numbers. Free runs have no input and
begin near the point. Their length and bound depend on r: see `modes`. Inputs may still drive the
states out.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from lnm_codegen.analysis.linear.poles import EDGE, is_real
from lnm_codegen.ir.interpret import Array

SLOW, FLAT = 0.1, 0.05
"""Distance of a slow pole from 1 or the circle; a real pole above -FLAT does not alternate."""
RESET, DIVERGING = "unstable but reset", "diverging"
"""The classes with an unstable point: free runs stay, or leave the bound."""
POLE_CLASSES = (
    "real poles", "integrator", "oscillator", "resonator", "alternating", RESET, DIVERGING,
)  # fmt: skip


def classify_poles(values: Array, bounded: bool, first: complex | None = None) -> str:
    """Return the class of eigenvalues (n,), by falling modulus; one of `POLE_CLASSES`.

    Args:
        values: Eigenvalues. NaN counts as diverging.
        bounded: Free runs stay within the bound; read only if r > 1.
        first: The greatest eigenvalue of the states that the input reaches; by default of all.
    """
    radius = abs(complex(values[0]))
    if not radius <= 1 + EDGE:
        return RESET if bounded and np.isfinite(radius) else DIVERGING
    first = complex(values[0] if first is None else first)
    if bool(is_real(np.array(first))):
        if abs(first.real - 1) <= SLOW:
            return "integrator"
        return "alternating" if first.real < -FLAT else "real poles"
    return "resonator" if abs(first) >= 1 - SLOW else "oscillator"


def class_note(labels: Iterable[str]) -> str:
    """Return a note on "unstable but reset" if that is one of the classes, or an empty text."""
    if RESET not in labels:
        return ""
    return (
        f'"{RESET}" describes runs without input from states near the point: resets or clamps hold'
        " them. Inputs may still drive the states out."
    )


def stability(radius: float) -> str:
    """Return "stable", "unstable" or "neutral" for the greatest modulus of the eigenvalues."""
    if abs(radius - 1) <= EDGE:
        return "neutral"
    return "stable" if radius < 1 else "unstable"
