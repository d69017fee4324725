"""Where the numbers of a normalisation are: in its `NormNeuron`, or in a module before it."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch._C._functorch import is_functorch_wrapped_tensor

from lnm_codegen.errors import UnsupportedError
from lnm_codegen.nn.arguments import is_plain


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


def track(norm: NormModule, moments: Tensor, count: int | None) -> None:
    """Update running statistics from the moments of a batch; see `statistics`.

    `count` is the number M of elements of a channel, greater than 0. None reads it from the
    moments, and changes nothing where it is 0.

    Raises:
        UnsupportedError: A transform of `torch.func` would change statistics outside of it.
    """
    if not torch.compiler.is_compiling() and is_functorch_wrapped_tensor(moments):
        if not is_functorch_wrapped_tensor(norm.running_mean):
            problem = "in training, a transform of torch.func would change the running statistics"
            raise UnsupportedError("NormNeuron", problem, remedy="Call eval().")
    if count is not None and norm.momentum is not None and _is_array(norm.running_mean):
        _track_arrays(norm, moments, norm.momentum, max(count, 2))
        return
    mean, var, total = moments.detach().unbind()
    some = 1 if count is not None else total[0] > 0
    elements = total.clamp(min=2) if count is None else max(count, 2)
    norm.num_batches_tracked.add_(some)
    rate = norm.momentum
    batches = norm.num_batches_tracked.clamp(min=1).double()
    weight = some / batches if rate is None else some * torch.full_like(batches, rate)
    unbiased = var * (elements / (elements - 1))
    for running, new in ((norm.running_mean, mean), (norm.running_var, unbiased)):
        old = running.double()
        running.copy_(old + weight * (new - old))


def _is_array(running: Tensor) -> bool:
    """Report whether NumPy can change running statistics, in less time than PyTorch."""
    if torch.compiler.is_compiling() or not running.is_cpu:
        return False
    return running.dtype in (torch.float32, torch.float64) and is_plain(running)


@np.errstate(all="ignore")  # NaN and infinity pass, as in PyTorch
def _track_arrays(norm: NormModule, moments: Tensor, weight: float, elements: int) -> None:
    mean, var, _ = moments.detach().numpy()
    unbiased = var * (elements / (elements - 1))
    for running, new in ((norm.running_mean, mean), (norm.running_var, unbiased)):
        values = running.numpy()
        values += weight * (new - values)
        torch.autograd.graph.increment_version(running)
    norm.num_batches_tracked.add_(1)
