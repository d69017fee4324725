"""Invariant polygons of an affine step: guessed in floats, proven in rationals.

Let F(P) be the convex hull of all states after a step from P. A polygon P is invariant if it holds
the initial states and F(P) lies in P. Two are searched, and their intersection is invariant too:

* a box;
* a polygon with edges in an even fan of directions, for coordinates in which the step shrinks
  nearly all distances alike (`matrix.shrinking`), along the axes, and where the step takes the
  axes.

A guess is widened until F maps it inside, with a margin. Then P <- F(P), with the same margin, is
repeated: F is monotone, so every P is invariant. The proof is one step of the result in rationals.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from lnm_codegen.analysis.plane.matrix import box_shrinking, is_stable, radius_of, shrinking
from lnm_codegen.analysis.plane.polygon import Point, Polygon, holds, hull_of, meet
from lnm_codegen.analysis.plane.step import Mode, PlaneStep, in_floats

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
