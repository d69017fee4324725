"""Values as pieces: polynomials under conditions p >= 0, p < 0, ..., and their ranges.

Let q = c*p + r. Where p lies in [p_low, p_high], its range cut by the condition, q lies in
c*[p_low, p_high] + range(r). This is exact if r is constant, as in v_next = h where
h - v_threshold < 0. A condition c*v + d >= 0 of one variable narrows the box itself. Intervals are
closed, so a strict inequality includes its limit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import TypeAlias

from lnm_codegen.analysis.arithmetic.interval import Interval, hull, meet, point
from lnm_codegen.analysis.arithmetic.polynomial import Poly, range_over, substituted
from lnm_codegen.errors import InternalError
from lnm_codegen.ir.operators import CompareOp

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
