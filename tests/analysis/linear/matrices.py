"""Neurons of two states with given matrices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

import lnm_codegen as lnm

numbers = st.floats(-1.5, 1.5).map(lambda x: round(x, 6))
entries = st.tuples(numbers, numbers, numbers, numbers)
"""Elements of a 2 x 2 matrix, row by row."""


def free(a: Sequence[float] = (0.5, -0.6, 0.6, 0.5), **arguments: Any) -> lnm.Neuron:
    """Return v <- a0*v + a1*w + x, w <- a2*v + a3*w, soft reset of v by 1."""
    v, w, x = lnm.state("v"), lnm.state("w"), lnm.input("x")
    m = lnm.param("A", 4, init=tuple(a))
    return lnm.Neuron(
        charge={v: m[0] * v + m[1] * w + x, w: m[2] * v + m[3] * w},
        fire=v - 1,
        reset={v: v - lnm.spike},
        name="free",
        **arguments,
    )


def fitzhugh_nagumo() -> lnm.Neuron:
    """Return an Euler step of the FitzHugh-Nagumo neuron, without a reset."""
    v, w, x = lnm.state("v", init=-1.2), lnm.state("w", init=-0.6), lnm.input("x")
    return lnm.Neuron(
        charge={v: v + 0.2 * (v - v**3 / 3 - w + x), w: w + 0.2 * (v + 0.7 - 0.8 * w) / 12.5},
        fire=v - 1,
        output=v,
        name="fhn",
    )
