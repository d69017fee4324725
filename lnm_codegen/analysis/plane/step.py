"""Step of two states that is affine in pieces: v <- A*v + B*x + c, a clamp, a spike, a reset.

The kernel's own pieces give it, in rationals. All values and conditions are affine in at most two
forms y = G*s + H*x of the states s and the inputs x: the charged states, if only they decide about
spikes and clamps. A mode is a reset or a clamp: the half planes of y in which it holds, and
s' = M*y + t. The image of a polygon is then the union of polygons, one for each mode.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import product
from typing import Generic, TypeAlias

from lnm_codegen.analysis.arithmetic.interval import Interval
from lnm_codegen.analysis.arithmetic.pieces import Condition, SymbolicKernel
from lnm_codegen.analysis.arithmetic.polynomial import Poly, substituted
from lnm_codegen.analysis.plane.polygon import (
    HalfPlane,
    Number,
    Point,
    Polygon,
    clipped,
    hull_of,
    swept,
)
from lnm_codegen.ir.operators import CompareOp

Matrix: TypeAlias = tuple[Point[Number], Point[Number]]
"""Two rows."""
_ABOVE = (CompareOp.GE, CompareOp.GT, CompareOp.EQ)
_BELOW = (CompareOp.LE, CompareOp.LT, CompareOp.EQ)


@dataclass(frozen=True)
class Mode(Generic[Number]):
    """s' = matrix*y + offset where y lies in all half planes."""

    matrix: Matrix[Number]
    offset: Point[Number]
    where: tuple[HalfPlane[Number], ...]


@dataclass(frozen=True)
class PlaneStep(Generic[Number]):
    """A step of two states: y = forms*s + x, and a mode for each part of the plane of y.

    Attributes:
        forms: G, from the states to y.
        inputs: For each input, the ends of the segment that it adds to y.
        modes: The modes; together they cover the plane.
    """

    forms: Matrix[Number]
    inputs: tuple[tuple[Point[Number], Point[Number]], ...]
    modes: tuple[Mode[Number], ...]

    def image(self, polygon: Polygon[Number]) -> list[Point[Number]]:
        """Return the corners of all polygons that the states of a polygon move to."""
        (a, b), (c, d) = self.forms
        y = tuple(mapped(self.forms, s) for s in polygon)
        turned = a * d - b * c
        y = hull_of(y) if turned == 0 else y if turned > 0 else y[::-1]
        for low, high in self.inputs:
            y = swept(y, low, high)
        found: list[Point[Number]] = []
        for mode in self.modes:
            part = y
            for half in mode.where:
                part = clipped(part, half) if part else part
            e, f = mode.offset
            found += [(v + e, w + f) for v, w in (mapped(mode.matrix, p) for p in part)]
        return found

    def mode_at(self, s: Point[Number]) -> Mode[Number]:
        """Return a mode that holds after the state s, with every input in the middle."""
        y = mapped(self.forms, s)
        for low, high in self.inputs:
            y = (y[0] + (low[0] + high[0]) / 2, y[1] + (low[1] + high[1]) / 2)
        return self.mode_of(y)

    def mode_of(self, y: Point[Number]) -> Mode[Number]:
        """Return a mode that holds at y, the nearest to it where rounding leaves none."""
        return max(
            self.modes,
            key=lambda m: min((a * y[0] + b * y[1] + c for a, b, c in m.where), default=0),
        )

    def linear(self, mode: Mode[Number]) -> Matrix[Number]:
        """Return the matrix from s to s' in a mode."""
        (a, b), (c, d) = self.forms
        columns = mapped(mode.matrix, (a, c)), mapped(mode.matrix, (b, d))
        return (columns[0][0], columns[1][0]), (columns[0][1], columns[1][1])


def mapped(matrix: Matrix[Number], p: Point[Number]) -> Point[Number]:
    """Return matrix*p."""
    (a, b), (c, d) = matrix
    return a * p[0] + b * p[1], c * p[0] + d * p[1]


def in_floats(step: PlaneStep[Fraction]) -> PlaneStep[float]:
    """Return the same step with rounded numbers."""

    def near(p: Sequence[Fraction]) -> tuple[float, float]:
        return float(p[0]), float(p[1])

    def mode(m: Mode[Fraction]) -> Mode[float]:
        where = tuple((float(a), float(b), float(c)) for a, b, c in m.where)
        return Mode((near(m.matrix[0]), near(m.matrix[1])), near(m.offset), where)

    inputs = tuple((near(low), near(high)) for low, high in step.inputs)
    forms = (near(step.forms[0]), near(step.forms[1]))
    return PlaneStep(forms, inputs, tuple(mode(m) for m in step.modes))


def plane_step(
    found: SymbolicKernel, states: Sequence[str], inputs: Mapping[str, Interval]
) -> PlaneStep[Fraction] | None:
    """Return the step of a symbolic kernel of two states, or None if it is not affine in pieces."""
    names = (*states, *(n for n, i in inputs.items() if i.low != i.high))
    rows: list[tuple[list[tuple[Fraction, ...]], tuple[Condition, ...]]] = []
    for pair in product(*(found.pieces[f"{n}_next"] for n in states)):
        conditions = tuple(dict.fromkeys(c for piece in pair for c in piece.conditions))
        if any(c.opposite in conditions for c in conditions):
            continue
        kept = tuple(c for c in conditions if c.op is not CompareOp.NE)
        polys = [piece.polynomial for piece in pair] + [c.poly for c in kept]
        affine = [_affine(_expanded(p, found), names) for p in polys]
        if None in affine:
            return None
        rows.append(([a for a in affine if a is not None], kept))
    basis = _basis((row[:-1] for affine, _ in rows for row in affine), len(names))
    if basis is None:
        return None
    modes = tuple(_mode(affine, kept, basis) for affine, kept in rows)
    segments = []
    for k, name in enumerate(names[2:], start=2):
        low, high = inputs[name].low, inputs[name].high
        one, two = basis[0][k], basis[1][k]
        segments.append(((one * low, two * low), (one * high, two * high)))
    (a, b, *_), (c, d, *_) = basis
    return PlaneStep(((a, b), (c, d)), tuple(segments), modes)


def _expanded(p: Poly, found: SymbolicKernel) -> Poly:
    """Return p without the variables that stand for sums."""
    while p.variables & found.definitions.keys():
        p = substituted(p, found.definitions)
    return p


def _affine(p: Poly, names: Sequence[str]) -> tuple[Fraction, ...] | None:
    """Return the coefficients of the names, then the constant; None for any other polynomial."""
    if p.degree > 1 or not p.variables <= set(names):
        return None
    known = {monomial[0][0] if monomial else "": c for monomial, c in p.terms}
    return tuple(known.get(n, Fraction(0)) for n in (*names, ""))


def _basis(
    rows: Iterable[tuple[Fraction, ...]], size: int
) -> tuple[tuple[Fraction, ...], tuple[Fraction, ...]] | None:
    """Return two independent rows that span all, with unit rows if need be; None for rank 3."""
    given = [row for row in dict.fromkeys(rows) if any(row)]
    units = [tuple(Fraction(int(i == k)) for i in range(size)) for k in range(2)]
    one, *others = [*given, *units]
    two = next(row for row in others if not _proportional(one, row))
    if any(_in_span(row, one, two) is None for row in given):
        return None
    return one, two


def _proportional(a: Sequence[Fraction], b: Sequence[Fraction]) -> bool:
    pairs = list(zip(a, b, strict=True))
    return all(p * s == q * r for p, q in pairs for r, s in pairs)


def _in_span(
    row: Sequence[Fraction], one: Sequence[Fraction], two: Sequence[Fraction]
) -> Point[Fraction] | None:
    """Return (p, q) with row = p*one + q*two, or None."""
    size = len(row)
    i, j = next((i, j) for i in range(size) for j in range(i) if one[i] * two[j] != one[j] * two[i])
    determinant = one[i] * two[j] - one[j] * two[i]
    p = (row[i] * two[j] - row[j] * two[i]) / determinant
    q = (one[i] * row[j] - one[j] * row[i]) / determinant
    spans = all(r == p * a + q * b for r, a, b in zip(row, one, two, strict=True))
    return (p, q) if spans else None


def _mode(
    affine: Sequence[tuple[Fraction, ...]],
    conditions: Sequence[Condition],
    basis: tuple[tuple[Fraction, ...], tuple[Fraction, ...]],
) -> Mode[Fraction]:
    def in_forms(row: tuple[Fraction, ...]) -> Point[Fraction]:
        found = _in_span(row[:-1], *basis)
        assert found is not None
        return found

    v, w, *rest = affine
    where: list[HalfPlane[Fraction]] = []
    for row, c in zip(rest, conditions, strict=True):
        a, b = in_forms(row)
        if c.op in _ABOVE:
            where.append((a, b, row[-1]))
        if c.op in _BELOW:
            where.append((-a, -b, -row[-1]))
    return Mode((in_forms(v), in_forms(w)), (v[-1], w[-1]), tuple(where))
