"""Where the numbers of a normalisation are: in its `NormNeuron`, or in a module before it."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor, nn

from lnm_codegen.errors import UnsupportedError


class NormModule(Protocol):
    """A module with the parameters and the running statistics of a `BatchNorm2d`."""

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor
    eps: float
    momentum: float | None
    training: bool
    _buffers: dict[str, Tensor | None]


class DeferredNorm(nn.Module):
    """A batch normalisation that the `NormNeuron` after it computes: its output is its input.

    `lnm.nn.fuse` changes a batch normalisation into this class. Parameters, running statistics,
    their keys in the state_dict, and the mode (`train`, `eval`) stay those of this module.
    """

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor
    num_features: int
    eps: float
    momentum: float | None

    def forward(self, input: Tensor) -> Tensor:
        """Return the input; its name is that of a `BatchNorm2d`, for calls by keyword."""
        return input

    def reset_running_stats(self) -> None:
        """Set the running statistics to mean 0 and variance 1."""
        reset_statistics(self)

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Set the weight to 1, the bias to 0, and the running statistics to their start."""
        self.weight.fill_(1)
        self.bias.zero_()
        reset_statistics(self)

    def _replicate_for_data_parallel(self) -> Any:
        """Refuse `torch.nn.DataParallel`: a copied `NormNeuron` would read this module."""
        problem = "torch.nn.DataParallel cannot copy a batch normalisation that a neuron computes"
        remedy = "Use DistributedDataParallel, or do not fuse the model."
        raise UnsupportedError("fuse", problem, remedy=remedy)

    def extra_repr(self) -> str:
        """Describe the module in `print(network)`."""
        return f"{self.num_features}, eps={self.eps}, momentum={self.momentum}"


def reset_statistics(norm: NormModule) -> None:
    """Set running statistics to mean 0 and variance 1, as `BatchNorm2d` does."""
    norm.running_mean.zero_()
    norm.running_var.fill_(1)
    norm.num_batches_tracked.zero_()
