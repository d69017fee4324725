"""Fan-out of spikes in a convolution or linear layer, exact at borders.

An input value stands for n spikes if it is an integer n, or n/q after averaging.
"""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional

from lnm_codegen.errors import ModelError

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def frames_in(module: nn.Module, x: Tensor) -> tuple[int, ...]:
    """Return the axes of the input vectors or images, such as (T, N)."""
    if isinstance(module, nn.Linear):
        return tuple(x.shape[:-1])
    assert isinstance(module, CONVOLUTIONS)
    return tuple(x.shape[: x.dim() - len(module.kernel_size) - 1])


def steps_in(frames: tuple[int, ...], samples: int, steps: int) -> int:
    """Return the number of time steps in `frames`: 1 for (N, *), T for (T, N, *) and (T*N, *)."""
    if frames[:1] == (samples,) and frames[:2] != (steps, samples):
        return 1
    return max(1, min(math.prod(frames) // samples, steps))


def taps_of(module: nn.Module) -> int:
    """Return the number of products in one output."""
    weight = module.weight
    assert isinstance(weight, Tensor)
    return weight[0].numel()


def reached(module: nn.Module, spikes: Tensor) -> float:
    """Return the number of outputs that the spikes reach, with multiplicity."""
    if isinstance(module, nn.Linear):
        return float(spikes.sum(dtype=torch.float64)) * module.out_features
    taps, channels = _taps_of_image(module, spikes)
    per_place = spikes.reshape(-1, *taps.shape).sum(0, dtype=torch.float64).cpu()
    return float((per_place * taps).sum()) * channels


def products_in(module: nn.Module, x: Tensor) -> float:
    """Return the number of products of values and weights, without padding."""
    if isinstance(module, nn.Linear):
        return float(x.numel()) * module.out_features
    taps, channels = _taps_of_image(module, x)
    return x.numel() // taps.numel() * float(taps.sum()) * channels


def _taps_of_image(module: nn.Module, x: Tensor) -> tuple[Tensor, int]:
    """Return the outputs per channel that each pixel reaches, and the number of channels."""
    assert isinstance(module, CONVOLUTIONS)
    image = tuple(x.shape[x.dim() - len(module.kernel_size) :])
    taps = _reach(
        image, tuple(module.kernel_size), tuple(module.stride), module.padding,
        tuple(module.dilation), module.padding_mode,
    )  # fmt: skip
    return taps, module.out_channels // module.groups


@cache
def _reach(
    image: tuple[int, ...],
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    padding: str | tuple[int, ...],
    dilation: tuple[int, ...],
    mode: str,
) -> Tensor:
    """Return the number of outputs of one channel that each pixel reaches.

    It is the gradient of the sum of the outputs of a convolution with weights 1.
    """
    if mode != "zeros":
        raise ModelError("energy", f"padding_mode is {mode!r}", "'zeros'")
    convolve = (functional.conv1d, functional.conv2d, functional.conv3d)[len(image) - 1]
    with torch.inference_mode(False), torch.enable_grad():
        x = torch.zeros(1, 1, *image, dtype=torch.float64, requires_grad=True)
        weight = torch.ones(1, 1, *kernel, dtype=torch.float64)
        out = convolve(x, weight, None, stride, padding, dilation)
        (taps,) = torch.autograd.grad(out.sum(), x)
    return taps[0, 0]
