"""Fixed points s = F(s, x) of the step without a spike, by Newton's method.

The search begins at the initial states and on a grid around them, and so may miss a fixed point;
`analysis.fixed_points` finds all of them for one state and a polynomial.
"""

from __future__ import annotations

import itertools

import numpy as np

from lnm_codegen.analysis.linear.poles import EDGE, eigenvalues
from lnm_codegen.analysis.linear.step import Inputs, StepMap
from lnm_codegen.ir.interpret import Array

REACH, PLACES = 4.0, {1: 9, 2: 7, 3: 5}
"""The grid has PLACES[n] points (or else 3) for each state, REACH scales to either side."""
ITERATIONS, FARTHEST = 60, 2.0**20
"""Newton steps; distance of a point over the scale."""
TOLERANCE, SHORT, ROUNDING = 1e-9, 1e-8, 16 * float(np.finfo(float).eps)
"""Residual and length of the last Newton step over the scale; residual over the states that counts
as 0. A small residual alone is no fixed point: near a double root it is the squared distance."""
SAME, TINY = 1e-6, 1e-14
"""Distance over the scale of results that are one point; a state over the scale that counts as 0.
"""


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
        move = _newton_step(own, now, residual, x)
        with np.errstate(invalid="ignore"):
            short = np.abs(move).max(0) <= SHORT * scale[rows[active]]
        done = (size <= TOLERANCE) & short | (np.abs(residual) <= ROUNDING * np.abs(now)).all(0)
        moved = now + move
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
        same = any(np.abs(point - other).max() <= SAME * scale for other in kept)
        alone = is_isolated(step, point[:, None], x)[0]
        if same or (not alone and loose):
            continue
        loose |= not alone
        kept.append(point)
    return np.array(kept).T.reshape(len(start), -1)


def is_isolated(step: StepMap, at: Array, x: Inputs | None = None) -> Array:
    """Report whether no other fixed point is near: no eigenvalue of the Jacobian counts as 1."""
    values = eigenvalues(step.jacobian(at, x)[0])
    return np.asarray((np.abs(values - 1) > EDGE).all(-1))
