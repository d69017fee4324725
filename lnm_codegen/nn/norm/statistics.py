"""Statistics of a sequence (T, N, C, *) for each channel, and what they contribute to gradients.

`moments` are (3, C) numbers in float64: mean, biased variance and count M, over T, N and *. With
them, the weight gamma and the bias beta, the neuron receives

    x = scale*(c - mean) + shift
    scale = gamma/sqrt(var + eps)        shift = beta - scale*(mu - mean)

where `mean` is the mean mu in the type of the arithmetic. The rounding of mu thus cancels.
"""

from __future__ import annotations

from math import prod
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from lnm_codegen.errors import ShapeError
from lnm_codegen.nn.function import FusedCall, Kernels, run_backward, run_forward
from lnm_codegen.nn.layout import Layout

_SAMPLES = 4
"""Numbers of each axis, evenly spaced, from which the pivot is computed."""


def elements(c: Tensor) -> int:
    """Return M, the number of elements of a channel."""
    return prod(c.shape[:2]) * prod(c.shape[3:])


def has_values(where: str, c: Tensor, group: str | None) -> bool:
    """Report whether a channel of a batch has values, or raise ShapeError if it has one."""
    count = elements(c)
    if count == 1 and group is None:
        problem = f"training on shape {tuple(c.shape)}, one value in a channel"
        remedy = "Use a larger batch, or call eval()."
        raise ShapeError(where, problem, "at least 2 values in a channel", remedy)
    return count > 0 or group is not None


class Passes(NamedTuple):
    """Kernels of the models in `Model.passes`."""

    sums: Kernels
    correction: Kernels


class Coefficients(NamedTuple):
    """Parameters of the prologue of a kernel, (C,) each, in the type of the arithmetic."""

    mean: Tensor
    scale: Tensor
    shift: Tensor


def batch_moments(passes: Passes, layout: Layout, c: Tensor, group: str | None) -> Tensor:
    """Return the moments of a sequence in the layout of a call, over all processes of a group.

    The kernel sums d and d**2, d = c - pivot, in the fixed tree of the reductions of parameter
    gradients. The pivot is a mean of a few numbers, so that d has the size of the spread of c.
    """
    pivot = _pivot(c, passes.sums.real)
    needed = (False, False, True, True)
    given = (c, pivot, pivot, pivot)  # the pass does not read the values of the last two
    _, _, first, second = run_backward(passes.sums, layout, given, None, [c], needed)
    assert first is not None
    assert second is not None
    count = c.numel() // max(len(pivot), 1)
    shift = first.double() / max(count, 1)
    var = second.double() / max(count, 1) - shift**2
    mean = pivot.double() + shift
    own = torch.stack((mean, var.clamp(min=0), torch.full_like(mean, count)))
    return own if group is None else _combined(own, group)


def _pivot(c: Tensor, real: torch.dtype) -> Tensor:
    few = tuple(
        slice(None, None, None if axis == 2 else -(-size // _SAMPLES) or None)
        for axis, size in enumerate(c.shape)
    )
    axes = tuple(axis for axis in range(c.dim()) if axis != 2)
    if c.numel() == 0:
        return torch.zeros(c.shape[2], dtype=real, device=c.device)
    return c[few].to(real).mean(axes)


def process_group(name: str) -> dist.ProcessGroup:
    """Return the process group of a name."""
    return dist.distributed_c10d._resolve_process_group(name)  # type: ignore[attr-defined, arg-type]


def _combined(own: Tensor, group: str) -> Tensor:
    """Return the moments of all processes, in the order of their ranks."""
    processes = process_group(group)
    parts = [torch.empty_like(own) for _ in range(processes.size())]
    dist.all_gather(parts, own, group=processes)
    mean, var, count = torch.stack(parts, dim=1)
    total = count.sum(0)
    weight = count / total.clamp(min=1)
    whole = (weight * mean).sum(0)
    spread = (weight * (var + (mean - whole) ** 2)).sum(0)
    return torch.stack((whole, spread, total))


def coefficients(
    moments: Tensor, weight: Tensor, bias: Tensor, eps: float, real: torch.dtype
) -> Coefficients:
    """Return the parameters of the prologue; differentiable in weight and bias."""
    mu, var = moments[0], moments[1]
    mean, scale = mu.to(real), weight.double() * (var + eps).rsqrt()
    shift = bias.double() - scale * (mu - mean)
    return Coefficients(mean, scale.to(real), shift.to(real))


class Gradients(NamedTuple):
    """Sums over the elements of a channel, (C,) each, in float64."""

    of_scale: Tensor  # sum of e*(c - mu), e the gradient of x
    of_shift: Tensor  # sum of e


def centred_sums(moments: Tensor, mean: Tensor, scale: Tensor, shift: Tensor) -> Gradients:
    """Return both sums from the kernel's gradients of scale and shift, which read `mean`."""
    of_shift = shift.double()
    return Gradients(scale.double() - (moments[0] - mean) * of_shift, of_shift)


def correct(
    correction: Kernels,
    layout: Layout,
    grad: Tensor,
    c: Tensor,
    moments: Tensor,
    used: Coefficients,
    eps: float,
    sums: Gradients,
) -> None:
    """Subtract in place, from scale*e, what passes through the statistics.

    grad <- grad - scale*(sum(e)/M + (c - mu)*sum(e*(c - mu))/(M*(var + eps)))
    """
    mu, var, count = moments
    factor = used.scale / count.clamp(min=1)
    slope = factor * sums.of_scale / (var + eps)
    offset = factor * sums.of_shift - slope * (mu - used.mean)
    real = correction.real
    tensors = (grad, c, used.mean, offset.to(real), slope.to(real))
    run_forward(FusedCall(correction, layout, False, False, []), tensors, into=grad)
