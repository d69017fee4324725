"""Spectral radius and norms of 2 x 2 matrices, against NumPy."""

from __future__ import annotations

from fractions import Fraction as Q

import numpy as np
import pytest
from hypothesis import given, settings

from lnm_codegen.analysis.plane import (
    Mode,
    PlaneStep,
    box_shrinking,
    diverges,
    is_stable,
    radius_of,
    shrinking,
)
from tests.two_states import Matrix, matrices, rotation

EXACT = [
    ((1, 0), (0, 0)),
    ((0, -1), (1, 0)),
    ((-1, 5), (0, 1)),
    ((1, 1), (0, 1)),
    ((2, -1), (1, 0)),
]


def rows(theta: Matrix) -> tuple[tuple[float, float], tuple[float, float]]:
    return (theta[0], theta[1]), (theta[2], theta[3])


def rational(theta: Matrix) -> tuple[tuple[Q, Q], tuple[Q, Q]]:
    a, b, c, d = map(Q, theta)
    return (a, b), (c, d)


@settings(max_examples=200, deadline=None)
@given(matrices(1.5))
def test_jurys_conditions_are_those_of_the_eigenvalues(theta: Matrix) -> None:
    found = np.abs(np.linalg.eigvals(np.array(rows(theta)))).max()
    assert radius_of(rows(theta)) == pytest.approx(found, rel=1e-6, abs=1e-6)
    for limit in (0.5, 1.0, 1.25):
        if abs(found - limit) > 1e-6:
            assert is_stable(rational(theta), Q(limit)) == (found < limit)


@pytest.mark.parametrize("matrix", EXACT)
def test_a_radius_of_exactly_1_is_not_stable(matrix: tuple[tuple[int, int], ...]) -> None:
    """No tolerance: 1, a pair on the circle, -1 and 1, and double eigenvalues."""
    theta = tuple(float(e) for row in matrix for e in row)
    assert len(theta) == 4
    assert not is_stable(rational(theta))
    assert is_stable(rational(tuple(e * (1 - 2**-40) for e in theta)))  # type: ignore[arg-type]


@settings(max_examples=100, deadline=None)
@given(matrices(0.99))
def test_distances_shrink(theta: Matrix) -> None:
    """|W*A*s| < |W*s|, in the plane for every matrix, by the largest entry where |A| allows it."""
    w = shrinking(rows(theta))
    a = np.array(rows(theta))
    assert np.linalg.norm(w @ a @ np.linalg.inv(w), 2) < 1
    assert np.linalg.det(w) > 0
    w = box_shrinking(rows(theta))
    if np.abs(np.linalg.eigvals(np.abs(a))).max() < 0.999:
        assert np.abs(w @ a @ np.linalg.inv(w)).sum(1).max() < 1
        assert w.min() >= 0


def step_of(theta: Matrix) -> PlaneStep[Q]:
    """Return s' = A*s + (x, 0) for |x| <= 1."""
    zero, one = Q(0), Q(1)
    mode: Mode[Q] = Mode(((one, zero), (zero, one)), (zero, zero), ())
    return PlaneStep(rational(theta), (((-one, zero), (one, zero)),), (mode,))


@pytest.mark.parametrize(
    ("theta", "far"),
    [((1.25, 0.0, 0.0, 0.5), 4), ((-1.25, 0.0, 0.0, 0.5), 4), (rotation(1.25, 1.0), 4),
     ((1.25, 1.0, 0.0, -0.75), 16), ((1.5, 0.0, 0.0, 1.25), 4)],
)  # fmt: skip
def test_divergence_is_proven_far_out_and_not_near(theta: Matrix, far: int) -> None:
    """An input can hold a state of 1/(radius - 1) at most."""
    step = step_of(theta)
    for s in ((Q(2 * far), Q(0)), (Q(-4 * far), Q(1))):
        assert diverges(step, s)
    for s in ((Q(0), Q(0)), (Q(1, 2), Q(0)), (Q(0), Q(1, 2))):
        assert not diverges(step, s)


@pytest.mark.parametrize(
    "theta", [(1.0, 0, 0, 0.5), (0.9, 0, 0, 0.5), rotation(0.99, 1), (0, 0, 0, 0)]
)
def test_no_divergence_inside_the_circle_or_on_it(theta: Matrix) -> None:
    assert not diverges(step_of(theta), (Q(10**6), Q(10**6)))


def test_a_state_off_the_growing_direction_is_not_proven() -> None:
    """On the axis of the stable eigenvalue the state fades, however far it is."""
    assert not diverges(step_of((1.25, 0.0, 0.0, 0.5)), (Q(0), Q(10**9)))
