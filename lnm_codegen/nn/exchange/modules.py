"""Modules of nodes that `torch.nn` lacks: scale, sum pooling and delay."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d


class Scale(nn.Module):
    """y = scale * x, element by element. `scale` broadcasts to the features of x, (N, *)."""

    def __init__(self, scale: Tensor) -> None:
        super().__init__()
        self.scale = nn.Parameter(scale)

    def forward(self, x: Tensor) -> Tensor:
        """Return the product."""
        return x * self.scale


class SumPool2d(nn.Module):
    """Sum over windows of (N, C, H, W); arguments as for `nn.AvgPool2d`, each a pair."""

    def __init__(
        self, kernel_size: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int]
    ) -> None:
        super().__init__()
        self.kernel_size, self.stride, self.padding = kernel_size, stride, padding

    def forward(self, x: Tensor) -> Tensor:
        """Return the sums."""
        return avg_pool2d(x, self.kernel_size, self.stride, self.padding, divisor_override=1)


class Delay(nn.Module):
    """y[t] = x[t - steps], element by element, and 0 at the first steps.

    `steps` are integers >= 0 of the shape of the features of x, (T, N, *).
    """

    steps: Tensor

    def __init__(self, steps: Tensor) -> None:
        super().__init__()
        self.register_buffer("steps", steps)
        self.most = int(steps.max()) if steps.numel() else 0

    def forward(self, x_seq: Tensor) -> Tensor:
        """Return the delayed sequence."""
        return self.run(x_seq, None)[0]

    def run(self, x_seq: Tensor, before: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the delayed sequence, and the last `most` steps of x, the `before` of a next call.

        `before` are those of the previous call, (most, N, *); None is 0.
        """
        if before is None:
            before = x_seq.new_zeros(self.most, *x_seq.shape[1:])
        whole = torch.cat((before, x_seq))
        count = x_seq.shape[0]
        time = torch.arange(count, device=x_seq.device).reshape(-1, *(1,) * (x_seq.dim() - 1))
        return whole.gather(0, (time + self.most - self.steps).expand_as(x_seq)), whole[count:]
