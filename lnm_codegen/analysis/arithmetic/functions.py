"""Outward ranges of functions of one argument, and of quotients.

exp, log, sqrt, tanh and sigmoid grow, so their range over [a, b] is [F(a), F(b)]. Each end is
evaluated in interval arithmetic of 120 bits (mpmath) and moved outward. tanh(t) = 1 - 2/(exp(2t) +
1) and sigmoid(t) = 1/(1 + exp(-t)) read t once, so that their intervals are narrow.
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
"""Largest argument of exp; larger results would have too many bits."""

_GROWING: dict[Fn, Callable[[Any], Any]] = {
    Fn.EXP: _IV.exp,
    Fn.LOG: _IV.log,
    Fn.SQRT: _IV.sqrt,
    Fn.TANH: lambda t: 1 - 2 / (_IV.exp(2 * t) + 1),
    Fn.SIGMOID: lambda t: 1 / (1 + _IV.exp(-t)),
}
_PERIODIC = (Fn.SIN, Fn.COS)
_DOMAIN: dict[Fn, tuple[Callable[[Interval], bool], str]] = {
    Fn.LOG: (lambda t: t.low > 0, "arguments above 0"),
    Fn.SQRT: (lambda t: t.low >= 0, "arguments from 0"),
    Fn.EXP: (lambda t: t.high <= _MOST, f"arguments up to {_MOST}"),
}
_RANGE = {Fn.TANH: (Fraction(-1), Fraction(1)), Fn.SIGMOID: (Fraction(0), Fraction(1))}


def applied(fn: Fn, t: Interval, where: str) -> Interval:
    """Return the range of a function over an interval, or raise UnsupportedError."""
    if fn in _PERIODIC:
        raise UnsupportedError(
            where,
            f"{fn.value!r} is not monotone, so its range is unknown",
            f"polynomials, selects, {', '.join(f.value for f in _GROWING)}",
        )
    holds, accepted = _DOMAIN.get(fn, (lambda t: True, ""))
    if not holds(t):
        raise UnsupportedError(where, f"{fn.value!r} of {t}", accepted, "Give narrower intervals.")
    found = hull((_at(fn, t.low), _at(fn, t.high)))
    return Interval(found.low, found.high, t.tight)


def _at(fn: Fn, t: Fraction) -> Interval:
    if fn in _RANGE and abs(t) > _MOST:  # within 2**-GRID of the limit
        low, high = _RANGE[fn]
        step = Fraction(1, 1 << GRID)
        return Interval(high - step, high) if t > 0 else Interval(low, low + step)
    if fn is Fn.EXP and t < -_MOST:
        return Interval(Fraction(0), Fraction(1, 1 << GRID))
    if fn is Fn.SQRT and t == 0:
        return Interval(t, t)
    value = _GROWING[fn](_IV.mpf(t.numerator) / t.denominator)
    lowest, highest = (_fraction(end) for end in value._mpi_)
    low, high = _RANGE.get(fn, (lowest, highest))
    return Interval(max(lowest, low), min(highest, high))


def _fraction(end: tuple[int, int, int, int]) -> Fraction:
    """Return a number of mpmath, (-1)**sign * mantissa * 2**exponent, as a Fraction."""
    sign, mantissa, exponent, _ = end
    return (-1 if sign else 1) * int(mantissa) * Fraction(2) ** exponent


def divided(a: Interval, b: Interval, where: str) -> Interval:
    """Return the range of a quotient of independent intervals, or raise UnsupportedError."""
    if 0 in b:
        raise UnsupportedError(
            where, f"the divisor lies in {b}, which holds 0", remedy="Give narrower intervals."
        )
    inverse = Interval(1 / b.high, 1 / b.low, b.tight)
    found = a * inverse
    return found if a.low == a.high else found.loose()
