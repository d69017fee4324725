"""Closed intervals with rational ends.

    [a, b] + [c, d] = [a + c, b + d]
    [a, b] * [c, d] = [min, max of ac, ad, bc, bd]

Every operation is exact; `outward` alone moves ends, and only apart. An end that is no rational
number (an irrational root, an exponential) is replaced by a rational beyond it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from fractions import Fraction
from math import ceil, floor, isfinite
from numbers import Rational, Real
from typing import Any

from lnm_codegen.errors import ModelError

GRID = 64
"""Ends that are not rational are moved outward to the next multiple of 2**-GRID."""


@dataclass(frozen=True, slots=True)
class Interval:
    """[low, high], both rational.

    Attributes:
        low: The lower end.
        high: The upper end, >= low.
        tight: Both ends are values that occur, or limits of such, up to 2**-60; otherwise the
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

    def __sub__(self, other: Interval) -> Interval:
        return self + other.scaled(Fraction(-1))

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
        """The largest absolute value."""
        return max(abs(self.low), abs(self.high))

    @property
    def width(self) -> Fraction:
        """High - low."""
        return self.high - self.low

    def holds(self, other: Interval) -> bool:
        """Say whether `other` lies inside."""
        return self.low <= other.low and other.high <= self.high

    def loose(self) -> Interval:
        """Return the same interval, no longer said to be tight."""
        return replace(self, tight=False)

    def outward(self, bits: int) -> Interval:
        """Return the least interval around this one whose ends are multiples of 2**-bits."""
        unit = 1 << bits
        low, high = Fraction(floor(self.low * unit), unit), Fraction(ceil(self.high * unit), unit)
        return Interval(low, high, self.tight)


def point(value: Fraction) -> Interval:
    """Return [value, value]."""
    return Interval(value, value)


def hull(intervals: Iterable[Interval]) -> Interval:
    """Return the least interval that holds all of them; there must be one."""
    found = list(intervals)
    low, high = min(i.low for i in found), max(i.high for i in found)
    return Interval(low, high, all(i.tight for i in found if i.low == low or i.high == high))


def meet(a: Interval, b: Interval) -> Interval | None:
    """Return what both hold, or None; tight where those are that give the ends."""
    low, high = max((a, b), key=lambda i: i.low), min((a, b), key=lambda i: i.high)
    if low.low > high.high:
        return None
    return Interval(low.low, high.high, low.tight and high.tight)


def interval_of(where: str, value: Any) -> Interval:
    """Return what a user gave as an interval: (low, high), or one number for [number, number].

    Raises:
        ModelError: Not finite numbers, or the ends upside down; `where` says what it was.
    """
    if isinstance(value, Interval):
        return value
    ends = value if isinstance(value, tuple | list) else (value, value)
    if len(ends) != 2:
        raise ModelError(f"{where} is {value!r}. Accepted: a number, or a pair (low, high).")
    low, high = (rational(where, end) for end in ends)
    if low > high:
        raise ModelError(
            f"{where} is [{float(low):g}, {float(high):g}], upside down. Accepted: low <= high."
        )
    return Interval(low, high)


def rational(where: str, value: Any) -> Fraction:
    """Return a finite number exactly.

    Raises:
        ModelError: Anything else; `where` says what it was.
    """
    if isinstance(value, Rational) and not isinstance(value, bool):
        return Fraction(value)
    if isinstance(value, Real) and not isinstance(value, bool) and isfinite(value):
        return Fraction(float(value))
    raise ModelError(f"{where} is {value!r}. Accepted: finite numbers.")


def integer_bits(interval: Interval, frac: int) -> int:
    """Return the least m, sign included, so that every value of `interval` fits Qm.frac.

    A value that is no multiple of 2**-frac fits if its neighbours do: -2**(m-1) <= low and
    high <= 2**(m-1) - 2**-frac.
    """
    m, unit = 1, Fraction(1, 1 << frac)
    while interval.low < -(1 << (m - 1)) or interval.high > (1 << (m - 1)) - unit:
        m += 1
    return m
