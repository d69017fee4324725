"""Convex polygons: every operation against its definition, on random points in rationals."""

from __future__ import annotations

from fractions import Fraction as Q
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lnm_codegen.analysis.polygon import clipped, holds, hull_of, meet, swept
from tests.strategies import examples

small = st.integers(-6, 6).map(lambda k: Q(k, 2))
points = st.lists(st.tuples(small, small), min_size=1, max_size=7)


def is_inside(corners: Any, p: Any) -> bool:
    """Report by every triangle, segment and point of the corners whether their hull holds p."""

    def turn(a: Any, b: Any, c: Any) -> Any:
        return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])

    for a, b, c in product(corners, repeat=3):
        turns = [turn(a, b, p), turn(b, c, p), turn(c, a, p)]
        if turn(a, b, c) > 0 and min(turns) >= 0:
            return True
    for a, b in product(corners, repeat=2):
        low, high = sorted((a, b))
        between = low <= p <= high and min(a[1], b[1]) <= p[1] <= max(a[1], b[1])
        if turn(a, b, p) == 0 and between:
            return True
    return False


@examples(15)
@given(points, st.lists(st.tuples(small, small), min_size=6, max_size=6))
def test_a_hull_holds_its_points_and_nothing_else(cloud: Any, probes: Any) -> None:
    hull = hull_of(cloud)
    assert set(hull) <= set(cloud)
    assert all(holds(hull, p) for p in cloud)
    for p in probes:
        assert holds(hull, p) == is_inside(cloud, p)


@examples(15)
@given(points, st.tuples(small, small, small), st.lists(st.tuples(small, small), max_size=6))
def test_a_clipped_polygon_is_its_part_in_the_half_plane(
    cloud: Any, half: Any, probes: Any
) -> None:
    part = clipped(hull_of(cloud), half)
    for p in [*cloud, *probes]:
        expected = half[0] * p[0] + half[1] * p[1] + half[2] >= 0 and is_inside(cloud, p)
        assert (bool(part) and is_inside(part, p)) == expected
        assert not part or holds(hull_of(part), p) == expected


@examples(15)
@given(points, points, st.lists(st.tuples(small, small), min_size=6, max_size=6))
def test_a_part_in_another_polygon(cloud: Any, other: Any, probes: Any) -> None:
    if len(hull_of(other)) > 2:
        part = meet(hull_of(cloud), hull_of(other))
        for p in [*cloud, *other, *probes]:
            expected = is_inside(cloud, p) and is_inside(other, p)
            assert (bool(part) and is_inside(part, p)) == expected


@examples(15)
@given(points, st.tuples(small, small), st.tuples(small, small), st.tuples(small, small))
def test_a_sum_with_two_segments(cloud: Any, low: Any, high: Any, other: Any) -> None:
    """The same hull as that of all sums of corners, also where edges are parallel."""
    found = swept(swept(hull_of(cloud), low, high), other, high)
    sums = [
        (p[0] + d[0] + e[0], p[1] + d[1] + e[1])
        for p, d, e in product(cloud, (low, high), (other, high))
    ]
    assert hull_of(found) == hull_of(sums)


@pytest.mark.parametrize("cloud", [[(Q(0), Q(0))], [(Q(0), Q(0)), (Q(2), Q(2)), (Q(1), Q(1))]])
def test_points_and_segments(cloud: Any) -> None:
    """A segment is swept along itself to the whole segment."""
    assert len(hull_of(cloud)) == min(len(cloud), 2)
    longer = swept(hull_of(cloud), (Q(0), Q(0)), (Q(1), Q(1)))
    top = max(cloud)
    assert hull_of(longer) == ((Q(0), Q(0)), (top[0] + 1, top[1] + 1))
