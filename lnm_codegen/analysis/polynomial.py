"""Polynomials with rational coefficients: of one variable, of several, and in pieces."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import lru_cache
from math import comb
from typing import Any, TypeAlias

import sympy

from lnm_codegen.analysis.interval import GRID, Interval, hull, meet, point
from lnm_codegen.errors import InternalError
from lnm_codegen.ir.nodes import CompareOp

# Polynomials of one variable with rational coefficients: exact ranges, roots and signs.
#
# The extremes of p over [a, b] lie at a, b and the real roots of p'. A root c lies in a rational
# interval [r, s] without other roots. Since p'(c) = 0, every t in [r, s] satisfies
#
#     |p(t) - p(r)| <= (s - r)**2 * max |p''| over [r, s].
#
# [r, s] is halved until this is below 2**-GRID. So the range is outward, by less than 2**-60.
#
# Signs are decided exactly, by Sturm's theorem. p >= 0 on [a, b] if and only if p(a) >= 0 and
# p(b) >= 0, no root of odd multiplicity lies inside, and p is not negative at one more point.
# SymPy isolates and counts the roots.


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


# Polynomials of several named variables with rational coefficients, and their ranges over a box.
#
# A polynomial is a constant plus parts that share no variable. Parts of independent variables take
# their extremes independently, so the range of the sum is the sum of the ranges. It is exact where
# every part is univariate, such as f(v) + x; other parts use interval arithmetic.


Monomial: TypeAlias = tuple[tuple[str, int], ...]
"""(variable, exponent >= 1) by name; () for the constant."""


@dataclass(frozen=True, slots=True)
class Poly:
    """A sum of coefficient * monomial, sorted and without zeros: equal ones compare equal."""

    terms: tuple[tuple[Monomial, Fraction], ...]

    def __add__(self, other: Poly) -> Poly:
        return poly_of((*self.terms, *other.terms))

    def __neg__(self) -> Poly:
        return self.scaled(Fraction(-1))

    def __sub__(self, other: Poly) -> Poly:
        return self + -other

    def __mul__(self, other: Poly) -> Poly:
        return poly_of((_times(m, n), c * d) for m, c in self.terms for n, d in other.terms)

    def scaled(self, factor: Fraction) -> Poly:
        """Return factor * self."""
        return Poly(tuple((m, factor * c) for m, c in self.terms) if factor else ())

    @property
    def constant(self) -> Fraction | None:
        """Value of a polynomial without variables, else None."""
        if not self.terms:
            return Fraction(0)
        (monomial, c), *others = self.terms
        return c if not monomial and not others else None

    @property
    def variables(self) -> frozenset[str]:
        """Variables that occur."""
        return frozenset(v for monomial, _ in self.terms for v, _ in monomial)

    @property
    def degree(self) -> int:
        """Largest sum of exponents."""
        return max((sum(n for _, n in monomial) for monomial, _ in self.terms), default=0)


def poly_of(terms: Iterable[tuple[Monomial, Fraction]]) -> Poly:
    """Return the sum of terms, in which a monomial may occur several times."""
    total: dict[Monomial, Fraction] = {}
    for monomial, c in terms:
        total[monomial] = total[monomial] + c if monomial in total else c
    return Poly(tuple(sorted((m, c) for m, c in total.items() if c)))


def constant(value: Fraction) -> Poly:
    """Return a polynomial without variables."""
    return poly_of([((), value)])


def variable(name: str) -> Poly:
    """Return the polynomial that is one variable."""
    return Poly(((((name, 1),), Fraction(1)),))


def substituted(p: Poly, table: Mapping[str, Poly]) -> Poly:
    """Return p with the variables of the table replaced by polynomials."""
    if not p.variables & table.keys():
        return p
    total = poly_of(())
    for monomial, c in p.terms:
        term = constant(c)
        for name, n in monomial:
            factor = table.get(name, variable(name))
            for _ in range(n):
                term = term * factor
        total = total + term
    return total


def univariate(p: Poly, name: str) -> Coefficients:
    """Return the coefficients of p, whose only variable is `name`."""
    powers = {sum(n for _, n in monomial): c for monomial, c in p.terms}
    assert p.variables <= {name}
    return tuple(powers.get(k, Fraction(0)) for k in range(max(powers, default=-1) + 1))


def range_over(
    p: Poly, box: Mapping[str, Interval], sources: Mapping[str, frozenset[str]]
) -> Interval:
    """Return the range of p over a box.

    `sources` maps a variable to the independent quantities that determine it. Variables with a
    common source are dependent.
    """
    total = point(Fraction(0))
    for part in _parts(p, sources):
        names = part.variables
        if len(names) == 1:
            (name,) = names
            total = total + value_range(univariate(part, name), box[name])
        else:
            total = total + _by_terms(part, box)
    return total


def _by_terms(p: Poly, box: Mapping[str, Interval]) -> Interval:
    total = point(Fraction(0))
    for monomial, c in p.terms:
        term = point(c)
        for name, n in monomial:
            term = term * value_range((*(Fraction(0),) * n, Fraction(1)), box[name])
        total = total + term
    return total.loose() if p.variables else total


def _parts(p: Poly, sources: Mapping[str, frozenset[str]]) -> list[Poly]:
    """Return polynomials without common sources whose sum is p."""
    groups: list[tuple[frozenset[str], dict[Monomial, Fraction]]] = []
    for monomial, c in p.terms:
        own = frozenset(s for name, _ in monomial for s in sources[name])
        terms = {monomial: c}
        apart = []
        for held, others in groups:
            if held & own:
                own, terms = own | held, others | terms
            else:
                apart.append((held, others))
        groups = [*apart, (own, terms)]
    return [poly_of(terms.items()) for _, terms in groups]


def _times(a: Monomial, b: Monomial) -> Monomial:
    powers = dict(a)
    for name, n in b:
        powers[name] = powers.get(name, 0) + n
    return tuple(sorted(powers.items()))


# Values as pieces: polynomials under conditions p >= 0, p < 0, ..., and their ranges.
#
# Let q = c*p + r. Where p lies in [p_low, p_high], its range cut by the condition, q lies in
# c*[p_low, p_high] + range(r). This is exact if r is constant, as in v_next = h where h -
# v_threshold < 0. A condition c*v + d >= 0 of one variable narrows the box itself. Intervals are
# closed, so a strict inequality includes its limit.


_OPPOSITE = {
    CompareOp.LT: CompareOp.GE, CompareOp.GE: CompareOp.LT, CompareOp.GT: CompareOp.LE,
    CompareOp.LE: CompareOp.GT, CompareOp.EQ: CompareOp.NE, CompareOp.NE: CompareOp.EQ,
}  # fmt: skip
_MIRRORED = {
    CompareOp.LT: CompareOp.GT, CompareOp.GT: CompareOp.LT, CompareOp.LE: CompareOp.GE,
    CompareOp.GE: CompareOp.LE, CompareOp.EQ: CompareOp.EQ, CompareOp.NE: CompareOp.NE,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Condition:
    """`poly op 0`; the first coefficient of `poly` is 1, so that equal conditions compare equal."""

    poly: Poly
    op: CompareOp

    @property
    def opposite(self) -> Condition:
        """The negated condition."""
        return replace(self, op=_OPPOSITE[self.op])


def condition(poly: Poly, op: CompareOp) -> Condition:
    """Return `poly op 0`, scaled."""
    lead = poly.terms[-1][1]
    return Condition(poly.scaled(1 / lead), op if lead > 0 else _MIRRORED[op])


def truth(value: Interval, op: CompareOp) -> bool | None:
    """Return True if `value op 0` holds for every value, False if for none, else None."""
    low, high = value.low, value.high
    always = {
        CompareOp.LT: high < 0, CompareOp.LE: high <= 0, CompareOp.GT: low > 0,
        CompareOp.GE: low >= 0, CompareOp.EQ: low == high == 0, CompareOp.NE: low > 0 or high < 0,
    }  # fmt: skip
    return True if always[op] else False if always[_OPPOSITE[op]] else None


def _cut(value: Interval, op: CompareOp) -> Interval | None:
    """Return the closed part of an interval where `value op 0` holds, or None."""
    zero = Fraction(0)
    if truth(value, op) is False:
        return None
    if op in (CompareOp.GT, CompareOp.GE):
        return Interval(max(value.low, zero), value.high, value.tight)
    if op in (CompareOp.LT, CompareOp.LE):
        return Interval(value.low, min(value.high, zero), value.tight)
    return Interval(zero, zero, value.tight) if op is CompareOp.EQ else value


@dataclass(frozen=True, slots=True)
class ConstrainedBox:
    """The part of a box where all conditions hold."""

    box: Mapping[str, Interval]  # variable -> interval
    sources: Mapping[str, frozenset[str]]  # variable -> independent quantities behind it
    conditions: tuple[Condition, ...]

    def range_of(self, q: Poly) -> Interval | None:
        """Return the range of q, or None if the constrained box is found to be empty."""
        box = self._narrowed()
        if box is None:
            return None
        found = range_over(q, box, self.sources)
        related = True
        for c in self.conditions:
            allowed = _cut(range_over(c.poly, box, self.sources), c.op)
            if allowed is None:
                return None
            factor = _multiple(q, c.poly)
            rest = q - c.poly.scaled(factor)
            if factor:
                other = allowed.scaled(factor) + range_over(rest, box, self.sources)
                narrower = meet(found, other)
                if narrower is None:
                    return None
                found = narrower
            related = related and (rest.constant is not None or self._is_independent(q, c.poly))
        return found if related or q.constant is not None else found.loose()

    def _is_independent(self, q: Poly, p: Poly) -> bool:
        """Report whether a condition on p affects q only through the box, or not at all."""
        read = q.variables
        if _is_bound(p):  # of one variable, and q depends on it in no other way
            read -= p.variables
        affected = {s for name in p.variables for s in self.sources[name]}
        return not affected & {s for name in read for s in self.sources[name]}

    def _narrowed(self) -> dict[str, Interval] | None:
        box = dict(self.box)
        for c in self.conditions:
            if _is_bound(c.poly):
                (name,) = c.poly.variables
                offset = dict(c.poly.terms).get((), Fraction(0))
                allowed = _cut(box[name].shifted(offset), c.op)
                if allowed is None:
                    return None
                box[name] = allowed.shifted(-offset)
        return box


def _is_bound(p: Poly) -> bool:
    return p.degree == 1 and len(p.variables) == 1


def _multiple(q: Poly, p: Poly) -> Fraction:
    """Return the c that leaves the fewest terms, not counting a constant, in q - c*p; or 0."""
    known = dict(q.terms)
    best, fewest = Fraction(0), _terms(q)
    for monomial, a in p.terms:
        if monomial and monomial in known:
            c = known[monomial] / a
            left = _terms(q - p.scaled(c))
            if left < fewest:
                best, fewest = c, left
    return best


def _terms(p: Poly) -> int:
    return sum(bool(monomial) for monomial, _ in p.terms)


@dataclass(frozen=True, slots=True)
class Piece:
    """A value where all `conditions` hold: a polynomial, or the truth of a condition."""

    value: Poly | bool
    conditions: tuple[Condition, ...] = ()

    @property
    def polynomial(self) -> Poly:
        """Value of a piece that is a number."""
        if isinstance(self.value, bool):
            raise InternalError("analysis", "a condition where a number is needed")
        return self.value

    @property
    def variables(self) -> set[str]:
        """Variables of the value and of the conditions."""
        value = set() if isinstance(self.value, bool) else set(self.value.variables)
        return value.union(*(c.poly.variables for c in self.conditions))


Pieces: TypeAlias = tuple[Piece, ...]


@dataclass(frozen=True)
class SymbolicKernel:
    """A kernel as pieces.

    The pieces of an input or a Let together cover every value. A variable of the polynomials has an
    interval, independent quantities that determine it, and a definition if it stands for a sum.
    """

    pieces: dict[str, Pieces] = field(default_factory=dict)
    box: dict[str, Interval] = field(default_factory=dict)
    sources: dict[str, frozenset[str]] = field(default_factory=dict)
    definitions: dict[str, Poly] = field(default_factory=dict)

    def range_of(self, piece: Piece) -> Interval | None:
        """Return the range of a piece, or None if the piece is found to be empty."""
        if isinstance(piece.value, bool):
            return point(Fraction(piece.value))
        inside = ConstrainedBox(self.box, self.sources, piece.conditions)
        found = inside.range_of(piece.value)
        expanded = substituted(piece.value, self.definitions)
        if found is None or found.tight or expanded == piece.value:
            return found
        other = inside.range_of(expanded)
        return None if other is None else meet(found, other)

    def range(self, name: str) -> Interval:
        """Return the hull of the ranges of all pieces; a condition counts as 0 or 1."""
        return hull(r for r in map(self.range_of, self.pieces[name]) if r is not None)
