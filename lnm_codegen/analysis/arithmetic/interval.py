"""Closed intervals with rational ends.

    [a, b] + [c, d] = [a + c, b + d]
    [a, b] * [c, d] = [min, max of ac, ad, bc, bd]

Every operation is exact, except that `outward` moves ends apart. An end that is not rational (an
irrational root, an exponential) is replaced by a rational beyond it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from fractions import Fraction
from math import ceil, floor, isfinite
from numbers import Rational, Real
from typing import Any

from lnm_codegen.errors import ModelError
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
