"""The generated Triton module as the kernels of a layer."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache

import torch
from torch import Tensor

from lnm_codegen.backends import BACKENDS
from lnm_codegen.backends.base import Model
from lnm_codegen.backends.plan import plan_of
from lnm_codegen.nn.modules import import_source


class TritonKernels:
    """The kernels of a model on a GPU, or in Triton's interpreter; names stand in call order."""

    def __init__(self, model: Model) -> None:
        plan = plan_of(model)
        self.inputs, self.states, self.outputs = model.inputs, plan.states, model.outputs
        self.learnable = tuple(p.learnable for p in model.params)
        self.counts = plan.counts
        self.real: torch.dtype = getattr(torch, model.real)
        self._module = import_source(BACKENDS["triton"].emit(model), "triton", model.name)

    def checkpoints(self, time_steps: int, neurons: int) -> int:
        """Return how many numbers the checkpoints hold."""
        count: int = self._module.checkpoints(time_steps, neurons)
        return count

    def forward(self, sizes: Sequence[int], arguments: Sequence[Tensor | int | None]) -> None:
        """Run the forward kernel."""
        with _device(arguments):
            self._module.forward(*sizes, *arguments)

    def backward(self, sizes: Sequence[int], arguments: Sequence[Tensor | int | None]) -> None:
        """Run the backward kernels."""
        with _device(arguments):
            self._module.backward(*sizes, *arguments)


def _device(arguments: Sequence[Tensor | int | None]) -> AbstractContextManager[object]:
    """Return the device of the tensors as PyTorch's current one; kernels are launched there."""
    device = next(a.device for a in arguments if isinstance(a, Tensor))
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


@cache
def load_triton(model: Model) -> TritonKernels:
    """Import the Triton kernels of a model.

    Raises:
        UnsupportedError: Triton cannot express the model.
        ToolError: The cache folder cannot be used.
    """
    return TritonKernels(model)
