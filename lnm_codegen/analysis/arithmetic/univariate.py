"""Polynomials of one variable with rational coefficients: exact ranges, roots and signs.

The extremes of p over [a, b] lie at a, b and the real roots of p'. A root c lies in a rational
interval [r, s] without other roots. Since p'(c) = 0, every t in [r, s] satisfies

    |p(t) - p(r)| <= (s - r)**2 * max |p''| over [r, s].

[r, s] is halved until this is below 2**-GRID. So the range is outward, by less than 2**-60.

Signs are decided exactly, by Sturm's theorem. p >= 0 on [a, b] if and only if p(a) >= 0 and
p(b) >= 0, no root of odd multiplicity lies inside, and p is not negative at one more point.
SymPy isolates and counts the roots.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from math import comb
from typing import Any, TypeAlias

import sympy

from lnm_codegen.analysis.arithmetic.interval import GRID, Interval, hull, point

Coefficients: TypeAlias = tuple[Fraction, ...]
"""c_0, ..., c_d of c_0 + c_1*t + ... + c_d*t**d."""

_T = sympy.Symbol("t")
_START = 40


def value_at(coefficients: Sequence[Fraction], t: Fraction) -> Fraction:
    """Return p(t)."""
    total = Fraction(0)
    for c in reversed(coefficients):
        total = total * t + c
    return total


def derivative(coefficients: Sequence[Fraction]) -> Coefficients:
    """Return the coefficients of p'."""
    return tuple(k * c for k, c in enumerate(coefficients))[1:]


def multiplied(p: Sequence[Fraction], q: Sequence[Fraction]) -> Coefficients:
    """Return the coefficients of p*q."""
    found = [Fraction(0)] * max(len(p) + len(q) - 1, 0)
    for i, a in enumerate(p):
        for j, b in enumerate(q):
            found[i + j] += a * b
    return tuple(found)


def shifted(coefficients: Coefficients, amount: Fraction) -> Coefficients:
    """Return the coefficients of p + amount."""
    return (coefficients[0] + amount, *coefficients[1:]) if coefficients else (amount,)


def trimmed(coefficients: Sequence[Fraction]) -> Coefficients:
    """Return the coefficients without zeros beyond the leading one."""
    found = list(coefficients)
    while found and not found[-1]:
        found.pop()
    return tuple(found)


def real_roots(coefficients: Coefficients) -> tuple[tuple[Interval, int], ...]:
    """Return (interval, multiplicity) of each distinct real root, in order.

    Each interval holds one root; that of a rational root may be a point.
    """
    return _isolated(trimmed(coefficients), _START)


@lru_cache(maxsize=4096)
def _isolated(coefficients: Coefficients, bits: int) -> tuple[tuple[Interval, int], ...]:
    if len(coefficients) < 2:
        return ()
    if len(coefficients) == 2:
        return ((point(-coefficients[0] / coefficients[1]), 1),)
    found = _polynomial(coefficients).intervals(eps=sympy.Rational(1, 1 << bits))
    return tuple(
        (Interval(fraction(low), fraction(high)), int(multiplicity))
        for (low, high), multiplicity in found
    )


def refined(coefficients: Coefficients, root: Interval) -> Interval:
    """Return an interval around the simple root in `root`, at most 2**-20 as wide."""
    low, high = root.low, root.high
    at_low = value_at(coefficients, low)
    if low == high or not at_low:
        return point(low)
    if not value_at(coefficients, high):
        return point(high)
    for _ in range(20):
        middle = (low + high) / 2
        value = value_at(coefficients, middle)
        if not value:
            return point(middle)
        if (value > 0) == (at_low > 0):
            low = middle
        else:
            high = middle
    return Interval(low, high)


def value_range(coefficients: Coefficients, t: Interval) -> Interval:
    """Return the range of p over `t`: exact at rational extremes, else outward by < 2**-60."""
    coefficients = trimmed(coefficients)
    ends = [point(value_at(coefficients, end)) for end in (t.low, t.high)]
    if len(coefficients) > 2 and t.low < t.high:
        slope = derivative(coefficients)
        for k, (root, _) in enumerate(real_roots(slope)):
            if root.low <= t.high and root.high >= t.low:
                ends.append(_extreme(coefficients, slope, k))
    found = hull(ends)
    return Interval(found.low, found.high, t.tight)


def _extreme(p: Coefficients, slope: Coefficients, k: int) -> Interval:
    """Return an interval of p at root number k of p'."""
    bits, least = _START, Fraction(1, 1 << GRID)
    while True:
        root, _ = _isolated(trimmed(slope), bits)[k]
        here = value_at(p, root.low)
        if root.low == root.high:
            return point(here)
        error = root.width**2 * _horner(derivative(slope), root).magnitude
        if error < least:
            return Interval(here - error, here + error).outward(GRID)
        bits *= 2


def _horner(coefficients: Sequence[Fraction], t: Interval) -> Interval:
    """Return an interval that holds the range of p, by Horner's scheme."""
    total = point(Fraction(0))
    for c in reversed(coefficients):
        total = (total * t).shifted(c)
    return total


def is_nonnegative(coefficients: Coefficients, t: Interval) -> bool:
    """Report exactly whether p >= 0 everywhere on `t`."""
    coefficients = trimmed(coefficients)
    if min(value_at(coefficients, t.low), value_at(coefficients, t.high)) < 0:
        return False
    if len(coefficients) <= 2 or all(b >= 0 for b in bernstein(coefficients, t)):
        return True
    inside = False  # p > 0 at one of these points, which outnumber the roots
    for k in range(1, len(coefficients) + 1):
        value = value_at(coefficients, t.low + t.width * Fraction(k, len(coefficients) + 1))
        if value < 0:
            return False
        inside = inside or value > 0
    return inside and not _changes_sign(coefficients, t)


def bernstein(coefficients: Coefficients, t: Interval) -> Coefficients:
    """Return the coefficients in Bernstein's basis over `t`; their hull contains the range."""
    degree = len(coefficients) - 1
    moved = [Fraction(0)] * (degree + 1)  # of p(low + width*s)
    for k, c in enumerate(coefficients):
        for j in range(k + 1):
            moved[j] += c * comb(k, j) * t.low ** (k - j) * t.width**j
    return tuple(
        sum((Fraction(comb(i, j), comb(degree, j)) * moved[j] for j in range(i + 1)), Fraction(0))
        for i in range(degree + 1)
    )


def _changes_sign(coefficients: Coefficients, t: Interval) -> bool:
    """Report whether a root of odd multiplicity lies strictly inside `t`."""
    low, high = to_sympy(t.low), to_sympy(t.high)
    for factor, multiplicity in _polynomial(coefficients).sqf_list()[1]:
        if multiplicity % 2:
            at_ends = sum(factor.eval(end) == 0 for end in (low, high))
            if factor.count_roots(low, high) > at_ends:
                return True
    return False


def square_free(coefficients: Coefficients) -> Coefficients:
    """Return a polynomial with the same roots, all of them simple."""
    part = _polynomial(coefficients).sqf_part()
    return tuple(fraction(c) for c in reversed(part.all_coeffs()))


def shares_root(p: Coefficients, q: Coefficients, root: Interval) -> bool:
    """Report exactly whether p and q have a common root in `root`."""
    if not trimmed(p) or not trimmed(q):
        return True
    common = sympy.gcd(_polynomial(p), _polynomial(q))
    return common.degree() > 0 and bool(common.count_roots(to_sympy(root.low), to_sympy(root.high)))


def _polynomial(coefficients: Coefficients) -> Any:
    numbers = [to_sympy(c) for c in reversed(trimmed(coefficients))] or [0]
    return sympy.Poly.from_list(numbers, _T, domain=sympy.QQ)


def to_sympy(value: Fraction) -> Any:
    """Return a rational number of SymPy."""
    return sympy.Rational(value.numerator, value.denominator)


def fraction(value: Any) -> Fraction:
    """Return a rational number of SymPy as a Fraction."""
    return Fraction(int(value.p), int(value.q))
