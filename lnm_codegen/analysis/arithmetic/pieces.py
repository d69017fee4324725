"""Values as pieces: a polynomial, or a truth, where some conditions hold."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import TypeAlias

from lnm_codegen.analysis.arithmetic.condition import Condition, Region
from lnm_codegen.analysis.arithmetic.interval import Interval, hull, meet, point
from lnm_codegen.analysis.arithmetic.polynomial import Poly, substituted
from lnm_codegen.errors import InternalError


@dataclass(frozen=True, slots=True)
class Piece:
    """A value where all `conditions` hold: a polynomial, or the truth of a condition."""

    value: Poly | bool
    conditions: tuple[Condition, ...] = ()


Pieces: TypeAlias = tuple[Piece, ...]


@dataclass(frozen=True)
class Symbolic:
    """What `symbolic` returns.

    Attributes:
        pieces: Input or Let -> its pieces, which together hold every value.
        box: Variable of the polynomials -> interval.
        sources: Variable -> the independent quantities that decide it.
        definitions: Variable that stands for a sum -> that sum.
    """

    pieces: dict[str, Pieces]
    box: dict[str, Interval]
    sources: dict[str, frozenset[str]]
    definitions: dict[str, Poly] = field(default_factory=dict)

    def range_of(self, piece: Piece) -> Interval | None:
        """Return the range of a piece, or None where it is seen to be empty."""
        if isinstance(piece.value, bool):
            return point(Fraction(piece.value))
        region = Region(self.box, self.sources, piece.conditions)
        found = region.range_of(piece.value)
        expanded = substituted(piece.value, self.definitions)
        if found is None or found.tight or expanded == piece.value:
            return found
        other = region.range_of(expanded)
        return None if other is None else meet(found, other)

    def range(self, name: str) -> Interval:
        """Return the hull of the ranges of all pieces; a condition counts as 0 or 1."""
        found = [r for r in map(self.range_of, self.pieces[name]) if r is not None]
        return hull(found)


def polynomial_of(piece: Piece) -> Poly:
    """Return the value of a piece, which is a number."""
    if isinstance(piece.value, bool):
        raise InternalError("analysis", "a condition where a number stands")
    return piece.value


def variables_of(piece: Piece) -> set[str]:
    """Return the variables of a piece and of its conditions."""
    value = set() if isinstance(piece.value, bool) else set(piece.value.variables)
    return value.union(*(c.poly.variables for c in piece.conditions))
