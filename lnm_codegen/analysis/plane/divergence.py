"""Proof, in rationals, that two states grow without bound from a state on, whatever the inputs.

Let A be the matrix of a mode: s' = A*s + u with u in a bounded set. Two sets of states are mapped
into themselves, farther out at each step:

* Outside an ellipse, for complex eigenvalues. The form |s|**2 = A10*v**2 + (A11 - A00)*v*w -
  A01*w**2, or its negative, is positive and |A*s|**2 = det(A)*|s|**2. If (sqrt(det(A)) - 1)*|s| >
  |u|, then |s| grows. The matrix must be the same in every mode.
* In a cone a*s >= c, b*s >= c, for a real eigenvalue that is the larger in size. Let A'a = p*a +
  q*b and A'b = r*a + t*b without negative numbers. If (p + q - 1)*c > |a*u| and (r + t - 1)*c >
  |b*u|, then c grows. For a negative eigenvalue -A takes the place of A: the cone changes its side
  at each step. A mode counts only where the cone reaches its half planes, so that below the
  threshold a hard reset does not matter.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from itertools import product

from lnm_codegen.analysis.plane.polygon import Point
from lnm_codegen.analysis.plane.step import Matrix, Mode, PlaneStep, mapped


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
