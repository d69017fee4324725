"""Charge curves, matrices, modes and slopes of neuron layers, a value for each parameter set."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from lnm_codegen.analysis.charge import SlopeNeuron, curve_neuron, slope_neuron
from lnm_codegen.analysis.linear.affine import LinearPart, linear_part
from lnm_codegen.analysis.linear.modes import DIVERGING, RESET, Modes, modes_of
from lnm_codegen.errors import InternalError, ModelError, ShapeError, UnsupportedError
from lnm_codegen.families.common import LOWEST
from lnm_codegen.ir.declarations import Param
from lnm_codegen.ir.interpret import Array
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.nn.eager import eager_module
from lnm_codegen.nn.layer import NeuronLayer
from lnm_codegen.nn.parameters import (
    ParameterSets,
    broadcastable,
    finest_axes,
    leading_axes,
    parameter_sets,
    require_own,
)
from lnm_codegen.train.runs.config import TrainConfig
from lnm_codegen.validation import require_interval, require_number

# Charge curve of a neuron layer: z -> h(v[t-1] = z, x = 0), for any family.
#
# For an LNM of form A the curve is f_theta, for a LIF neuron the line (1 - 1/tau)*z.
# `analysis.charge` derives curve and slope as neurons without states; generated PyTorch code
# evaluates them.


def charge_curve(layer: NeuronLayer, z: Tensor) -> Tensor:
    """Return the charged potential one time step after `z`, without input.

    Args:
        layer: Its potential is the state `v`, or else the first; other states keep their initial
            values.
        z: Potentials (P,), before the step, of floating point.

    Returns:
        (P, R), where R is the number of parameter sets: 1, or the number of channels or neurons.
        It is differentiable in the parameters.

    Raises:
        ModelError: A parameter is lazy, and has no values yet.
        ShapeError: z is something else.
        UnsupportedError: A neuron without a state.
    """
    if not (isinstance(z, Tensor) and z.dim() == 1 and z.is_floating_point()):
        is_tensor = isinstance(z, Tensor)
        found = f"{tuple(z.shape)} of {z.dtype}" if is_tensor else f"a {type(z).__name__}"
        raise ShapeError("charge_curve", f"z is {found}", "a tensor (P,) of floating point")
    (curve,) = evaluated(layer, curve_neuron(layer.neuron), z.dtype)(z.unsqueeze(1), 1)
    return curve


def evaluated(
    layer: NeuronLayer, function: Neuron, dtype: torch.dtype
) -> Callable[[Tensor, int], tuple[Tensor, ...]]:
    """Return a function of potentials, with the layer's present parameters.

    Args:
        layer: The layer of the parameters.
        function: A neuron without states, whose one input is the potential.
        dtype: Type of the potentials.

    Returns:
        Potentials (P, 1) or (P, R), and a count -> that many first outputs, (P, R) each.
    """
    module, axes = eager_module(function), finest_axes(layer) or (1,)
    params = {
        p.name: broadcastable(p, getattr(layer, p.name).to(dtype), len(axes))
        for p in function.params
    }
    prepared = module.prepare(**params)

    def outputs(z: Tensor, count: int) -> tuple[Tensor, ...]:
        shape = (z.shape[0], *axes)
        at = z.expand(-1, math.prod(axes)).reshape(shape)
        found = module.step(at, *prepared)[:count]
        numbers = (torch.as_tensor(out, dtype=dtype, device=z.device) for out in found)
        return tuple(out.expand(shape).flatten(1) for out in numbers)

    return outputs


def learned_text(layer: NeuronLayer) -> str:
    """Return the learned parameters as a title: `theta = (0.01, 0.48, -0.07)`.

    Per channel or neuron it has mean and standard deviation.
    """
    parts = []
    for param in layer.neuron.params:
        if not param.learnable:
            continue
        value = getattr(layer, param.name).detach()
        flat = value.reshape(-1, param.size or 1)
        numbers = [f"{m:.3g}" for m in flat.mean(0).tolist()]
        if len(flat) > 1:
            spread = flat.std(0).tolist()
            numbers = [f"{m} ± {s:.2g}" for m, s in zip(numbers, spread, strict=True)]
        text = ", ".join(numbers)
        parts.append(f"{param.name} = ({text})" if param.size else f"{param.name} = {text}")
    return ", ".join(parts) or "nothing to learn"


# Matrices of layers of two states: spectral radius, projection, and penalty.
#
# Trace t and determinant d of a matrix give its radius in closed form, and decide whether it is at
# most r (Jury): |d| <= r**2 and r*|t| <= r**2 + d.


_ATTEMPTS = 32
"""Largest number of factors that a projection tries: 20 of them scale any float64 to 0."""
_TINY = 1e-300
"""Least argument of a root, so that a branch that is not selected has a finite gradient."""


def state_matrix(layer: NeuronLayer, part: LinearPart) -> Tensor:
    """Return A_00, A_01, A_10, A_11 of each parameter set, (4, R) float64, differentiable."""
    like = next(iter((*layer.parameters(), *layer.buffers())), torch.zeros(()))
    z = torch.zeros(1, 1, dtype=torch.float64, device=like.device)
    return torch.cat(evaluated(layer, part.neuron, torch.float64)(z, 4))


def spectral_radius(matrix: Tensor) -> Tensor:
    """Return the largest |eigenvalue| of (4, R) matrices, (R,), from trace and determinant."""
    a, b, c, d = matrix
    middle, inside = (a + d) / 2, ((a - d) / 2) ** 2 + b * c
    real = middle.abs() + inside.clamp(min=0).sqrt()
    return torch.where(inside < 0, (a * d - b * c).abs().sqrt(), real)


def radius_penalty(layer: NeuronLayer, part: LinearPart, allowed: float) -> Tensor:
    """Return a penalty on matrices of a spectral radius above `allowed`, averaged.

        relu(|s| - r)**2 + relu(|a| - r)**2     for the eigenvalues s and a,    r = allowed

    It is 0 if and only if the radius is at most r, and never falls where an eigenvalue moves
    outwards. For eigenvalues s and 0 it is that of a slope s of one state. Its gradient is finite,
    and jumps only at double eigenvalues outside, between real pairs and complex ones.

    Raises:
        ModelError: `allowed` is not above 0.
    """
    require_number("slope", "allowed", allowed, above=0)
    matrix = state_matrix(layer, part)
    like = next(iter(layer.parameters()), matrix)
    return _eigenvalue_penalty(matrix, allowed).mean().to(like.dtype)


def _eigenvalue_penalty(matrix: Tensor, r: float) -> Tensor:
    """Return relu(|s| - r)**2 + relu(|a| - r)**2 of (4, R) matrices, (R,).

    The real eigenvalues are middle +- root. Where both are beyond r on one side, the sum has no
    root, whose gradient is infinite at double eigenvalues. Where one is, root >= |middle| - r.
    """
    a, b, c, d = matrix
    inside = ((a - d) / 2) ** 2 + b * c
    root, size = ((e.clamp(min=_TINY)).sqrt() for e in (inside, a * d - b * c))
    excess = ((a + d) / 2).abs() - r
    same_side = 2 * excess.square() + 2 * inside
    one = torch.relu(excess + root).square() + torch.relu(root - excess - 2 * r).square()
    real = torch.where(excess > root, same_side, one)
    return torch.where(inside < 0, 2 * torch.relu(size - r).square(), real)


def scalable_part(layer: NeuronLayer, r_max: float) -> LinearPart:
    """Return the linear part of a layer whose matrix can be scaled, whatever its values.

    Raises:
        UnsupportedError: The matrix is not linear in learnable parameters that occur only there.
        ModelError: `r_max` is not between 0 and 1, or a parameter of the matrix is computed, as by
            `torch.nn.utils.parametrize`.
    """
    require_number("project", "r_max", r_max, above=0, below=1)
    part = linear_part(layer.neuron)
    if part is None or part.scaled is None:
        raise UnsupportedError(
            layer.neuron.name,
            "the matrix of its two states is not linear in learnable parameters that occur only"
            " there",
            "lnm of two states with parametrisation 'free', or a neuron of its shape; 'pole' is"
            " stable without a projection",
        )
    require_own("project", layer, (name for name, _ in part.scaled))
    return part


def project_matrix(layer: NeuronLayer, part: LinearPart, r_max: float) -> int:
    """Scale each matrix of a spectral radius above r_max to that radius: A <- A*r_max/radius.

    Eigenvectors and the angle of the eigenvalues stay. Parameters that several sets share are
    scaled by the least of their factors. The radius as stored is at most r_max, up to the rounding
    of float64; a set inside does not move.

    Returns:
        Number of parameter sets that moved.

    Raises:
        ModelError: A matrix is not finite. Nothing changes then.
    """
    assert part.scaled is not None
    elements: dict[str, list[int]] = {}
    for name, element in part.scaled:
        elements.setdefault(name, []).append(element)
    params = [p for p in layer.neuron.params if p.name in elements]
    with torch.no_grad():
        radius = spectral_radius(state_matrix(layer, part))
        if bool((radius <= r_max).all()):  # the common case
            return 0
        _require_finite(layer, radius, params)
        scale = _shared(layer, (r_max / radius).clamp(max=1.0), params)
        before = {p.name: getattr(layer, p.name).detach().clone() for p in params}
        eps = max(torch.finfo(value.dtype).eps for value in before.values())
        back = torch.zeros_like(scale)
        for _ in range(_ATTEMPTS):  # rounding to the stored type may leave a radius above r_max
            for p in params:
                _write(layer, p, elements[p.name], before[p.name], scale * (1 - back))
            inside = (spectral_radius(state_matrix(layer, part)) <= r_max).to(scale.dtype)
            if bool(inside.all()):
                return int((scale < 1).expand(finest_axes(layer)).sum())
            left = _shared(layer, inside, params) == 0
            back = torch.where(left, (8 * back).clamp(min=eps, max=1.0), back)
    raise InternalError("project", f"no factor brings a matrix of {layer.neuron.name} to {r_max:g}")


def _require_finite(layer: NeuronLayer, radius: Tensor, params: list[Param]) -> None:
    if not bool(torch.isfinite(radius).all()):
        index = int(torch.nonzero(~torch.isfinite(radius))[0])
        names = " and ".join(p.name for p in params)
        raise ModelError(
            "project",
            f"the matrix of {names} of {layer.neuron.name} is not finite in parameter set {index}",
            remedy="Resume from the last training checkpoint.",
        )


def _shared(layer: NeuronLayer, scale: Tensor, params: list[Param]) -> Tensor:
    """Return the least factor of all sets that share a parameter, with axes of size 1 for them."""
    found = scale.reshape(finest_axes(layer))
    for p in params:
        own = len(leading_axes(p, getattr(layer, p.name)))
        for axis in range(own, found.dim()):
            found = found.amin(axis, keepdim=True)
    return found


def _write(
    layer: NeuronLayer, param: Param, elements: list[int], before: Tensor, scale: Tensor
) -> None:
    """Set a parameter to its former value, the given elements scaled."""
    own = leading_axes(param, before)
    factor = scale.reshape((*scale.shape[: len(own)],)) if own else scale.reshape(())
    value = before.to(torch.float64, copy=True)
    if param.size is None:
        value = value * factor
    else:
        for k in elements:
            value[..., k] = value[..., k] * factor
    target: Tensor = getattr(layer, param.name)
    target.copy_(value.to(target.dtype))


# Linear classes of the rows of a layer with several states, and counts of its unstable rows.


ROWS = 128
"""Largest number of rows of a layer that are analysed one by one."""


@dataclass(frozen=True, slots=True)
class Unstable:
    """Number of rows of a layer whose linear step is unstable; see `analysis.linear.classes`.

    Attributes:
        rows: Rows that were analysed, at most `ROWS`; 0 for a layer without such classes.
        diverging: Rows of class "diverging".
        reset: Rows of class "unstable but reset".
    """

    rows: int = 0
    diverging: int = 0
    reset: int = 0


def numbers_of(rows: ParameterSets, selected: Sequence[int]) -> dict[str, Array]:
    """Return the parameters of these rows, (R,) or (R, size), as float64."""
    return {n: v[list(selected)].double().numpy() for n, v in rows.values.items()}


def layer_modes(layer: NeuronLayer, rows: ParameterSets, selected: Sequence[int]) -> Modes:
    """Return the linear behaviour of the selected rows."""
    return modes_of(layer.neuron, numbers_of(rows, selected), len(selected))


def is_counted(layer: NeuronLayer) -> bool:
    """Report whether a layer has several states and learns: training may make its rows unstable."""
    neuron = layer.neuron
    return len(neuron.states) > 1 and any(p.learnable for p in neuron.params)


def count_unstable(layer: NeuronLayer) -> Unstable:
    """Return the counts of the rows that `lnm analyze RUN` analyses, of a counted layer."""
    if not is_counted(layer):
        return Unstable()
    rows = parameter_sets(layer)
    labels = layer_modes(layer, rows, rows.evenly_spaced_indices(ROWS)).labels
    return Unstable(len(labels), labels.count(DIVERGING), labels.count(RESET))


def unstable_text(counts: Sequence[Unstable]) -> str:
    """Return a line on the diverging rows of all layers, or an empty text without any."""
    diverging, reset = sum(c.diverging for c in counts), sum(c.reset for c in counts)
    if not diverging:
        return ""
    other = f" and {reset} unstable but reset" if reset else ""
    verb = "is" if diverging == 1 else "are"
    total = sum(c.rows for c in counts)
    return f"{diverging} of {total} rows {verb} diverging{other}, in free runs without input"


# Penalty on steep slopes of a neuron's charge, a term of the training loss.
#
#     relu(max |f'| - 1.05)**2 over [v_min, V],   f(v) = h(v[t-1] = v, x = 0)
#
# A slope beyond 1 makes temporal gradients grow at each time step. SymPy derives f' and its
# derivatives in the parameters, for any family, form and basis; a clamp in the charge is ignored
# (`analysis.charge`). By the envelope theorem the gradient of the largest slope is the gradient of
# the slope at the point where it is largest.
#
# Two coupled states with a matrix have its spectral radius in place of the slope, see
# `radius_penalty`.


ALLOWED = TrainConfig.penalty_slope
"""The default of the largest slope without a penalty."""
_POINTS = 97
"""Grid points of the search for the largest slope, unless the slope is a parabola."""


def slope_penalty(
    layer: NeuronLayer, low: float = LOWEST, high: float = 1.0, allowed: float = ALLOWED
) -> Tensor:
    """Return relu(max |f'| - allowed)**2 over [low, high], averaged over the parameter sets.

    For two states with a matrix, a penalty on a spectral radius above `allowed`, whatever the
    interval; see `radius_penalty`.

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
