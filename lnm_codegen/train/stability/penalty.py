"""Penalty on steep slopes of a neuron's charge, a term of the training loss.

    relu(max |f'| - 1.05)**2 over [v_min, V],   f(v) = h(v[t-1] = v, x = 0)

A slope beyond 1 makes temporal gradients grow at each time step. SymPy derives f' and its
derivatives in the parameters, for any family, form and basis; a clamp in the charge is ignored
(`analysis.charge`). By the envelope theorem the gradient of the largest slope is the gradient of
the slope at the point where it is largest.

Two coupled states with a matrix (`analysis.plane.linear`) have its spectral radius in place of the
slope (`matrix.radius_penalty`).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from lnm_codegen.analysis.charge import SlopeNeuron, slope_neuron
from lnm_codegen.analysis.linear.affine import linear_part
from lnm_codegen.families.common import LOWEST
from lnm_codegen.ir.declarations import Param
from lnm_codegen.nn import NeuronLayer
from lnm_codegen.nn.parameters import leading_axes
from lnm_codegen.train.runs.config import TrainConfig
from lnm_codegen.train.stability.layers import evaluated, radius_penalty
from lnm_codegen.validation import require_interval, require_number

ALLOWED = TrainConfig.penalty_slope
"""The default of the largest slope without a penalty."""
_POINTS = 97
"""Grid points of the search for the largest slope, unless the slope is a parabola."""


def slope_penalty(
    layer: NeuronLayer, low: float = LOWEST, high: float = 1.0, allowed: float = ALLOWED
) -> Tensor:
    """Return relu(max |f'| - allowed)**2 over [low, high], averaged over the parameter sets.

    For two states with a matrix, a penalty on a spectral radius above `allowed`, whatever the
    interval; see `matrix.radius_penalty`.

    Exact, up to rounding, if f' is a polynomial of degree 2 or less (an LNM to degree 3). Otherwise
    the best of 97 points and of the vertices of the parabolas through three neighbours each.

    Raises:
        ModelError: `low` and `high` are not finite, or low >= high; `allowed` is negative, or 0 for
            two states; a parameter is lazy.
    """
    require_number("slope", "allowed", allowed, low=0)
    part = linear_part(layer.neuron)
    if part is not None and part.decides:
        require_interval("slope", "the interval", (low, high))
        return radius_penalty(layer, part, allowed)
    probe = slope_neuron(layer.neuron)
    with torch.no_grad():
        slope, *derivatives = _steepest(layer, probe, low, high, 1 + len(probe.learned))
    names = tuple(dict.fromkeys(name for name, _ in probe.learned))
    values = [getattr(layer, name) for name in names]
    penalty: Tensor = _Penalty.apply(slope[0], allowed, derivatives, probe, names, *values)  # type: ignore[no-untyped-call]
    return penalty


def largest_slope(layer: NeuronLayer, low: float = LOWEST, high: float = 1.0) -> Tensor:
    """Return f' where |f'| is largest over [low, high]: (R,), without gradient."""
    with torch.no_grad():
        (slope,) = _steepest(layer, slope_neuron(layer.neuron), low, high, 1)
    return slope[0].detach()


def _steepest(
    layer: NeuronLayer, probe: SlopeNeuron, low: float, high: float, count: int
) -> tuple[Tensor, ...]:
    """Return the first outputs of the probe, (1, R) each, where in [low, high] |f'| is largest."""
    require_interval("slope", "the interval", (low, high))
    parabola = probe.degree is not None and probe.degree <= 2
    points = 3 if parabola else _POINTS
    like = next(chain(layer.parameters(), layer.buffers()), torch.zeros(()))
    z = torch.linspace(low, high, points, dtype=like.dtype, device=like.device)
    at = evaluated(layer, probe.neuron, like.dtype)
    (slope,) = at(z.unsqueeze(1), 1)
    largest, best = slope.abs().max(0, keepdim=True)
    # The parabola through each point and its neighbours; the steepest vertex may belong to another
    # point than the best one.
    before, here, after = slope[:-2], slope[1:-1], slope[2:]
    bend, rise = before - 2 * here + after, after - before
    offset = rise / (-2 * bend)  # of the vertex, in steps of the grid
    vertex = torch.where(offset.abs() < 1, (here + 0.25 * rise * offset).abs(), 0.0)
    steepest, centre = vertex.max(0, keepdim=True)
    steps = torch.where(steepest > largest, centre + 1 + offset.gather(0, centre), best)
    return at(low + (high - low) / (points - 1) * steps, count)


class _Penalty(torch.autograd.Function):
    """The penalty of slopes (R,), with their derivatives as the gradient of the parameters."""

    @staticmethod
    def forward(
        ctx: Any,
        slope: Tensor,
        allowed: float,
        derivatives: Sequence[Tensor],
        probe: SlopeNeuron,
        names: tuple[str, ...],
        *values: Tensor,
    ) -> Tensor:
        excess = torch.relu(slope.abs() - allowed)
        share = 2 * excess * slope.sign() / slope.numel()
        terms = share * torch.cat(list(derivatives)) if derivatives else share
        ctx.grads = []
        for name, value in zip(names, values, strict=True):
            places = [k for k, (n, _) in enumerate(probe.learned) if n == name]
            elements = [probe.learned[k][1] for k in places]
            param = next(p for p in probe.neuron.params if p.name == name)
            own = terms[places[0] : places[-1] + 1]  # the elements of a parameter are consecutive
            ctx.grads.append(_gradient(own, elements, value, param))
        return excess.square().mean()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return (None,) * 5 + tuple(grad * g for g in ctx.grads)


def _gradient(terms: Tensor, elements: Sequence[int], value: Tensor, param: Param) -> Tensor:
    """Return the gradient of a parameter: terms (k, R) summed over the sets that share it."""
    shared = terms.reshape(len(elements), *leading_axes(param, value), -1).sum(-1)
    if param.size is None:
        return shared[0]
    grad = torch.zeros_like(value)
    for k, element in enumerate(elements):
        grad[..., element] = shared[k]
    return grad
