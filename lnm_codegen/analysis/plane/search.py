"""Invariant polygons of an affine step: guessed in floats, proven in rationals.

Let F(P) be the convex hull of all states after a step from P. A polygon P is invariant if it holds
the initial states and F(P) lies in P. The guess has edges in given directions:

* those in which the step shrinks nearly all distances alike (`matrix.shrinking`);
* the axes, and where the step takes them.

The sum of the step's responses to bounded inputs is widened until F maps it inside, with a margin.
Then P <- F(P), with the same margin, is repeated: F is monotone, so every P is invariant. The proof
is one step of the result in rationals.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from lnm_codegen.analysis.plane.matrix import is_stable, radius_of, shrinking
from lnm_codegen.analysis.plane.polygon import Point, Polygon, holds, hull_of
from lnm_codegen.analysis.plane.step import PlaneStep, in_floats

Array: TypeAlias = NDArray[np.float64]

FARTHEST = 2.0**24
"""Polygons stay within +-FARTHEST."""
_FEWEST, _MOST = 24, 256  # directions
_GROWTH, _TIGHTEN = 64, 64
_WIDTHS = (-24, -16, *range(-12, 25))
"""Binary logarithms of the widths to try, as shares of the size."""
_MARGIN = 2.0**-30  # of the size, for the rounding of the guess


def invariant_polygon(step: PlaneStep[Fraction], start: Point[Fraction]) -> Polygon[Fraction] | str:
    """Return an invariant polygon that holds `start`, or the reason why none is found."""
    near, first = in_floats(step), (float(start[0]), float(start[1]))
    search = _Search(near, first)
    for guess in search.guesses():
        found = search.widened(guess)
        if found is None:
            continue
        corners = hull_of((Fraction(v), Fraction(w)) for v, w in search.polygon(found))
        if is_invariant_polygon(step, corners, start):
            return corners
    return _reason(step, start)


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
    """Polygons with edges in fixed directions, as their supports b: direction*s <= b."""

    step: PlaneStep[float]
    start: Point[float]

    def __post_init__(self) -> None:
        self.matrix = np.array(self.step.linear(self.step.mode_at(self.start)))
        self.radius = radius_of(self.step.linear(self.step.mode_at(self.start)))
        whitening = shrinking(self.step.linear(self.step.mode_at(self.start)))  # keeps orientation
        self._unwhitened = np.linalg.inv(whitening)
        self.directions = _directions(self.matrix, whitening, self.radius)
        self.normals = self.directions @ whitening  # of the edges, for the states themselves

    def support(self, points: Array) -> Array:
        """Return the largest direction*point for each direction."""
        largest: Array = (self.normals @ points.T).max(1)
        return largest

    def polygon(self, b: Array) -> Polygon[float]:
        """Return the polygon with these supports."""
        (x, y), (u, v) = self.directions.T, np.roll(self.directions, -1, 0).T
        c = np.roll(b, -1)
        corners = np.stack([b * v - c * y, c * x - b * u], 1) / (x * v - y * u)[:, None]
        return tuple((v, w) for v, w in (corners @ self._unwhitened.T).tolist())

    def after(self, b: Array) -> Array:
        """Return the supports of F of the polygon, and of the start."""
        return self.support(np.array([*self.step.image(self.polygon(b)), self.start]))

    def guesses(self) -> Iterator[Array]:
        """Yield supports to widen: without resets, then as reached in some steps."""
        start = self.support(np.array([self.start]))
        if self.radius < 1:
            yield np.maximum(start, self._free())
        b = start
        for _ in range(_GROWTH):
            grown = np.maximum(b, self.after(b))
            if not np.abs(grown).max() < FARTHEST or np.array_equal(grown, b):
                break
            b = grown
        yield b

    def _free(self) -> Array:
        """Return the supports of the states that inputs reach while one mode holds."""
        mode = self.step.mode_at(self.start)
        m, offset = np.array(mode.matrix), np.array(mode.offset)
        count = min(4096, math.ceil(7 / max(1 - self.radius, 1e-9)))
        total, normals = np.zeros(len(self.normals)), self.normals
        for _ in range(count):
            total += normals @ offset
            for ends in self.step.inputs:
                total += (normals @ m @ np.array(ends).T).max(1)
            normals = normals @ self.matrix
        return total

    def widened(self, guess: Array) -> Array | None:
        """Return supports of a polygon around the guess that F maps inside, or None."""
        size = max(float(np.abs(guess).max()), 1e-6)
        margin = _MARGIN * size
        for k in _WIDTHS:
            b = guess + math.ldexp(size, k)
            if not np.abs(b).max() < FARTHEST:
                return None
            after = self.after(b) + margin
            if (after <= b).all():
                return self._tightened(after, margin)
        return None

    def _tightened(self, b: Array, margin: float) -> Array:
        for _ in range(_TIGHTEN):
            after = self.after(b) + margin
            if (b - after).max() < 1e-7 * np.abs(b).max():
                return after
            b = after
        return b


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
