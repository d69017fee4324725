"""Projection of a polynomial neuron's theta onto the set for which the potential stays bounded.

Two coupled states have a bound of their matrix's spectral radius instead (`layers.py`). The rest of
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

import math
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from functools import lru_cache
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from lnm_codegen.analysis.charge import lower_clamp, parameter_bounds, potential_of
from lnm_codegen.analysis.interval import Interval, interval_of
from lnm_codegen.analysis.invariant import Escape, Invariant, Undecided, invariant
from lnm_codegen.analysis.polynomial import bernstein
from lnm_codegen.analysis.polynomial_charge import (
    PolynomialCharge,
    conditions,
    keeps_potential,
    polynomial_charge,
)
from lnm_codegen.errors import ModelError, UnsupportedError
from lnm_codegen.families.common import LOWEST
from lnm_codegen.ir.declarations import State
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.nn.layer import NeuronLayer
from lnm_codegen.nn.parameters import parameter_sets, require_own, values_of
from lnm_codegen.train.models.convolutional import threshold_of
from lnm_codegen.train.runs.config import TrainConfig
from lnm_codegen.train.stability.layers import project_matrix, scalable_part
from lnm_codegen.validation import require_number, require_type

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


# Certificate of a trained layer: intervals that its states never leave, for each parameter set.


@dataclass(frozen=True)
class Certificate:
    """Bounds of the states after the reset for |x| <= x_max; proven in rationals (`analysis`).

    Attributes:
        neuron: Name of the neuron.
        x_max: X.
        rows: Number of parameter sets of the layer: 1, or its channels or neurons.
        certified: Number of sets with an interval that the states never leave.
        states: State -> (low, high), the union of the intervals of all certified sets, rounded
            outwards to floats.
        worst: Index of the set with the widest interval of the potential, or of the first without
            an interval.
        reason: Why the set `worst` has no interval; empty if every set is certified.
        inputs: Input -> a value per time step; the sequence drives a state out. Empty if none was
            found.
    """

    neuron: str
    x_max: float
    rows: int
    certified: int
    states: dict[str, tuple[float, float]]
    worst: int
    reason: str = ""
    inputs: dict[str, tuple[float, ...]] = field(default_factory=dict)

    @property
    def holds(self) -> bool:
        """True if every parameter set is certified."""
        return self.certified == self.rows

    def __str__(self) -> str:
        intervals = ", ".join(
            f"{n} in [{low:.6g}, {high:.6g}]" for n, (low, high) in self.states.items()
        )
        whole = f"{self.neuron}: for |x| <= {self.x_max:g} "
        if self.holds:
            widest = f" (set {self.worst} is the widest)" if self.rows > 1 else ""
            return f"{whole}the states stay: {intervals}{widest}"
        count = f"{self.certified} of {self.rows} parameter sets stay; set {self.worst}: "
        return f"{whole}{count if self.rows > 1 else ''}{self.reason}"

    def as_json(self) -> dict[str, Any]:
        """Return the fields and the text, for JSON."""
        return {**asdict(self), "text": str(self)}


def certificate(layer: NeuronLayer, x_max: float, *, bound: float = 100.0) -> Certificate:
    """Return the certificate of a layer of any family for |x| <= X.

    Args:
        layer: A layer whose initial states are numbers.
        x_max: X >= 0, of every input.
        bound: An input sequence counts as an escape if a state passes this bound.

    Raises:
        ModelError: A parameter is lazy or not finite, or x_max is not a number >= 0.
        UnsupportedError: A function that is not monotone, or a random initial state.
    """
    require_number("certificate", "x_max", x_max, low=0)
    neuron = layer.neuron.with_per({p.name: "layer" for p in layer.neuron.params})
    given = {s.name: (-x_max, x_max) for s in neuron.inputs}
    found: dict[Any, Invariant | Escape | Undecided] = {}
    results = []
    sets = parameter_sets(layer)
    for values in map(sets.of, range(len(sets))):
        key = tuple(sorted((n, tuple(v) if isinstance(v, list) else v) for n, v in values.items()))
        if key not in found:
            found[key] = invariant(neuron, given, values=values, bound=bound)
        results.append(found[key])
    return _certificate_of(layer, float(x_max), results)


def _certificate_of(
    layer: NeuronLayer, x_max: float, results: list[Invariant | Escape | Undecided]
) -> Certificate:
    bounded = [(k, r) for k, r in enumerate(results) if isinstance(r, Invariant)]
    states = {}
    for state in layer.neuron.states:
        ends = [r.states[state.name] for _, r in bounded]
        if ends:
            low, high = min(i.low for i in ends), max(i.high for i in ends)
            states[state.name] = (0.0 - _rounded_up(-low), _rounded_up(high))
    certified = (layer.neuron.name, x_max, len(results), len(bounded), states)
    if len(bounded) == len(results):
        v = potential_of(layer.neuron).name
        return Certificate(*certified, max(bounded, key=lambda pair: pair[1].states[v].width)[0])
    escapes = [(k, r) for k, r in enumerate(results) if isinstance(r, Escape)]
    if escapes:
        k, escape = escapes[0]
        return Certificate(*certified, k, str(escape), escape.inputs)
    undecided = [(k, r) for k, r in enumerate(results) if isinstance(r, Undecided)]
    return Certificate(*certified, undecided[0][0], undecided[0][1].reason)


def _rounded_up(value: Fraction) -> float:
    """Return the least float >= value."""
    nearest = float(value)
    return nearest if nearest >= value else math.nextafter(nearest, math.inf)


# Learned parameters that return to the bounds of the clamps that read them.
#
# A value outside counts as the bound, and its gradient is 0, so that no optimiser moves it back. At
# the bound itself it has a gradient, and the neuron computes the same.


def clamp_parameters(module: nn.Module) -> None:
    """Move learned parameters of neuron layers to the bounds of the clamps that read them.

        a <- min(max(a, low), high)     for lnm.clip(a, low, high), lnm.max(a, low) and others

    Each element of a vector parameter has its own bounds.

    Call it after each step of the optimiser; `lnm train` does. No output changes. These stay: a
    parameter that the neuron also reads without a clamp, one without `requires_grad`, and one that
    has no gradient at its bound, as in lnm.max(low, a).

    Args:
        module: A layer, or a network; changed in place.

    Raises:
        ModelError: `module` is no module.
    """
    require_type("clamp_parameters", "module", module, nn.Module, "a torch.nn.Module")
    for layer in module.modules():
        if not isinstance(layer, NeuronLayer):
            continue
        bounds = parameter_bounds(layer.neuron)
        for param in layer.neuron.params:
            value = layer._parameters.get(param.name)
            if value is None or not value.requires_grad or is_lazy(value):
                continue
            for k, name in enumerate(param.element_names):
                if name in bounds:
                    with torch.no_grad():
                        (value if param.size is None else value[..., k]).clamp_(*bounds[name])


# Interval of a layer's potential, on which the penalty and the projection act.


def potential_interval(layer: NeuronLayer, low: float | None = None) -> tuple[float, float]:
    """Return the interval [v_min, V] of a layer with its present parameters.

    V is the threshold, its mean over the layer; see `threshold_of`. v_min is the first of these:

    * the lower clamp of the charge (`analysis.charge.lower_clamp`);
    * `low`, if given;
    * -2, if the initial potential is above -2;
    * two distances to the threshold below the initial potential, for potentials in mV.

    The interval is empty, v_min >= V, if the neuron begins far above its threshold.
    """
    threshold = getattr(layer, "v_threshold", None)
    high = threshold_of(layer.neuron) if threshold is None else float(threshold.detach().mean())
    clamp = lower_clamp(layer.neuron) if layer.neuron.states else None
    if clamp is not None or low is not None:
        return cast("float", low if clamp is None else clamp), high
    start = _initial_potential(layer)
    return LOWEST if start > LOWEST else start + LOWEST * (high - start), high


def _initial_potential(layer: NeuronLayer) -> float:
    """Return the initial potential, its mean over the layer; a random one counts as 0."""
    if not layer.neuron.states:
        return 0.0
    decl = cast("State", potential_of(layer.neuron).decl)
    if decl.param:
        return float(getattr(layer, decl.param).detach().mean())
    return float(decl.init) if isinstance(decl.init, int | float) else 0.0
