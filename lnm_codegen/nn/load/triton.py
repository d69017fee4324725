"""The generated Triton module as the kernels of a layer."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache

import torch
from torch import Tensor

from lnm_codegen.backends import BACKENDS
from lnm_codegen.backends.base import Model
from lnm_codegen.backends.plan import plan_of
from lnm_codegen.nn.function import Kernels
from lnm_codegen.nn.load.modules import import_source
from lnm_codegen.nn.load.tune import launch_sizes


class TritonKernels(Kernels):
    """The kernels of a model on a GPU, or in Triton's interpreter."""

    def __init__(self, model: Model) -> None:
        super().__init__(plan_of(model))
        source = BACKENDS["triton"].emit(model)
        self._module = import_source(source, "triton", model.name)
        digest = hashlib.sha256(source.files[source.entry].encode()).hexdigest()[:16]
        self._key = f"{model.name}-{digest}"
        self._sizes: tuple[int, int] | None = None

    def checkpoints(self, time_steps: int, neurons: int) -> int:
        """Return how many numbers the checkpoints hold."""
        count: int = self._module.checkpoints(time_steps, neurons)
        return count

    def forward(self, sizes: Sequence[int], arguments: Sequence[Tensor | int | None]) -> None:
        """Run the forward kernel."""

        def run(block: int, warps: int) -> None:
            self._module.forward(*sizes, *arguments, block=block, num_warps=warps)

        device = next(a.device for a in arguments if isinstance(a, Tensor))
        with _current(device):
            if self._sizes is None and not _overwrites(arguments):
                elements = sizes[0] * sizes[1]
                self._sizes = launch_sizes(self._key, elements, run, device)
            if self._sizes is None:
                self._module.forward(*sizes, *arguments)
            else:
                run(*self._sizes)

    def backward(self, sizes: Sequence[int], arguments: Sequence[Tensor | int | None]) -> None:
        """Run the backward kernels."""
        device = next(a.device for a in arguments if isinstance(a, Tensor))
        with _current(device):
            self._module.backward(*sizes, *arguments)


def _overwrites(arguments: Sequence[Tensor | int | None]) -> bool:
    """Say whether an output lies over an input, so that a launch cannot be repeated."""
    places = [a.data_ptr() for a in arguments if isinstance(a, Tensor) and a.numel()]
    return len(places) != len(set(places))


def _current(device: torch.device) -> AbstractContextManager[object]:
    """Make a GPU PyTorch's current one; kernels are launched there."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


@cache
def load_triton(model: Model) -> TritonKernels:
    """Import the Triton kernels of a model.

    Raises:
        UnsupportedError: Triton cannot express the model.
        ToolError: The cache folder cannot be used.
    """
    return TritonKernels(model)
