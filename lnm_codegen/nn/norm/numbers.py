"""Numbers per channel of a normalisation in float64: moments, coefficients, sums of gradients.

    scale = gamma/sqrt(var + eps)        shift = beta - scale*(mu - mean)

`mean` is mu in the type of the arithmetic. The rounding of mu thus cancels.

Each formula is written once, for PyTorch tensors and for NumPy arrays. On the CPU, the kernels'
callers use NumPy: an operation on a few numbers takes it a fraction of PyTorch's time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Generic, NamedTuple, TypeAlias, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array: TypeAlias = NDArray[Any]
Numbers = TypeVar("Numbers", Tensor, Array)

_NUMPY = {torch.float32: np.float32, torch.float64: np.float64}


class Coefficients(NamedTuple, Generic[Numbers]):
    """Parameters of the prologue of a kernel, (C,) each, in the type of the arithmetic."""

    mean: Numbers
    scale: Numbers
    shift: Numbers


class Gradients(NamedTuple, Generic[Numbers]):
    """Sums over the elements of a channel, (C,) each, in float64."""

    of_scale: Numbers  # sum of e*(c - mu), e the gradient of x
    of_shift: Numbers  # sum of e


def numbers(*tensors: Tensor) -> Sequence[Any]:
    """Return detached values in float64: NumPy arrays on the CPU, else tensors."""
    if tensors[0].is_cpu:
        return [array_of(t).astype(np.float64, copy=False) for t in tensors]
    return [t.detach().double() for t in tensors]


def array_of(tensor: Tensor) -> Array:
    """Return the values of a tensor on the CPU, in its memory."""
    return (tensor.detach() if tensor.requires_grad else tensor).numpy()


def tensors(*values: Tensor | Array) -> list[Tensor]:
    """Return the results of formulas as tensors."""
    return [v if isinstance(v, Tensor) else torch.from_numpy(v) for v in values]


def rounded(value: Numbers, dtype: torch.dtype) -> Numbers:
    """Return numbers in float32 or float64."""
    if isinstance(value, Tensor):
        return value.to(dtype)
    return value.astype(_NUMPY[dtype], copy=False)


def moments_of(count: int, first: Numbers, second: Numbers, pivot: Numbers) -> Numbers:
    """Return mean, biased variance and count from the sums of d and d**2, d = c - pivot."""
    shift = first / max(count, 1)
    var = second / max(count, 1) - shift * shift
    shape = (3, len(shift))
    found: Any = np.empty(shape) if not isinstance(first, Tensor) else first.new_empty(shape)
    found[0] = pivot + shift
    found[1] = var * (var > 0)  # NaN stays
    found[2] = count
    return found  # type: ignore[no-any-return]


def coefficients(
    eps: float, real: torch.dtype, moments: Numbers, weight: Numbers, bias: Numbers
) -> Coefficients[Numbers]:
    """Return the parameters of the prologue; those of tensors are differentiable."""
    mean = rounded(moments[0], real)
    scale = weight * inverse_deviation(moments, eps)
    shift = bias - scale * (moments[0] - mean)
    return Coefficients(mean, rounded(scale, real), rounded(shift, real))


def inverse_deviation(moments: Numbers, eps: float) -> Numbers:
    """Return 1/sqrt(var + eps)."""
    if isinstance(moments, Tensor):
        return (moments[1] + eps).rsqrt()
    found: Array = 1 / np.sqrt(moments[1] + eps)
    return found


def centred_sums(
    moments: Numbers, mean: Numbers, scale: Numbers, shift: Numbers
) -> Gradients[Numbers]:
    """Return both sums from the kernel's gradients of scale and shift, which read `mean`."""
    return Gradients(scale - (moments[0] - mean) * shift, shift)


def correction(
    moments: Numbers,
    used: Coefficients[Numbers],
    eps: float,
    sums: Gradients[Numbers],
    real: torch.dtype,
) -> tuple[Numbers, Numbers]:
    """Return offset and slope of what passes through the statistics; see `input_correction`.

    offset + slope*(c - mean) = scale*(sum(e)/M + (c - mu)*sum(e*(c - mu))/(M*(var + eps)))
    """
    count = moments[2]
    factor = used.scale / (count + (count == 0))
    slope = factor * sums.of_scale / (moments[1] + eps)
    offset = factor * sums.of_shift - slope * (moments[0] - used.mean)
    return rounded(offset, real), rounded(slope, real)
