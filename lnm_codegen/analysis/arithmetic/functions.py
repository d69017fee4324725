"""Ranges of functions of one argument and of quotients, outward.

exp, log, sqrt, tanh and sigmoid grow, so that the range over [a, b] is [F(a), F(b)]; each end is
evaluated in interval arithmetic of 120 bits (mpmath) and moved outward. tanh(t) = 1 - 2/(exp(2t) +
1) and sigmoid(t) = 1/(1 + exp(-t)), in which each end has one argument.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

from mpmath.ctx_iv import MPIntervalContext

from lnm_codegen.analysis.arithmetic.interval import GRID, Interval, hull
from lnm_codegen.errors import UnsupportedError
from lnm_codegen.ir.operators import Fn

_IV = MPIntervalContext()
_IV.prec = 120
_MOST = 1024
"""exp of more has more bits than anything here should carry."""

_GROWING: dict[Fn, Callable[[Any], Any]] = {
    Fn.EXP: _IV.exp,
    Fn.LOG: _IV.log,
    Fn.SQRT: _IV.sqrt,
    Fn.TANH: lambda t: 1 - 2 / (_IV.exp(2 * t) + 1),
    Fn.SIGMOID: lambda t: 1 / (1 + _IV.exp(-t)),
}
_DOMAIN = {Fn.LOG: "above 0", Fn.SQRT: "from 0"}
_RANGE = {Fn.TANH: (Fraction(-1), Fraction(1)), Fn.SIGMOID: (Fraction(0), Fraction(1))}


def applied(fn: Fn, t: Interval, where: str) -> Interval:
    """Return the range of a function over an interval.

    Raises:
        UnsupportedError: Not a growing function, an argument outside its domain, an exponential
            past exp(1024); `where` names the Let.
    """
    if fn not in _GROWING:
        raise UnsupportedError(
            where,
            f"{fn.value!r} is not monotone, so its range is not known here",
            f"polynomials, selects, {', '.join(f.value for f in _GROWING)}",
        )
    if (fn is Fn.LOG and t.low <= 0) or (fn is Fn.SQRT and t.low < 0):
        raise UnsupportedError(
            where, f"{fn.value!r} of {t}", f"arguments {_DOMAIN[fn]}", "Give narrower intervals."
        )
    if fn is Fn.EXP and t.high > _MOST:
        raise UnsupportedError(
            where, f"'exp' of {t}", f"arguments up to {_MOST}", "Give narrower intervals."
        )
    found = hull((_at(fn, t.low), _at(fn, t.high)))
    return Interval(found.low, found.high, t.tight)


def _at(fn: Fn, t: Fraction) -> Interval:
    if fn in _RANGE and abs(t) > _MOST:  # beyond 2**-GRID of the limit
        low, high = _RANGE[fn]
        step = Fraction(1, 1 << GRID)
        return Interval(high - step, high) if t > 0 else Interval(low, low + step)
    if fn is Fn.EXP and t < -_MOST:
        return Interval(Fraction(0), Fraction(1, 1 << GRID))
    if fn is Fn.SQRT and t == 0:
        return Interval(t, t)
    value = _GROWING[fn](_IV.mpf(t.numerator) / t.denominator)
    ends = [_fraction(end) for end in value._mpi_]
    found = Interval(ends[0], ends[1])
    low, high = _RANGE.get(fn, (found.low, found.high))
    return Interval(max(found.low, low), min(found.high, high))


def _fraction(end: tuple[int, int, int, int]) -> Fraction:
    """Return a number of mpmath: (-1)**sign * mantissa * 2**exponent."""
    sign, mantissa, exponent, _ = end
    magnitude = int(mantissa) * (
        Fraction(1 << exponent) if exponent >= 0 else Fraction(1, 1 << -exponent)
    )
    return -magnitude if sign else magnitude


def divided(a: Interval, b: Interval, where: str) -> Interval:
    """Return the range of a quotient of independent intervals.

    Raises:
        UnsupportedError: The divisor may be 0.
    """
    if 0 in b:
        raise UnsupportedError(
            where, f"the divisor lies in {b}, which holds 0", remedy="Give narrower intervals."
        )
    inverse = Interval(1 / b.high, 1 / b.low, b.tight)
    found = a * inverse
    return found if a.low == a.high else found.loose()
