"""Fixed points s = F(s, x) of the step without a spike, by Newton's method.

The search begins at the initial states and on a grid around them, and so may miss a fixed point;
`analysis.fixed_points` finds all of them for one state and a polynomial.
"""

from __future__ import annotations

import itertools

import numpy as np

from lnm_codegen.analysis.linear.step import Inputs, StepMap
from lnm_codegen.ir.interpret import Array

REACH, PLACES = 4.0, {1: 9, 2: 7, 3: 5}
"""The grid has PLACES[n] points (or else 3) for each state, REACH scales to either side."""
ITERATIONS, TOLERANCE, FARTHEST, SINGULAR, TINY = 40, 1e-9, 2.0**20, 1e-9, 1e-14
"""Newton steps; residual over the scale; distance over the scale; |det(J - 1)| of a point that is
not isolated; a state over the scale that counts as 0."""


def find_points(step: StepMap, x: Inputs | None = None) -> Array:
    """Return the result of each start, (n, S, R); NaN where Newton's method finds nothing.

    The first start is the initial state.
    """
    n, scale = len(step.states), step.scale()
    count = PLACES.get(n, 3)
    grid = np.array(list(itertools.product(np.linspace(-REACH, REACH, count), repeat=n))).T
    offsets = np.concatenate([np.zeros((n, 1)), grid], axis=1)
    starts = step.start()[:, None] + offsets[:, :, None] * scale
    rows = np.tile(np.arange(step.rows), starts.shape[1])
    flat = starts.reshape(n, -1)
    found = np.full_like(flat, np.nan)
    active = np.arange(flat.shape[1])
    for _ in range(ITERATIONS):
        now, own = flat[:, active], step.select(rows[active])
        residual = own.next(now, x) - now
        size = np.abs(residual).max(0) / scale[rows[active]]
        done = size <= TOLERANCE
        moved = now + _newton_step(own, now, residual, x)
        found[:, active[done]] = np.where(np.isfinite(moved), moved, now)[:, done]
        with np.errstate(invalid="ignore"):
            near = np.abs(moved).max(0) <= FARTHEST * np.maximum(scale[rows[active]], 1)
        flat[:, active] = moved
        active = active[near & ~done]
        if not len(active):
            break
    small = np.abs(found) <= TINY * scale[rows]
    return np.where(small, 0.0, found).reshape(starts.shape)


def _newton_step(step: StepMap, at: Array, residual: Array, x: Inputs | None) -> Array:
    matrix = np.eye(len(at)) - step.jacobian(at, x)[0]
    solvable = np.asarray(np.isfinite(matrix).all((-2, -1)) & np.isfinite(residual).all(0))
    matrix = np.where(solvable[:, None, None], matrix, np.eye(len(at)))
    solvable &= np.linalg.det(matrix) != 0
    matrix = np.where(solvable[:, None, None], matrix, np.eye(len(at)))
    move = np.linalg.solve(matrix, residual.T[:, :, None])[:, :, 0].T
    return np.where(solvable, move, np.nan)


def nearest_point(step: StepMap, points: Array) -> tuple[Array, Array]:
    """Return the point nearest to the initial states, (n, R), and where there is one, (R,).

    Without a point, the result is the initial states.
    """
    start = step.start()
    distance = np.linalg.norm(points - start[:, None], axis=0)
    known = np.isfinite(distance)
    best = np.where(known, distance, np.inf).argmin(0)
    chosen = np.take_along_axis(points, best[None, None], axis=1)[:, 0]
    return np.where(known.any(0), chosen, start), known.any(0)


def distinct_points(step: StepMap, points: Array, x: Inputs | None = None) -> Array:
    """Return the different points of one parameter set, (n, P), the nearest first.

    Points that are not isolated count as one, the nearest.
    """
    start, scale = step.start()[:, 0], float(step.scale()[0])
    flat = points[:, :, 0]
    flat = flat[:, np.isfinite(flat).all(0)]
    flat = flat[:, np.argsort(np.linalg.norm(flat - start[:, None], axis=0), kind="stable")]
    loose = False
    kept: list[Array] = []
    for point in flat.T:
        same = any(np.abs(point - other).max() <= 1e-6 * scale for other in kept)
        alone = is_isolated(step, point[:, None], x)[0]
        if same or (not alone and loose):
            continue
        loose |= not alone
        kept.append(point)
    return np.array(kept).T.reshape(len(start), -1)


def is_isolated(step: StepMap, at: Array, x: Inputs | None = None) -> Array:
    """Report whether no other fixed point is arbitrarily near: det(J - 1) differs from 0."""
    matrix = step.jacobian(at, x)[0] - np.eye(len(at))
    return np.asarray(np.abs(np.linalg.det(matrix)) > SINGULAR)
