"""Poles: the eigenvalues a of the Jacobian of a step, and their radius, frequency and damping time.

A small deviation along the eigenvector is multiplied by a in every step.

    radius          |a|; the deviation dies out if |a| < 1
    frequency       |arg a| / (2*pi), cycles a step, 0 to 1/2
    damping time    -1 / ln|a|: the steps in which the deviation falls to 1/e. Infinite for
                    | |a| - 1 | <= EDGE; negative for a greater |a|, where the deviation grows by e
                    in as many steps
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lnm_codegen.ir.interpret import Array

REAL, EDGE = 1e-6, 1e-6
"""An eigenvalue a with |Im a| <= REAL * |a| counts as real: rounding splits a double one. A modulus
within EDGE of 1 counts as 1: learned numbers are rounded."""


@dataclass(frozen=True, slots=True)
class Pole:
    """An eigenvalue of the Jacobian."""

    value: complex

    @property
    def radius(self) -> float:
        """Modulus."""
        return abs(self.value)

    @property
    def frequency(self) -> float:
        """Cycles a step, 0 to 1/2."""
        return float(frequencies(np.array(self.value)))

    @property
    def damping_time(self) -> float:
        """Steps to 1/e; see the module."""
        return float(damping_times(np.array(self.value)))


def eigenvalues(matrices: Array) -> Array:
    """Return the eigenvalues (*, n) of matrices (*, n, n), by falling modulus.

    Of a complex pair, the one with the positive imaginary part comes first. They are NaN for a
    matrix that is not finite.
    """
    finite = np.asarray(np.isfinite(matrices).all((-2, -1)))
    found = np.linalg.eigvals(np.where(finite[..., None, None], matrices, 0.0)).astype(complex)
    found = np.where(is_real(found), found.real, found)
    order = np.lexsort((-found.imag, -found.real, -np.round(np.abs(found), 12)), axis=-1)
    return np.where(finite[..., None], np.take_along_axis(found, order, -1), complex("nan"))


def is_real(values: Array) -> Any:
    """Report which eigenvalues count as real."""
    return np.abs(values.imag) <= REAL * np.abs(values)


def frequencies(values: Array) -> Array:
    """Return the frequency of each eigenvalue in cycles a step."""
    straight = np.where(is_real(values), values.real, values)
    return np.asarray(np.abs(np.angle(straight)) / (2 * math.pi))


def damping_times(values: Array) -> Array:
    """Return the damping time of each eigenvalue in steps."""
    radius = np.abs(values)
    with np.errstate(divide="ignore"):
        times = -1 / np.asarray(np.log(radius))
    return np.asarray(np.where(np.abs(radius - 1) <= EDGE, np.inf, times))


def number(value: complex, digits: int = 6) -> str:
    """Return an eigenvalue as text: `0.5 + 0.6i`, or `0.5` if it is real."""
    if abs(value.imag) == 0:
        return f"{value.real:.{digits}g}"
    sign = "-" if value.imag < 0 else "+"
    return f"{value.real:.{digits}g} {sign} {abs(value.imag):.{digits}g}i"


def poles_as_list(poles: Sequence[Pole]) -> list[dict[str, float]]:
    """Return poles as plain data; the damping time of modulus 1 is infinite."""
    return [
        {"real": p.value.real, "imag": p.value.imag, "radius": p.radius,
         "frequency": p.frequency, "damping_time": p.damping_time}
        for p in poles
    ]  # fmt: skip
