"""Spectral radius of a 2 x 2 matrix from trace and determinant, and an ellipse that it shrinks.

For trace t and determinant d the radius is below r if and only if (Jury)

    |d| < r**2   and   r*|t| < r**2 + d
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from lnm_codegen.analysis.plane.polygon import Number
from lnm_codegen.analysis.plane.step import Matrix


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
