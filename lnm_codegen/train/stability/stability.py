"""Stability by design: a penalty on the slope, a projection after each step, and certificates.

slope_penalty(layer)        to add to the loss
project(layer, x_max)       to call after each step of the optimiser
certificate(layer, x_max)   what can be promised of the trained layer
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lnm_codegen.analysis.polynomial_charge import polynomial_charge
from lnm_codegen.errors import ModelError, UnsupportedError
from lnm_codegen.nn import NeuronLayer
from lnm_codegen.train.stability.certificate import Certificate as Certificate
from lnm_codegen.train.stability.certificate import certificate as certificate
from lnm_codegen.train.stability.penalty import largest_slope as largest_slope
from lnm_codegen.train.stability.penalty import slope_penalty as slope_penalty
from lnm_codegen.train.stability.probe import LOWEST
from lnm_codegen.train.stability.region import Region, region_of


def project(layer: NeuronLayer, x_max: float, *, v_min: float = LOWEST, decay: float = 0.5) -> int:
    """Bring theta back to where the potential after the reset stays in [v_min, V] for |x| <= X.

        hard reset   f(v) - X >= v_min on [v_min, V]
        soft reset   and f(v) + X <= 2*V

    A row outside that set, which is convex, is shrunk towards the leak f(v) = decay*v, which is
    inside: theta <- leak + s*(theta - leak) with the largest s in [0, 1], less what the quick test
    gives away (some 3e-4 of the curvature). That the result is inside is proven, of the numbers as
    stored. A row inside is not moved, so that a second call moves none.

    Args:
        layer: Of a polynomial neuron: lnm, of any form, basis and granularity.
        x_max: X.
        v_min: The lower end, where the neuron has no clamp of its own.
        decay: Of the leak.

    Returns:
        How many rows (1 per layer, else channels or neurons) were moved.

    Raises:
        ModelError: theta is not finite; the leak is outside. Nothing is changed then.
        UnsupportedError: Another neuron, or one whose threshold is learned.
    """
    region = _region(layer, x_max, v_min, decay)
    parameter: Tensor = getattr(layer, region.charge.theta)
    with torch.no_grad():
        stored = parameter.detach().reshape(-1, parameter.shape[-1])
        theta = stored.to("cpu", torch.float64)
        if bool(region.surely_inside(theta).all()):  # what nearly every call is
            return 0
        if not bool(torch.isfinite(theta).all()):
            row = int(torch.nonzero(~torch.isfinite(theta).all(1))[0])
            raise ModelError(
                "project",
                (
                    f"{region.charge.theta} of {layer.neuron.name} is not finite in row {row}: "
                    f"{theta[row].tolist()}"
                ),
                remedy="Go back to the last checkpoint.",
            )
        outside = torch.nonzero(~region.holds(theta)).flatten()
        if len(outside):
            moved = _shrunk(region, theta[outside], parameter.dtype)
            stored = stored.clone()
            stored[outside] = moved.to(stored.device, stored.dtype)
            parameter.copy_(stored.reshape(parameter.shape))
    return len(outside)


def check_projectable(
    layer: NeuronLayer, x_max: float, *, v_min: float = LOWEST, decay: float = 0.5
) -> None:
    """Raise what `project` raises of a layer that it cannot project, whatever its theta."""
    _region(layer, x_max, v_min, decay)


def _region(layer: NeuronLayer, x_max: float, v_min: float, decay: float) -> Region:
    for word, value in (("x_max", x_max), ("v_min", v_min), ("decay", decay)):
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not (number and math.isfinite(value) and (word != "x_max" or value >= 0)):
            accepted = "a finite number >= 0" if word == "x_max" else "a finite number"
            raise ModelError("project", f"{word} is {value!r}", accepted)
    charge = polynomial_charge(layer.neuron)
    threshold: Tensor = getattr(layer, charge.threshold)
    learned = any(p.learnable for p in layer.neuron.params if p.name == charge.threshold)
    if learned or threshold.numel() != 1:
        raise UnsupportedError(
            layer.neuron.name,
            (
                f"{charge.threshold} is learned or differs by row, and with it the interval that "
                "projection keeps"
            ),
            "one fixed threshold; theta can scale instead",
        )
    return region_of(layer.neuron, float(x_max), float(v_min), threshold.item(), float(decay))


def _shrunk(region: Region, theta: Tensor, dtype: torch.dtype) -> Tensor:
    """Return rows (R, size) that are outside moved towards the leak until they are inside.

    The numbers are those that `dtype` holds.
    """
    leak = torch.tensor([float(t) for t in region.leak], dtype=torch.float64)
    at_leak, _ = region.bounds(leak.unsqueeze(0))
    found, rounding = region.bounds(theta)
    # Above 0 by what storing the result may take away; both ends are affine in s.
    room = rounding * (torch.finfo(dtype).eps / 2.0**-53)
    share = (at_leak - room) / (at_leak - found)
    s = torch.where(found < room, share, 1.0).amin(1, keepdim=True).clamp(0.0, 1.0)
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
