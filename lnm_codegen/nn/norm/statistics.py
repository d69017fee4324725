"""Passes over a sequence (T, N, C, *) for the statistics of each channel.

`moments` are (3, C) numbers in float64: mean, biased variance and count M, over T, N and *.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import prod
from typing import NamedTuple

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from lnm_codegen.errors import ShapeError
from lnm_codegen.nn.function import Kernels, time_stride
from lnm_codegen.nn.layout import Layout
from lnm_codegen.nn.norm.numbers import array_of, moments_of, numbers, tensors

_SAMPLES = 2
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


def batch_moments(passes: Passes, layout: Layout, c: Tensor, group: str | None) -> Tensor:
    """Return the moments of a sequence in the layout of a call, over all processes of a group.

    The kernel sums d and d**2, d = c - pivot, in the fixed tree of the reductions of parameter
    gradients. The pivot is a mean of a few numbers, so that d has the size of the spread of c.
    """
    pivot = _pivot(c, passes.sums.real)
    first, second = torch.empty_like(pivot), torch.empty_like(pivot)
    sequence = (c, time_stride(c, layout))
    # As `run_backward` does, in less time. The pass reads neither linear, quadratic nor grad_y.
    given = (*sequence, pivot, pivot, pivot, None, *sequence, None, first, second)
    passes.sums.backward(layout.sizes, given)
    own = tensors(moments_of(elements(c), *numbers(first, second, pivot)))[0]
    return own if group is None else _combined(own, group)


def _pivot(c: Tensor, real: torch.dtype) -> Tensor:
    if c.numel() == 0:
        return torch.zeros(c.shape[2], dtype=real, device=c.device)
    few, axes, count = _sample(c.shape)
    if c.dtype is real and c.is_cpu:
        mean = np.add.reduce(array_of(c)[few], axes) / count
        return tensors(mean)[0]
    return c[few].to(real).mean(axes)


@lru_cache(maxsize=1024)
def _sample(shape: torch.Size) -> tuple[tuple[slice, ...], tuple[int, ...], int]:
    """Return the index of a few numbers of each channel, the axes other than C, and their count."""
    axes = tuple(axis for axis in range(len(shape)) if axis != 2)
    steps = [-(-size // _SAMPLES) for size in shape]
    few = tuple(slice(None, None, None if k == 2 else step) for k, step in enumerate(steps))
    return few, axes, prod(len(range(0, shape[k], steps[k])) for k in axes)


def world_name() -> str | None:
    """Return the name of the group of all processes, or None if there is one process.

    A compiled graph keeps the name. It is compiled again where the process groups are others, since
    `torch.compile` guards their table.
    """
    if not dist.is_available():
        return None
    groups = len(dist.distributed_c10d._world.pg_names)
    return _name_among(groups) if groups else None


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _name_among(_groups: int) -> str | None:
    world = dist.group.WORLD
    return None if world is None or world.size() == 1 else world.group_name


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


def correct(
    kernels: Kernels, layout: Layout, grad: Tensor, c: Tensor, constants: Sequence[Tensor]
) -> None:
    """Subtract in place what passes through the statistics; `constants`: mean, offset, slope."""
    gradient = (grad, time_stride(grad, layout))
    sequence = (c, time_stride(c, layout), *layout.sharing(c))
    kernels.forward(layout.sizes, (*gradient, *sequence, *constants, grad, None))
