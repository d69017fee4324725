"""The plain PyTorch loops that users would write by hand: over `unbind`, Horner's scheme, atan."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor


class Atan(torch.autograd.Function):
    """H(z), with the slope of atan(alpha=2)."""

    @staticmethod
    def forward(ctx: Any, z: Tensor) -> Tensor:
        """Fire at z >= 0."""
        ctx.save_for_backward(z)
        return (z >= 0).to(z.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        """Pass the gradient times the slope."""
        (z,) = ctx.saved_tensors
        return grad / (1 + (math.pi * z) ** 2)


def lnm_loop(x_seq: Tensor, theta: Tensor, v_threshold: float = 1.0) -> Tensor:
    """Return the spikes of an LNM layer of any degree, hard reset to 0."""
    v = torch.zeros_like(x_seq[0])
    spikes = []
    for x in x_seq.unbind(0):
        f = theta[-1]
        for k in range(len(theta) - 2, -1, -1):
            f = f * v + theta[k]
        h = f + x
        spike: Any = Atan.apply(h - v_threshold)  # type: ignore[no-untyped-call]
        v = h * (1 - spike)
        spikes.append(spike)
    return torch.stack(spikes)


def lif_loop(x_seq: Tensor, tau: float = 2.0, v_threshold: float = 1.0) -> Tensor:
    """Return the spikes of a LIF layer, input decayed too, hard reset to 0."""
    v = torch.zeros_like(x_seq[0])
    spikes = []
    for x in x_seq.unbind(0):
        h = v + (x - v) / tau
        spike: Any = Atan.apply(h - v_threshold)  # type: ignore[no-untyped-call]
        v = h * (1 - spike)
        spikes.append(spike)
    return torch.stack(spikes)
