"""Normalisation in plain PyTorch: the reference of the kernels."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributed.nn.functional import all_reduce

from lnm_codegen.nn.arguments import REAL
from lnm_codegen.nn.norm.numbers import Coefficients
from lnm_codegen.nn.norm.statistics import process_group


def normalised_by(c: Tensor, used: Coefficients[Tensor]) -> Tensor:
    """Return scale*(c - mean) + shift, in the type of the arithmetic."""
    mean, scale, shift = (_by_channel(value, c) for value in used)
    return (c.to(REAL[c.dtype]) - mean) * scale + shift


def batch_normalised(
    c: Tensor, weight: Tensor, bias: Tensor, eps: float, group: str | None
) -> tuple[Tensor, Tensor]:
    """Return c with the statistics of the batch, in the type of the arithmetic, and its moments."""
    axes = tuple(axis for axis in range(c.dim()) if axis != 2)
    numbers = c.to(REAL[c.dtype])
    count = numbers.new_full((1,), c.numel() // max(c.shape[2], 1))
    if group is None:
        var, mean = torch.var_mean(numbers, axes, correction=0)
    else:
        count = _summed(count, group)
        mean = _summed(numbers.sum(axes), group) / count
        var = _summed(((numbers - _by_channel(mean, c)) ** 2).sum(axes), group) / count
    used = Coefficients(mean, weight * (var + eps).rsqrt(), bias)
    moments = torch.stack((mean, var, count.expand_as(mean))).detach().double()
    return normalised_by(c, used), moments


def _by_channel(value: Tensor, c: Tensor) -> Tensor:
    """Return (C,) in a shape that broadcasts to (T, N, C, *)."""
    return value.reshape(-1, *[1] * (c.dim() - 3))


def _summed(value: Tensor, group: str) -> Tensor:
    """Return the sum over all processes; its gradient is summed too."""
    total: Tensor = all_reduce(value, group=process_group(group))  # type: ignore[no-untyped-call]
    return total
