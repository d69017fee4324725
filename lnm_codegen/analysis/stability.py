"""Whether a polynomial neuron keeps its potential in [v_min, V], decided exactly.

For h = f(v) + x, a threshold V and |x| <= X, the potential after the reset stays in [v_min, V] if

    hard reset, to a value inside:   f(v) - X >= v_min               on [v_min, V]
    soft reset, by V:                the same, and f(v) + X <= 2*V   on [v_min, V]

(below V nothing fires, so that the upper side is the reset's work; a soft reset leaves h - V >= 0.)
For h = f(v + x) it is f >= v_min, and f <= 2*V, on [v_min - X, V + X].
Both say that a polynomial is nowhere negative, which Sturm's theorem decides in rationals: no
tolerance, also where it only touches 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from lnm_codegen.analysis.arithmetic.interval import Interval, interval_of, rational
from lnm_codegen.analysis.arithmetic.univariate import Coefficients, is_nonnegative
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
    """Say whether theta is in the set above.

    Args:
        theta: theta_0, ..., theta_d of f(v) = sum of theta_k * v**k; floats are taken exactly.
        x: X >= 0, the largest |x|; or (low, high).
        v_min: The lowest potential.
        v_threshold: V > v_min.
        soft: The reset subtracts V, which then is to be >= 0 >= v_min; else it is hard.
        inside: The input is added before f, h = f(v + x).

    Raises:
        ModelError: Numbers that are not finite, intervals upside down.
    """
    f = tuple(rational(f"keeps_potential: theta[{k}]", t) for k, t in enumerate(theta))
    if not isinstance(x, tuple | list):
        most = rational("keeps_potential: x", x)
        x = (-most, most)
    inputs = interval_of("keeps_potential: x", x)
    v = interval_of("keeps_potential: [v_min, v_threshold]", (v_min, v_threshold))
    if soft and not v.low <= 0 <= v.high:
        raise ModelError(
            "keeps_potential",
            f"[v_min, v_threshold] is {v}",
            remedy="Accepted with a soft reset: an interval that holds 0.",
        )
    return all(is_nonnegative(p, on) for p, on in conditions(f, inputs, v, soft, inside))


def conditions(
    f: Coefficients, x: Interval, v: Interval, soft: bool, inside: bool
) -> tuple[tuple[Coefficients, Interval], ...]:
    """Return the polynomials that are to be nowhere negative, each with its interval.

    Each is affine in the coefficients of f.
    """
    on = v + x if inside else v
    low, high = (Fraction(0), Fraction(0)) if inside else (x.low, x.high)
    lower = (_shifted(f, low - v.low), on)
    return (lower, (_shifted(tuple(-c for c in f), 2 * v.high - high), on)) if soft else (lower,)


def _shifted(f: Coefficients, amount: Fraction) -> Coefficients:
    """Return f + amount."""
    return (f[0] + amount, *f[1:]) if f else (amount,)
