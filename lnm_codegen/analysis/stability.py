"""Exact decision of whether a polynomial neuron keeps its potential in [v_min, V].

For h = f(v) + x, a threshold V and |x| <= X, the potential after the reset stays in [v_min, V] if

    hard reset, to a value inside:   f(v) - X >= v_min               on [v_min, V]
    soft reset, by V:                the same, and f(v) + X <= 2*V   on [v_min, V]

Below V the neuron does not fire, so only the reset acts on the upper side; a soft reset leaves
h - V >= 0. For h = f(v + x) the conditions are f >= v_min and f <= 2*V on [v_min - X, V + X].
Both state that a polynomial is nowhere negative, which Sturm's theorem decides in rationals. There
is no tolerance, even where the polynomial touches 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from lnm_codegen.analysis.arithmetic.interval import Interval, interval_of, rational
from lnm_codegen.analysis.arithmetic.univariate import Coefficients, is_nonnegative, shifted
from lnm_codegen.errors import ModelError


def keeps_potential(
    theta: Sequence[Any],
    x: Any,
    v_min: Any,
    v_threshold: Any,
    *,
    soft: bool = False,
    inside: bool = False,
) -> bool:
    """Report whether a polynomial neuron keeps its potential in [v_min, V].

    Args:
        theta: theta_0, ..., theta_d of f(v) = sum of theta_k * v**k; floats are exact.
        x: X >= 0, the largest |x|; or (low, high).
        v_min: The lowest potential.
        v_threshold: V > v_min.
        soft: The reset subtracts V, and V >= 0 >= v_min; otherwise the reset is hard.
        inside: The input is added before f, h = f(v + x).

    Raises:
        ModelError: A number is not finite, or an interval is upside down.
    """
    f = tuple(rational("keeps_potential", f"theta[{k}]", t) for k, t in enumerate(theta))
    if not isinstance(x, tuple | list):
        most = rational("keeps_potential", "x", x)
        x = (-most, most)
    inputs = interval_of("keeps_potential", "x", x)
    v = interval_of("keeps_potential", "[v_min, v_threshold]", (v_min, v_threshold))
    if soft and not v.low <= 0 <= v.high:
        raise ModelError(
            "keeps_potential",
            f"[v_min, v_threshold] is {v}, with a soft reset",
            "an interval that holds 0",
        )
    return all(is_nonnegative(p, on) for p, on in conditions(f, inputs, v, soft, inside))


def conditions(
    f: Coefficients, x: Interval, v: Interval, soft: bool, inside: bool
) -> tuple[tuple[Coefficients, Interval], ...]:
    """Return (p, interval) of each polynomial that must be nowhere negative on its interval.

    Each p is affine in the coefficients of f.
    """
    on = v + x if inside else v
    low, high = (Fraction(0), Fraction(0)) if inside else (x.low, x.high)
    lower = (shifted(f, low - v.low), on)
    upper = (shifted(tuple(-c for c in f), 2 * v.high - high), on)
    return (lower, upper) if soft else (lower,)
