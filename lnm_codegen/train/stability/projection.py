"""Projection of a polynomial neuron's theta onto the set for which the potential stays bounded.

Two coupled states have a bound of their matrix's spectral radius instead (`matrix`). The rest of
this module is about one state.

theta is in the set if certain polynomials are nonnegative on an interval
(`analysis.polynomial_charge`). Their coefficients are affine in theta.

A quick test in floats decides most cases. It splits the interval into PIECES parts. On each part
it compares the Bernstein coefficients of the polynomials with a bound of their rounding:

* Every coefficient is at least the bound. A polynomial is at least its least coefficient, so the
  parameter set is inside.
* A coefficient at an end of a part is below -bound. It is a value of the polynomial, so the
  parameter set is outside.

In all other cases `analysis.keeps_potential` decides. The Bernstein coefficients are affine in
theta too, so one product with a matrix tests every parameter set.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

import torch
from torch import Tensor

from lnm_codegen.analysis.interval import Interval, interval_of
from lnm_codegen.analysis.polynomial import bernstein
from lnm_codegen.analysis.polynomial_charge import (
    PolynomialCharge,
    conditions,
    keeps_potential,
    polynomial_charge,
)
from lnm_codegen.errors import ModelError, UnsupportedError
from lnm_codegen.families.common import LOWEST
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.nn import NeuronLayer
from lnm_codegen.nn.parameters import require_own, values_of
from lnm_codegen.train.runs.config import TrainConfig
from lnm_codegen.train.stability.matrix import project_matrix, scalable_part
from lnm_codegen.validation import require_number

DECAY = 0.5
"""The default decay of the leak."""
R_MAX = TrainConfig.project_radius
"""The default of the largest spectral radius of two states."""
PIECES = 64
"""Parts of the interval: the bound is below the least value by some 3e-4 of the curvature."""
_ROUNDING = 32 * 2.0**-53
"""Relative rounding of a sum of at most 10 products, each factor rounded once."""


def project(
    layer: NeuronLayer,
    x_max: float,
    *,
    v_min: float = LOWEST,
    decay: float = DECAY,
    r_max: float = R_MAX,
) -> int:
    """Project theta to where the potential after the reset stays in [v_min, V] for |x| <= X.

        hard reset   f(v) - X >= v_min on [v_min, V]
        soft reset   and f(v) + X <= 2*V

    The set is convex and contains the leak f(v) = decay*v. A parameter set outside it moves towards
    the leak: theta <- leak + s*(theta - leak) with the largest s in [0, 1], less the slack of the
    quick test (some 3e-4 of the curvature). The result as stored is proven to be inside. A
    parameter set inside does not move, so a second call moves none.

    Two states: a matrix A of a spectral radius above r_max is scaled, A <- A*r_max/radius. That
    keeps eigenvectors and frequencies. Coefficients of degree 2 and more do not change. x_max,
    v_min and decay have no meaning there.

    A parameter without `requires_grad` moves too.

    Args:
        layer: A layer of a polynomial neuron: lnm, of any form, basis and granularity; or of two
            states whose matrix is linear in learnable parameters, such as a free one.
        x_max: X.
        v_min: Lower end, if the neuron has no clamp of its own.
        decay: Decay of the leak.
        r_max: Largest spectral radius of two states, between 0 and 1.

    Returns:
        Number of parameter sets (1, or channels or neurons) that moved.

    Raises:
        ModelError: theta is lazy, not finite or computed, as by `torch.nn.utils.parametrize`; or
            the leak is outside. Nothing changes then.
        UnsupportedError: The charge is not a polynomial, no theta gives the leak, or the threshold
            is learned; the matrix of two states is not linear in learnable parameters.
    """
    if len(layer.neuron.states) == 2:
        return project_matrix(layer, scalable_part(layer, r_max), r_max)
    region = _region(layer, x_max, v_min, decay)
    parameter = values_of(layer)[region.charge.theta]
    with torch.no_grad():
        stored = parameter.detach().reshape(-1, parameter.shape[-1])
        theta = stored.to("cpu", torch.float64)
        if bool(region.surely_inside(theta).all()):  # the common case
            return 0
        if not bool(torch.isfinite(theta).all()):
            index = int(torch.nonzero(~torch.isfinite(theta).all(1))[0])
            raise ModelError(
                "project",
                f"{region.charge.theta} of {layer.neuron.name} is not finite in parameter set"
                f" {index}: {theta[index].tolist()}",
                remedy="Resume from the last training checkpoint.",
            )
        outside = torch.nonzero(~region.holds(theta)).flatten()
        if len(outside):
            moved = _shrunk(region, theta[outside], parameter.dtype)
            stored = stored.clone()
            stored[outside] = moved.to(stored.device, stored.dtype)
            parameter.copy_(stored.reshape(parameter.shape))
    return len(outside)


def require_projectable(
    layer: NeuronLayer, x_max: float, v_min: float, r_max: float = R_MAX
) -> None:
    """Raise the error of `project` for a layer that it cannot project, whatever its theta."""
    if len(layer.neuron.states) == 2:
        scalable_part(layer, r_max)
    else:
        _region(layer, x_max, v_min, DECAY)


def _region(layer: NeuronLayer, x_max: float, v_min: float, decay: float) -> _Region:
    require_number("project", "x_max", x_max, low=0)
    require_number("project", "v_min", v_min)
    require_number("project", "decay", decay)
    charge = polynomial_charge(layer.neuron)
    require_own("project", layer, (charge.theta,))
    threshold: Tensor = getattr(layer, charge.threshold)
    learned = any(p.learnable for p in layer.neuron.params if p.name == charge.threshold)
    if learned or threshold.numel() != 1:
        raise UnsupportedError(
            layer.neuron.name,
            f"{charge.threshold} is learned or not per layer, so the interval of the projection"
            " is not fixed",
            "one fixed threshold; theta can scale instead",
        )
    return _region_of(layer.neuron, float(x_max), float(v_min), threshold.item(), float(decay))


def _shrunk(region: _Region, theta: Tensor, dtype: torch.dtype) -> Tensor:
    """Return sets (R, size) outside, moved to the leak until they are inside in `dtype`."""
    leak = torch.tensor([float(t) for t in region.leak], dtype=torch.float64)
    at_leak, _ = region.bounds(leak.unsqueeze(0))
    found, rounding = region.bounds(theta)
    # The margin covers the rounding to `dtype`; both ends are affine in s.
    margin = rounding * (torch.finfo(dtype).eps / 2.0**-53)
    share = (at_leak - margin) / (at_leak - found)
    s = torch.where(found < margin, share, 1.0).amin(1, keepdim=True).clamp(0.0, 1.0)
    for attempt in range(4):
        moved = (leak + (s if attempt < 3 else 0.0) * (theta - leak)).to(dtype)
        inside = region.holds(moved.to(torch.float64))
        if bool(inside.all()):
            return moved
        s = torch.where(inside.unsqueeze(1), s, s * (1 - 2.0**-8))
    raise ModelError(
        "project",
        f"the leak, rounded to {dtype}, is outside by its rounding",
        f"x_max a little below {region.x:g}",
    )


@dataclass(frozen=True)
class _Region:
    """The set, for one neuron and one bound of its input.

    Attributes:
        charge: The charge of the neuron.
        x: X.
        v: [v_min, V].
        leak: theta of f(v) = decay*v, which is inside.
        matrix: Bernstein coefficients of each theta_j, (size, J).
        constant: Bernstein coefficients of theta = 0, (J,).
        is_value: True where a coefficient is a value of the polynomial, (J,).
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
        """Return True for each parameter set that the quick test proves inside, (R,)."""
        found, rounding = self.bounds(theta)
        return (found >= rounding).all(1)

    def holds(self, theta: Tensor) -> Tensor:
        """Return True for each parameter set that is inside, exactly, (R,)."""
        found, rounding = self.bounds(theta)
        inside = (found >= rounding).all(1)
        outside = ((found < -rounding) & self.is_value).any(1)
        for k in torch.nonzero(~(inside | outside)).flatten().tolist():
            inside[k] = self.holds_exactly(theta[k].tolist())
        return inside

    def holds_exactly(self, theta: list[float] | tuple[Fraction, ...]) -> bool:
        """Report whether one parameter set is inside, in rationals."""
        soft, inside = self.charge.v_reset is None, self.charge.inside
        f = self.charge.coefficients(theta)
        return keeps_potential(f, self.x, self.v.low, self.v.high, soft=soft, inside=inside)


@lru_cache(maxsize=64)
def _region_of(
    neuron: Neuron, x_max: float, v_min: float, v_threshold: float, decay: float
) -> _Region:
    """Return the set for |x| <= x_max; raise ModelError if the leak or the reset is outside."""
    charge = polynomial_charge(neuron)
    low = Fraction(v_min) if charge.v_min is None else charge.v_min
    v = interval_of("project", "[v_min, v_threshold]", (low, v_threshold))
    x = interval_of("project", "x_max", (-x_max, x_max))
    soft = charge.v_reset is None
    if charge.v_reset is not None and charge.v_reset not in v:
        problem = f"{neuron.name} resets to {float(charge.v_reset):g}"
        raise ModelError("project", problem, f"a value in [v_min, v_threshold], {v}")
    degree = len(charge.offset) - 1
    line = tuple(Fraction(decay) if k == 1 else Fraction(0) for k in range(degree + 1))
    leak = charge.theta_of(line) if degree else None
    if leak is None:
        raise UnsupportedError(
            neuron.name,
            f"no {charge.theta} gives the leak f(v) = {decay:g}*v, to which a projection moves it",
            "a charge whose constant and linear coefficients are learned, such as lnm",
        )

    def coefficients(theta: tuple[Fraction, ...]) -> list[Fraction]:
        found: list[Fraction] = []
        for p, on in conditions(charge.coefficients(theta), x, v, soft, charge.inside):
            for k in range(PIECES):
                low, high = (on.low + on.width * Fraction(j, PIECES) for j in (k, k + 1))
                found += bernstein(p, Interval(low, high))
        return found

    size = len(charge.rows)
    constant = coefficients((Fraction(0),) * size)
    units = [tuple(Fraction(int(i == k)) for i in range(size)) for k in range(size)]
    matrix = [[a - b for a, b in zip(coefficients(u), constant, strict=True)] for u in units]
    region = _Region(
        charge, x_max, v, leak,
        torch.tensor([[float(e) for e in row] for row in matrix], dtype=torch.float64),
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
