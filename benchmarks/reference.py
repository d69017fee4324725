"""The plain PyTorch loop that the kernels are compared with: LNM, hard reset, atan surrogate."""

from __future__ import annotations

import math

import torch


class Atan(torch.autograd.Function):
    """H(z), with the slope of atan(alpha=2)."""

    @staticmethod
    def forward(ctx, z):
        ctx.save_for_backward(z)
        return (z >= 0).to(z.dtype)

    @staticmethod
    def backward(ctx, grad):
        (z,) = ctx.saved_tensors
        return grad / (1 + (math.pi * z) ** 2)


def lnm_loop(x_seq: torch.Tensor, theta: torch.Tensor, v_threshold: float = 1.0) -> torch.Tensor:
    """Return the spikes of an LNM layer of any degree; Horner's scheme, over `unbind`."""
    v = torch.zeros_like(x_seq[0])
    spikes = []
    for x in x_seq.unbind(0):
        f = theta[-1]
        for k in range(len(theta) - 2, -1, -1):
            f = f * v + theta[k]
        h = f + x
        spike = Atan.apply(h - v_threshold)
        v = h * (1 - spike)
        spikes.append(spike)
    return torch.stack(spikes)
