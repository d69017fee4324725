"""Closed intervals with rational ends.

    [a, b] + [c, d] = [a + c, b + d]
    [a, b] * [c, d] = [min, max of ac, ad, bc, bd]

Every operation is exact, except that `outward` moves ends apart. An end that is not rational (an
irrational root, an exponential) is replaced by a rational beyond it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from fractions import Fraction
from math import ceil, floor, isfinite
from numbers import Rational, Real
from typing import Any

from mpmath.ctx_iv import MPIntervalContext

from lnm_codegen.errors import ModelError, UnsupportedError
from lnm_codegen.ir.nodes import Fn
from lnm_codegen.validation import wrong

GRID = 64
"""Ends that are not rational move outward to the next multiple of 2**-GRID."""
LONGEST = 2048
"""Largest number of bits of the denominator of an end that is carried on."""


@dataclass(frozen=True, slots=True)
class Interval:
    """[low, high], with rational ends.

    A tight interval has ends that are values that occur, or limits of such, up to 2**-60. Any other
    interval holds every value but may be too wide.
    """

    low: Fraction
    high: Fraction
    tight: bool = field(default=True, compare=False)

    def __str__(self) -> str:
        return f"[{float(self.low):.6g}, {float(self.high):.6g}]"

    def __contains__(self, value: Any) -> bool:
        return bool(self.low <= value <= self.high)

    def __add__(self, other: Interval) -> Interval:
        return Interval(self.low + other.low, self.high + other.high, self.tight and other.tight)

    def __neg__(self) -> Interval:
        return Interval(-self.high, -self.low, self.tight)

    def __sub__(self, other: Interval) -> Interval:
        return self + -other

    def __mul__(self, other: Interval) -> Interval:
        ends = [a * b for a in (self.low, self.high) for b in (other.low, other.high)]
        return Interval(min(ends), max(ends), self.tight and other.tight)

    def scaled(self, factor: Fraction) -> Interval:
        """Return factor * [low, high]."""
        ends = (self.low * factor, self.high * factor)
        return Interval(min(ends), max(ends), self.tight)

    def shifted(self, amount: Fraction) -> Interval:
        """Return [low, high] + amount."""
        return Interval(self.low + amount, self.high + amount, self.tight)

    @property
    def magnitude(self) -> Fraction:
        """Largest absolute value."""
        return max(abs(self.low), abs(self.high))

    @property
    def width(self) -> Fraction:
        """Length of the interval, high - low."""
        return self.high - self.low

    def holds(self, other: Interval) -> bool:
        """Report whether `other` lies inside."""
        return self.low <= other.low and other.high <= self.high

    def loose(self) -> Interval:
        """Return the same interval, marked as not tight."""
        return replace(self, tight=False)

    def outward(self, bits: int) -> Interval:
        """Return the least interval around it whose ends are multiples of 2**-bits."""
        unit = 1 << bits
        low, high = Fraction(floor(self.low * unit), unit), Fraction(ceil(self.high * unit), unit)
        return Interval(low, high, self.tight)

    def shortened(self) -> Interval:
        """Return the interval itself, or the one outward of it on the grid if an end is long."""
        bits = max(end.denominator.bit_length() for end in (self.low, self.high))
        return self if bits <= LONGEST else self.outward(GRID)


def point(value: Fraction) -> Interval:
    """Return [value, value]."""
    return Interval(value, value)


def hull(intervals: Iterable[Interval]) -> Interval:
    """Return the least interval that holds all of one or more intervals."""
    found = list(intervals)
    low, high = min(i.low for i in found), max(i.high for i in found)
    return Interval(low, high, all(i.tight for i in found if i.low == low or i.high == high))


def meet(a: Interval, b: Interval) -> Interval | None:
    """Return the intersection, or None; it is tight if the intervals of its ends are."""
    low, high = max((a, b), key=lambda i: i.low), min((a, b), key=lambda i: i.high)
    if low.low > high.high:
        return None
    return Interval(low.low, high.high, low.tight and high.tight)


def interval_of(where: str, word: str, value: Any) -> Interval:
    """Return (low, high), or [number, number] of one number, or raise ModelError."""
    if isinstance(value, Interval):
        return value
    ends = value if isinstance(value, tuple | list) else (value, value)
    if len(ends) != 2:
        raise wrong(where, word, value, "a number, or a pair (low, high)")
    low, high = (rational(where, word, end) for end in ends)
    if low > high:
        problem = f"{word} is [{float(low):g}, {float(high):g}]: low exceeds high"
        raise ModelError(where, problem, "low <= high")
    return Interval(low, high)


def rational(where: str, word: str, value: Any) -> Fraction:
    """Return a finite number exactly, or raise ModelError."""
    if isinstance(value, Rational) and not isinstance(value, bool):
        return Fraction(value)
    if isinstance(value, Real) and not isinstance(value, bool) and isfinite(value):
        return Fraction(float(value))
    raise wrong(where, word, value, "finite numbers")


def integer_bits(interval: Interval, frac: int) -> int:
    """Return the least m, sign included, such that every value of `interval` fits Qm.frac.

    That is -2**(m-1) <= low and high <= 2**(m-1) - 2**-frac, so that a value between two multiples
    of 2**-frac fits with both.
    """
    m, unit = 1, Fraction(1, 1 << frac)
    while interval.low < -(1 << (m - 1)) or interval.high > (1 << (m - 1)) - unit:
        m += 1
    return m


# Outward ranges of functions of one argument, and of quotients.
#
# exp, log, sqrt, tanh and sigmoid grow, so their range over [a, b] is [F(a), F(b)]. Each end is
# evaluated in interval arithmetic of 120 bits (mpmath) and moved outward. tanh(t) = 1 - 2/(exp(2t)
# + 1) and sigmoid(t) = 1/(1 + exp(-t)) read t once, so that their intervals are narrow.


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
