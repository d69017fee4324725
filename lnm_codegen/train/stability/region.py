"""The set of theta for which the potential stays, as a quick test in floats.

theta is in the set if polynomials that are affine in it are nowhere negative on an interval
(`analysis.stability`). Over each of PIECES parts of it a polynomial is at least the least of its
Bernstein coefficients, which are affine in theta too: one product with a matrix tests every row.

    all of them >= a bound on the rounding of that product      proves a row inside,
    one at the end of a part, a value taken, < -bound           proves it outside.

Between the two `analysis.keeps_potential` decides.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

import torch
from torch import Tensor

from lnm_codegen.analysis.arithmetic.interval import Interval, interval_of
from lnm_codegen.analysis.arithmetic.univariate import bernstein
from lnm_codegen.analysis.polynomial_charge import PolynomialCharge, polynomial_charge
from lnm_codegen.analysis.stability import conditions, keeps_potential
from lnm_codegen.errors import ModelError
from lnm_codegen.language.neuron import Neuron

PIECES = 64
"""Of the interval: the bound is then below the least value by some 3e-4 of the curvature."""
_ROUNDING = 32 * 2.0**-53
"""Relative: products of at most 10 terms, each factor rounded once."""


@dataclass(frozen=True)
class Region:
    """The set, for one neuron and one bound of its input.

    Attributes:
        charge: Of the neuron.
        x: X.
        v: [v_min, V].
        leak: The theta of f(v) = decay*v, which is inside.
        matrix: Bernstein coefficients of each theta_j, (size, J).
        constant: Those of theta = 0, (J,).
        is_value: Which of them are values of the polynomial, (J,).
    """

    charge: PolynomialCharge
    x: float
    v: Interval
    leak: tuple[Fraction, ...]
    matrix: Tensor
    constant: Tensor
    is_value: Tensor

    def bounds(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Return the Bernstein coefficients (R, J) of theta (R, size), and the rounding of each."""
        size = self.constant.abs() + theta.abs() @ self.matrix.abs()
        return self.constant + theta @ self.matrix, _ROUNDING * size

    def surely_inside(self, theta: Tensor) -> Tensor:
        """Return which rows are proven inside, (R,); False says nothing."""
        found, rounding = self.bounds(theta)
        return (found >= rounding).all(1)

    def holds(self, theta: Tensor) -> Tensor:
        """Return which rows are inside, exactly, (R,)."""
        found, rounding = self.bounds(theta)
        inside = (found >= rounding).all(1)
        outside = ((found < -rounding) & self.is_value).any(1)
        for k in torch.nonzero(~(inside | outside)).flatten().tolist():
            inside[k] = self.holds_exactly(theta[k].tolist())
        return inside

    def holds_exactly(self, theta: list[float] | tuple[Fraction, ...]) -> bool:
        """Say whether one row is inside, in rationals."""
        soft, inside = self.charge.v_reset is None, self.charge.inside
        f = self.charge.coefficients(theta)
        return keeps_potential(f, self.x, self.v.low, self.v.high, soft=soft, inside=inside)


@lru_cache(maxsize=64)
def region_of(
    neuron: Neuron, x_max: float, v_min: float, v_threshold: float, decay: float
) -> Region:
    """Return the set for |x| <= x_max.

    Args:
        neuron: With a polynomial charge.
        x_max: X > 0.
        v_min: The lower end, where the neuron has no clamp of its own.
        v_threshold: V.
        decay: Of the leak, which must be inside.

    Raises:
        ModelError: The leak or the reset potential is outside.
        UnsupportedError: A neuron of another shape.
    """
    charge = polynomial_charge(neuron)
    low = Fraction(v_min) if charge.v_min is None else charge.v_min
    v = interval_of("project: [v_min, v_threshold]", (low, v_threshold))
    x = interval_of("project: x_max", (-x_max, x_max))
    soft = charge.v_reset is None
    if charge.v_reset is not None and charge.v_reset not in v:
        raise ModelError(
            "project",
            f"{neuron.name} resets to {float(charge.v_reset):g}",
            f"a value in [v_min, v_threshold], {v}",
        )
    degree = len(charge.offset) - 1
    straight = tuple(Fraction(decay) if k == 1 else Fraction(0) for k in range(degree + 1))
    leak = charge.theta_of(straight)

    def coefficients(theta: tuple[Fraction, ...]) -> list[Fraction]:
        found: list[Fraction] = []
        for p, on in conditions(charge.coefficients(theta), x, v, soft, charge.inside):
            for k in range(PIECES):
                low, high = (on.low + on.width * Fraction(j, PIECES) for j in (k, k + 1))
                found += bernstein(p, Interval(low, high))
        return found

    size = len(charge.rows)
    zero = tuple(Fraction(0) for _ in range(size))
    constant = coefficients(zero)
    units = [tuple(Fraction(int(i == k)) for i in range(size)) for k in range(size)]
    rows = [[a - b for a, b in zip(coefficients(u), constant, strict=True)] for u in units]
    region = Region(
        charge, x_max, v, leak,
        torch.tensor([[float(e) for e in row] for row in rows], dtype=torch.float64),
        torch.tensor([float(e) for e in constant], dtype=torch.float64),
        torch.arange(len(constant)) % (degree + 1) % degree == 0,
    )  # fmt: skip
    if not region.holds_exactly(leak):
        raise ModelError(
            "project",
            f"for |x| <= {x_max:g} even the leak f(v) = {decay:g}*v leaves {v}",
            "a smaller x_max, such as 0.9, or a lower v_min",
        )
    return region
