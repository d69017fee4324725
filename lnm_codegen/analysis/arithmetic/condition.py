"""Conditions p >= 0, p < 0, ... of polynomials, and the range of a polynomial where they hold.

Let q = c*p + r. Where p lies in [p_low, p_high] - its range, cut by the condition - q lies in
c*[p_low, p_high] + range(r): exact if r is a constant, as in v_next = h where h - v_threshold < 0.
A condition c*v + d >= 0 of one variable narrows the box itself. A strict inequality is taken with
its limit: intervals are closed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction

from lnm_codegen.analysis.arithmetic.interval import Interval, meet
from lnm_codegen.analysis.arithmetic.polynomial import Poly, range_over
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
        """The condition that holds where this one does not."""
        return replace(self, op=_OPPOSITE[self.op])


def condition(poly: Poly, op: CompareOp) -> Condition:
    """Return `poly op 0`, scaled."""
    lead = poly.terms[-1][1]
    return Condition(poly.scaled(1 / lead), op if lead > 0 else _MIRRORED[op])


def truth(value: Interval, op: CompareOp) -> bool | None:
    """Return whether every value, or none, is in relation to 0; None where it depends."""
    low, high = value.low, value.high
    always = {
        CompareOp.LT: high < 0, CompareOp.LE: high <= 0, CompareOp.GT: low > 0,
        CompareOp.GE: low >= 0, CompareOp.EQ: low == high == 0, CompareOp.NE: low > 0 or high < 0,
    }  # fmt: skip
    return True if always[op] else False if always[_OPPOSITE[op]] else None


def cut(value: Interval, op: CompareOp) -> Interval | None:
    """Return the part of an interval that is in relation to 0, closed; None where none is."""
    zero = Fraction(0)
    if truth(value, op) is False:
        return None
    if op in (CompareOp.GT, CompareOp.GE):
        return Interval(max(value.low, zero), value.high, value.tight)
    if op in (CompareOp.LT, CompareOp.LE):
        return Interval(value.low, min(value.high, zero), value.tight)
    return Interval(zero, zero, value.tight) if op is CompareOp.EQ else value


@dataclass(frozen=True, slots=True)
class Region:
    """Where conditions hold in a box.

    Attributes:
        box: Variable -> interval.
        sources: Variable -> the independent quantities that decide it.
        conditions: All of them hold.
    """

    box: Mapping[str, Interval]
    sources: Mapping[str, frozenset[str]]
    conditions: tuple[Condition, ...]

    def range_of(self, q: Poly) -> Interval | None:
        """Return the range of q, or None where the region is seen to be empty."""
        box = self._narrowed()
        if box is None:
            return None
        found = range_over(q, box, self.sources)
        related = True
        for c in self.conditions:
            allowed = cut(range_over(c.poly, box, self.sources), c.op)
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
            related = related and (rest.constant is not None or self._apart(q, c.poly))
        if q.constant is not None:
            return found
        return found if related else found.loose()

    def _apart(self, q: Poly, p: Poly) -> bool:
        """Say whether a condition on p acts on q through the box alone, or not at all."""
        held = q.variables
        if _is_bound(p):  # of one variable, and q depends on it in no other way
            held -= p.variables
        touched = {s for name in p.variables for s in self.sources[name]}
        return not touched & {s for name in held for s in self.sources[name]}

    def _narrowed(self) -> dict[str, Interval] | None:
        box = dict(self.box)
        for c in self.conditions:
            if _is_bound(c.poly):
                (name,) = c.poly.variables
                offset = dict(c.poly.terms).get((), Fraction(0))
                allowed = cut(box[name].shifted(offset), c.op)
                if allowed is None:
                    return None
                box[name] = allowed.shifted(-offset)
        return box


def _is_bound(p: Poly) -> bool:
    return p.degree == 1 and len(p.variables) == 1


def _multiple(q: Poly, p: Poly) -> Fraction:
    """Return c so that q - c*p has the fewest terms beside a constant; 0 where no c saves one."""
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
