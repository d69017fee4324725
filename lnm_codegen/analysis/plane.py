"""Two coupled states: polygons that they never leave, or inputs that drive them out."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import product
from typing import Generic, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lnm_codegen.analysis.interval import Interval
from lnm_codegen.analysis.polygon import (
    HalfPlane,
    Number,
    Point,
    Polygon,
    clipped,
    holds,
    hull_of,
    meet,
    swept,
)
from lnm_codegen.analysis.polynomial import Condition, Poly, SymbolicKernel, substituted
from lnm_codegen.ir.nodes import CompareOp

# Step of two states that is affine in pieces: v <- A*v + B*x + c, a clamp, a spike, a reset.
#
# The kernel's own pieces give it, in rationals. All values and conditions are affine in at most two
# forms y = G*s + H*x of the states s and the inputs x: the charged states, if only they decide
# about spikes and clamps. A mode is a reset or a clamp: the half planes of y in which it holds, and
# s' = M*y + t. The image of a polygon is then the union of polygons, one for each mode.


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


# Spectral radius of a 2 x 2 matrix from trace and determinant, and an ellipse that it shrinks.
#
# For trace t and determinant d the radius is below r if and only if (Jury)
#
#     |d| < r**2   and   r*|t| < r**2 + d


def is_stable(matrix: Matrix[Fraction], radius: Fraction = Fraction(1)) -> bool:
    """Report whether the spectral radius is below `radius` > 0; exact."""
    (a, b), (c, d) = matrix
    trace, determinant = a + d, a * d - b * c
    square = radius * radius
    return abs(determinant) < square and radius * abs(trace) < square + determinant


def radius_of(matrix: Matrix[Number]) -> float:
    """Return the spectral radius, rounded."""
    (a, b), (c, d) = ((float(e) for e in row) for row in matrix)
    middle, inside = (a + d) / 2, ((a - d) / 2) ** 2 + b * c
    if inside >= 0:
        return abs(middle) + math.sqrt(inside)
    return math.sqrt(a * d - b * c)


def shrinking(matrix: Matrix[float]) -> NDArray[np.float64]:
    """Return W, (2, 2): the step s' = matrix*s brings |W*s| down at nearly the rate of the radius.

    P = W'W solves P = I + (A/g)'P(A/g), with g between radius and 1. For a radius of 1 or more
    W is the identity.
    """
    radius = radius_of(matrix)
    if not radius < 1:
        return np.eye(2)
    a = np.array(matrix) / ((radius + 1) / 2 + 1e-9)
    rows = [
        [a[0, 0] ** 2, 2 * a[0, 0] * a[1, 0], a[1, 0] ** 2],
        [a[0, 0] * a[0, 1], a[0, 0] * a[1, 1] + a[0, 1] * a[1, 0], a[1, 0] * a[1, 1]],
        [a[0, 1] ** 2, 2 * a[0, 1] * a[1, 1], a[1, 1] ** 2],
    ]
    p, q, r = np.linalg.solve(np.eye(3) - np.array(rows), np.array([1.0, 0.0, 1.0]))
    return np.linalg.cholesky(np.array([[p, q], [q, r]])).T


def box_shrinking(matrix: Matrix[float]) -> NDArray[np.float64]:
    """Return a diagonal W such that the step shrinks max |W*s|, if |A| has a radius below 1."""
    a = np.abs(np.array(matrix))
    radius = radius_of(((a[0, 0], a[0, 1]), (a[1, 0], a[1, 1])))
    if not radius < 1:
        return np.eye(2)
    return np.diag(1 / np.linalg.solve(np.eye(2) - a * (2 / (1 + radius)), np.ones(2)))


# Invariant polygons of an affine step: guessed in floats, proven in rationals.
#
# Let F(P) be the convex hull of all states after a step from P. A polygon P is invariant if it
# holds the initial states and F(P) lies in P. Two are searched, and their intersection is invariant
# too:
#
# * a box;
# * a polygon with edges in an even fan of directions, for coordinates in which the step shrinks
#   nearly all distances alike (`matrix.shrinking`), along the axes, and where the step takes the
#   axes.
#
# A guess is widened until F maps it inside, with a margin. Then P <- F(P), with the same margin, is
# repeated: F is monotone, so every P is invariant. The proof is one step of the result in
# rationals.


Array: TypeAlias = NDArray[np.float64]

FARTHEST = 2.0**24
"""Polygons stay within +-FARTHEST."""
_FEWEST, _MOST = 24, 256  # directions of a fan
_FAN_STEPS, _BOX_STEPS = 64, 256
_WIDTHS = (0.0, 2.0**-24, 2.0**-16, *(2.0**k for k in range(-12, 25)))
"""Widths to try, as shares of the size."""
_MARGIN = 2.0**-30  # of the size, for the rounding of the guess
_AXES = np.array([(-1.0, 0.0), (0.0, -1.0), (1.0, 0.0), (0.0, 1.0)])


def invariant_polygon(step: PlaneStep[Fraction], start: Point[Fraction]) -> Polygon[Fraction] | str:
    """Return an invariant polygon that holds `start`, or the reason why none is found."""
    near, first = in_floats(step), (float(start[0]), float(start[1]))
    matrix = near.linear(near.mode_at(first))
    whitening = shrinking(matrix)
    directions = _directions(np.array(matrix), whitening, radius_of(matrix))
    box = _Search(near, first, box_shrinking(matrix), _AXES, _BOX_STEPS)
    fan = _Search(near, first, whitening, directions, _FAN_STEPS)
    found = [p for search in (fan, box) if (p := _proven(step, start, search))]
    if len(found) == 2:
        return hull_of(meet(*found))
    return found[0] if found else _reason(step, start)


def _proven(
    step: PlaneStep[Fraction], start: Point[Fraction], search: _Search
) -> Polygon[Fraction] | None:
    found = [b for guess in search.guesses() if (b := search.widened(guess)) is not None]
    for b in sorted(found, key=search.area):
        corners = hull_of((Fraction(v), Fraction(w)) for v, w in search.polygon(b))
        if is_invariant_polygon(step, corners, start):
            return corners
    return None


def is_invariant_polygon(
    step: PlaneStep[Fraction], polygon: Polygon[Fraction], start: Point[Fraction]
) -> bool:
    """Report whether a polygon holds `start` and every state after a step; exact."""
    inside = all(abs(c) <= FARTHEST for corner in polygon for c in corner)
    return inside and all(holds(polygon, p) for p in (start, *dict.fromkeys(step.image(polygon))))


def _reason(step: PlaneStep[Fraction], start: Point[Fraction]) -> str:
    matrix = step.linear(step.mode_at(start))
    radius = radius_of(matrix)
    if is_stable(matrix):
        return f"no invariant polygon is found at spectral radius {radius:.6g}"
    return f"the linear part has spectral radius {radius:.6g}, which is not below 1"


@dataclass
class _Search:
    """Polygons with edges in fixed directions, as their supports b: direction*s <= b.

    Attributes:
        step: The step.
        start: The initial states.
        whitening: W of `shrinking` or `box_shrinking`.
        directions: Unit vectors by angle, of W*s.
        steps: Most steps of F for a guess, and to tighten it.
    """

    step: PlaneStep[float]
    start: Point[float]
    whitening: Array
    directions: Array
    steps: int

    def __post_init__(self) -> None:
        self._unwhitened = np.linalg.inv(self.whitening)
        self._normals = self.directions @ self.whitening  # of the edges, for s

    def polygon(self, b: Array) -> Polygon[float]:
        """Return the polygon with these supports."""
        (x, y), (u, v) = self.directions.T, np.roll(self.directions, -1, 0).T
        c = np.roll(b, -1)
        corners = np.stack([b * v - c * y, c * x - b * u], 1) / (x * v - y * u)[:, None]
        return tuple((v, w) for v, w in (corners @ self._unwhitened.T).tolist())

    def area(self, b: Array) -> float:
        """Return the area of the polygon's bounding box."""
        corners = np.array(self.polygon(b))
        return float(np.prod(corners.max(0) - corners.min(0)))

    def guesses(self) -> Iterator[Array]:
        """Yield supports to widen: as reached in some steps, then without resets."""
        b = start = self._support(np.array([self.start]))
        settled = False
        for _ in range(self.steps):
            after = self._after(b) + 2 * _margin(b)
            settled = bool((after <= b).all())
            b = np.maximum(b, after)
            if settled or not np.abs(b).max() < FARTHEST:
                break
        yield b
        mode = self.step.mode_at(self.start)
        radius = radius_of(self.step.linear(mode))
        if not settled and radius < 1:
            yield np.maximum(start, self._free(mode, radius))

    def widened(self, guess: Array) -> Array | None:
        """Return supports of a polygon around the guess that F maps inside, or None."""
        margin = _margin(guess)
        for width in _WIDTHS:
            b = guess + width * margin / _MARGIN
            if not np.abs(b).max() < FARTHEST:
                return None
            after = self._after(b) + margin
            if (after <= b).all():
                return self._tightened(after, margin)
        return None

    def _tightened(self, b: Array, margin: float) -> Array:
        for _ in range(self.steps):
            after = self._after(b) + margin
            if (b - after).max() < 1e-7 * np.abs(b).max():
                return after
            b = after
        return b

    def _support(self, points: Array) -> Array:
        """Return the largest normal*point for each direction."""
        largest: Array = (self._normals @ points.T).max(1)
        return largest

    def _after(self, b: Array) -> Array:
        """Return the supports of F of the polygon, and of the start."""
        return self._support(np.array([*self.step.image(self.polygon(b)), self.start]))

    def _free(self, mode: Mode[float], radius: float) -> Array:
        """Return the supports of the states that inputs reach while one mode holds."""
        matrix, m = np.array(self.step.linear(mode)), np.array(mode.matrix)
        total, normals = np.zeros(len(self._normals)), self._normals
        for _ in range(min(4096, math.ceil(7 / (1 - radius)))):
            total += normals @ np.array(mode.offset)
            for ends in self.step.inputs:
                total += (normals @ m @ np.array(ends).T).max(1)
            normals = normals @ matrix
        return total


def _margin(b: Array) -> float:
    return _MARGIN * max(float(np.abs(b).max()), 1e-6)


def _directions(matrix: Array, whitening: Array, radius: float) -> Array:
    """Return unit vectors by angle, for states after `whitening`: an even fan, and the axes."""
    slack = max(1 - radius, 1e-6)
    number = min(max(_FEWEST, 4 * math.ceil(2.5 / math.sqrt(slack))), _MOST)
    angles = np.arange(number) * (2 * math.pi / number) + 0.01
    fan = np.stack([np.cos(angles), np.sin(angles)], 1)
    rows, axes = np.eye(2), []
    for _ in range(8):
        axes += [rows, -rows]
        rows = rows @ matrix
    back = np.concatenate(axes) @ np.linalg.inv(whitening)
    sizes = np.hypot(*back.T)
    exact = (back[sizes > 1e-9] / sizes[sizes > 1e-9][:, None]).tolist()
    found: list[list[float]] = []
    for x, y in [*exact, *fan.tolist()]:
        if all(x * u + y * v < 1 - 1e-6 for u, v in found):
            found.append([x, y])
    return np.array(sorted(found, key=lambda d: math.atan2(d[1], d[0])))


# Input sequences that drive two states far, and a proof that they never come back.
#
# Without resets the state goal*s after T steps is largest if each input is the end of its interval
# that pushes goal*A**k*s up, where k steps remain (bang-bang). With resets it is a guess.


Ends: TypeAlias = tuple[bool, ...]
"""For each input, True for the high end of its interval."""
_GOALS: tuple[Point[float], ...] = ((-1.0, 0.0), (1.0, 0.0), (0.0, -1.0), (0.0, 1.0))
_FEWEST_STEPS, _MOST_STEPS = 32, 256


def driven(
    step: PlaneStep[float], start: Point[float], steps: int
) -> Iterator[Iterator[tuple[Ends, Point[float]]]]:
    """Yield runs towards each side of each state: the ends and the state after each step."""
    for goal in _GOALS:
        yield _run(step, start, _plan(step, step.mode_at(start), goal, steps))


def shortest(
    step: PlaneStep[float], start: Point[float], bound: float, most: int
) -> list[tuple[Ends, Point[float]]]:
    """Return the shortest run that passes a bound while no spike or clamp acts; [] if none does.

    The largest goal*s after n steps is goal*A**n*start plus, for k < n, the best input through
    goal*A**k. At a pole pair on the unit circle the inputs are in resonance with it. A real
    eigenvalue weighs its left eigenvector alone as n grows.
    """
    mode = step.mode_at(start)
    lengths = {goal: _steps_to(step, mode, start, goal, bound, most) for goal in _GOALS}
    goal = min(lengths, key=lambda g: lengths[g])
    if lengths[goal] > most:
        return []
    found = list(_run(step, start, _plan(step, mode, goal, lengths[goal])))
    return found if max(map(abs, found[-1][1])) > bound else []


def _steps_to(
    step: PlaneStep[float],
    mode: Mode[float],
    start: Point[float],
    goal: Point[float],
    bound: float,
    most: int,
) -> int:
    """Return the least number of steps to goal*s > bound in one mode, or most + 1."""
    (a, b), (c, d) = step.linear(mode)
    (m, n), (o, p) = mode.matrix
    (x, y), total = goal, 0.0
    for k in range(1, most + 1):
        u, v = x * m + y * o, x * n + y * p
        total += x * mode.offset[0] + y * mode.offset[1]
        total += sum(max(u * e + v * f for e, f in ends) for ends in step.inputs)
        x, y = x * a + y * c, x * b + y * d
        if not total + x * start[0] + y * start[1] <= bound:
            return k
    return most + 1


def reached(step: PlaneStep[float], start: Point[float]) -> tuple[Point[float], Point[float]]:
    """Return the least and the largest of each state in such runs, moved in by their rounding."""
    slack = max(1 - radius_of(step.linear(step.mode_at(start))), 1e-3)
    steps = max(_FEWEST_STEPS, min(_MOST_STEPS, round(5 / slack)))
    states = [start, *(s for run in driven(step, start, steps) for _, s in run)]
    columns = list(zip(start, zip(*states, strict=True), strict=True))
    rounding = 2.0**-32
    low = [min(first, min(c) + rounding * (1 + abs(min(c)))) for first, c in columns]
    high = [max(first, max(c) - rounding * (1 + abs(max(c)))) for first, c in columns]
    return (low[0], low[1]), (high[0], high[1])


def _plan(step: PlaneStep[float], mode: Mode[float], goal: Point[float], steps: int) -> list[Ends]:
    (a, b), (c, d) = step.linear(mode)
    (m, n), (o, p) = mode.matrix
    x, y = goal
    plan: list[Ends] = []
    for _ in range(steps):
        u, v = x * m + y * o, x * n + y * p
        plan.append(
            tuple(u * (high[0] - low[0]) + v * (high[1] - low[1]) >= 0 for low, high in step.inputs)
        )
        x, y = x * a + y * c, x * b + y * d
        size = max(abs(x), abs(y)) or 1.0
        x, y = x / size, y / size
    return plan[::-1]


def _run(
    step: PlaneStep[float], start: Point[float], plan: list[Ends]
) -> Iterator[tuple[Ends, Point[float]]]:
    s = start
    for ends in plan:
        x, y = mapped(step.forms, s)
        for high, segment in zip(ends, step.inputs, strict=True):
            x, y = x + segment[high][0], y + segment[high][1]
        mode = step.mode_of((x, y))
        v, w = mapped(mode.matrix, (x, y))
        s = (v + mode.offset[0], w + mode.offset[1])
        yield ends, s


# Proof, in rationals, that two states grow without bound from a state on, whatever the inputs.
#
# Let A be the matrix of a mode: s' = A*s + u with u in a bounded set. Two sets of states are mapped
# into themselves, farther out at each step:
#
# * Outside an ellipse, for complex eigenvalues. The form |s|**2 = A10*v**2 + (A11 - A00)*v*w -
#   A01*w**2, or its negative, is positive and |A*s|**2 = det(A)*|s|**2. If (sqrt(det(A)) - 1)*|s| >
#   |u|, then |s| grows. The matrix must be the same in every mode.
# * In a cone a*s >= c, b*s >= c, for a real eigenvalue that is the larger in size. Let A'a = p*a +
#   q*b and A'b = r*a + t*b without negative numbers. If (p + q - 1)*c > |a*u| and (r + t - 1)*c >
#   |b*u|, then c grows. For a negative eigenvalue -A takes the place of A: the cone changes its
#   side
#   at each step. A mode counts only where the cone reaches its half planes, so that below the
#   threshold a hard reset does not matter.


def diverges(step: PlaneStep[Fraction], s: Point[Fraction]) -> bool:
    """Report whether the states from s on are proven to grow without bound, for any inputs."""
    if len({step.linear(mode) for mode in step.modes}) == 1 and _outside_ellipse(step, s):
        return True
    cones = (_cone(step.linear(mode), s) for mode in step.modes)
    return any(cone is not None and cone.grows(step) for cone in cones)


def _outside_ellipse(step: PlaneStep[Fraction], s: Point[Fraction]) -> bool:
    (a, b), (c, d) = step.linear(step.modes[0])
    determinant = a * d - b * c
    if (a - d) ** 2 + 4 * b * c >= 0 or determinant <= 1:
        return False
    sign = 1 if c > 0 else -1

    def square(p: Point[Fraction]) -> Fraction:
        return sign * (c * p[0] ** 2 + (d - a) * p[0] * p[1] - b * p[1] ** 2)

    growth = Fraction(math.sqrt(determinant) * (1 - 2.0**-40))
    largest = max(square(u) for mode in step.modes for u in _forced(step, mode))
    return 1 < growth and growth**2 <= determinant and (growth - 1) ** 2 * square(s) > largest


def _forced(step: PlaneStep[Fraction], mode: Mode[Fraction]) -> list[Point[Fraction]]:
    """Return the corners of u."""
    e, f = mode.offset
    return [(v + e, w + f) for v, w in (mapped(mode.matrix, y) for y in _shifts(step))]


def _shifts(step: PlaneStep[Fraction]) -> list[Point[Fraction]]:
    """Return the corners of what the inputs add to y."""
    zero = Fraction(0)
    return [
        (sum((p[0] for p in ends), zero), sum((p[1] for p in ends), zero))
        for ends in product(*step.inputs)
    ]


@dataclass(frozen=True)
class _Cone:
    """The states with a*s >= c and b*s >= c; `side` is -1 if a step changes their signs."""

    a: Point[Fraction]
    b: Point[Fraction]
    c: Fraction
    side: int

    def grows(self, step: PlaneStep[Fraction]) -> bool:
        """Report whether every mode moves the cone, on either side, into one of a larger c."""
        sides = (1, -1) if self.side < 0 else (1,)
        return all(
            self._grows_in(step, mode)
            for mode in step.modes
            if any(self._reaches(step, mode, side) for side in sides)
        )

    def _grows_in(self, step: PlaneStep[Fraction], mode: Mode[Fraction]) -> bool:
        forced = _forced(step, mode)
        (e, f), (g, h) = step.linear(mode)
        for functional in (self.a, self.b):
            x, y = functional
            p, q = self._in_functionals((self.side * (x * e + y * g), self.side * (x * f + y * h)))
            largest = max(abs(x * u + y * v) for u, v in forced)
            if p < 0 or q < 0 or (p + q - 1) * self.c <= largest:
                return False
        return True

    def _reaches(self, step: PlaneStep[Fraction], mode: Mode[Fraction], side: int) -> bool:
        """Report whether a mode may hold somewhere in the cone on a side."""
        (e, f), (g, h) = step.forms
        for x, y, constant in mode.where:
            p, q = self._in_functionals((side * (x * e + y * g), side * (x * f + y * h)))
            most = max(x * u + y * v for u, v in _shifts(step)) + constant
            if p <= 0 and q <= 0 and (p + q) * self.c + most < 0:
                return False
        return True

    def _in_functionals(self, row: Point[Fraction]) -> Point[Fraction]:
        """Return (p, q) with row = p*a + q*b."""
        (a, b), (c, d) = self.a, self.b
        determinant = a * d - b * c
        return (row[0] * d - row[1] * c) / determinant, (row[1] * a - row[0] * b) / determinant


def _cone(matrix: Matrix[Fraction], s: Point[Fraction]) -> _Cone | None:
    """Return a cone around the direction of the largest eigenvalue, if it is real, with s in it."""
    (a, b), (c, d) = ((float(e) for e in row) for row in matrix)
    middle, inside = (a + d) / 2, ((a - d) / 2) ** 2 + b * c
    if inside <= 0 or middle == 0:
        return None
    side = 1 if middle > 0 else -1
    large, small = middle + side * math.sqrt(inside), middle - side * math.sqrt(inside)
    if abs(large) <= 1:
        return None
    first, second = _left_vector((a, b, c, d), large), _left_vector((a, b, c, d), small)
    height = first[0] * float(s[0]) + first[1] * float(s[1])
    across = second[0] * float(s[0]) + second[1] * float(s[1])
    sign, width = (
        (1 if height > 0 else -1),
        abs(height) / (2 * abs(across) + abs(height) / 64 + 1e-9),
    )
    plus = [sign * e + width * f for e, f in zip(first, second, strict=True)]
    minus = [sign * e - width * f for e, f in zip(first, second, strict=True)]
    one, two = (Fraction(plus[0]), Fraction(plus[1])), (Fraction(minus[0]), Fraction(minus[1]))
    if one[0] * two[1] == one[1] * two[0]:
        return None
    least = min(x * s[0] + y * s[1] for x, y in (one, two))
    return _Cone(one, two, least, side) if least > 0 else None


def _left_vector(matrix: tuple[float, ...], eigenvalue: float) -> tuple[float, float]:
    """Return l with l*matrix = eigenvalue*l, of length 1."""
    a, b, c, d = matrix
    x, y = max((c, eigenvalue - a), (eigenvalue - d, b), key=lambda p: math.hypot(*p))
    size = math.hypot(x, y) or 1.0
    return x / size, y / size
