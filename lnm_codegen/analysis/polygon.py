"""Convex polygons in the plane: hull, part in a half plane, sum with a segment, inclusion.

A polygon is the tuple of its corners, counterclockwise; a point has one corner and a segment two.
`hull_of` leaves no three corners on a line, as `holds` expects. Every function takes rational
corners, and is then exact, or floats.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import TypeAlias, TypeVar

Number = TypeVar("Number", Fraction, float)
Point: TypeAlias = tuple[Number, Number]
Polygon: TypeAlias = tuple[Point[Number], ...]
HalfPlane: TypeAlias = tuple[Number, Number, Number]
"""(a, b, c): the points with a*x + b*y + c >= 0."""


def hull_of(points: Iterable[Point[Number]]) -> Polygon[Number]:
    """Return the convex hull of one or more points."""
    ordered = sorted(set(points))
    if len(ordered) < 3:
        return tuple(ordered)
    lower, upper = _chain(ordered), _chain(ordered[::-1])
    return tuple(lower[:-1] + upper[:-1])


def _chain(points: Sequence[Point[Number]]) -> list[Point[Number]]:
    found: list[Point[Number]] = []
    for p in points:
        x, y = p
        while len(found) > 1:
            (a, b), (c, d) = found[-2], found[-1]
            if (c - a) * (y - b) > (d - b) * (x - a):  # `_turn`, written out for speed
                break
            found.pop()
        found.append(p)
    return found


def _turn(a: Point[Number], b: Point[Number], c: Point[Number]) -> Number:
    """Return twice the signed area of a triangle: > 0 if it is counterclockwise."""
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])


def clipped(polygon: Polygon[Number], half: HalfPlane[Number]) -> Polygon[Number]:
    """Return the part of a polygon in a half plane; () if it is empty."""
    a, b, c = half
    heights = [a * x + b * y + c for x, y in polygon]
    if all(h >= 0 for h in heights):
        return polygon
    found: list[Point[Number]] = []
    for k, (here, h) in enumerate(zip(polygon, heights, strict=True)):
        there, g = polygon[k - 1], heights[k - 1]
        if (h < 0 < g) or (g < 0 < h):
            share = h / (h - g)
            found.append(
                (here[0] + share * (there[0] - here[0]), here[1] + share * (there[1] - here[1]))
            )
        if h >= 0:
            found.append(here)
    return tuple(dict.fromkeys(found))


def meet(polygon: Polygon[Number], other: Polygon[Number]) -> Polygon[Number]:
    """Return the part of a polygon in another one with three corners or more; () if it is empty."""
    for k, (c, d) in enumerate(other):
        a, b = other[k - 1]
        if polygon:
            polygon = clipped(polygon, (b - d, c - a, a * d - b * c))
    return polygon


def swept(polygon: Polygon[Number], low: Point[Number], high: Point[Number]) -> Polygon[Number]:
    """Return the sum of a polygon and the segment from `low` to `high`."""
    dx, dy = high[0] - low[0], high[1] - low[1]
    if not (dx or dy):
        return tuple((x + low[0], y + low[1]) for x, y in polygon)
    left = [dx * y - dy * x for x, y in polygon]  # distances to the left of the direction
    if min(left) == max(left):
        return hull_of((x + a, y + b) for a, b in (low, high) for x, y in polygon)
    right_end, left_end, size = left.index(min(left)), left.index(max(left)), len(polygon)
    ahead = range(right_end, _after(right_end, left_end, size) + 1)
    behind = range(left_end, _after(left_end, right_end, size) + 1)
    moved = [(polygon[k % size], high) for k in ahead] + [(polygon[k % size], low) for k in behind]
    return tuple((x + a, y + b) for (x, y), (a, b) in moved)


def _after(k: int, end: int, size: int) -> int:
    return end if end >= k else end + size


def holds(polygon: Polygon[Number], p: Point[Number]) -> bool:
    """Report whether a point lies in a polygon, its edges included: bisection of the fan."""
    first, others = polygon[0], polygon[1:]
    if len(others) < 2:
        return _on_segment(first, polygon[-1], p)
    if _turn(first, others[0], p) < 0 or _turn(first, others[-1], p) > 0:
        return False
    low, high = 0, len(others) - 1
    while high - low > 1:
        middle = (low + high) // 2
        if _turn(first, others[middle], p) >= 0:
            low = middle
        else:
            high = middle
    return _turn(others[low], others[high], p) >= 0


def _on_segment(a: Point[Number], b: Point[Number], p: Point[Number]) -> bool:
    return _turn(a, b, p) == 0 and all(
        min(s, t) <= u <= max(s, t) for s, t, u in zip(a, b, p, strict=True)
    )
