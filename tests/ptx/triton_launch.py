"""Launches of generated Triton modules on CPU tensors: Triton compiles, a `Machine` executes.

Inside `compiled`, a generated module runs as it would on a GPU. Nothing else of Triton is replaced
but its driver, the launch, and the call of the assembler.
"""

from __future__ import annotations

import os
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

import lnm_codegen as lnm
from lnm_codegen.nn import select
from tests.backends.triton.compiled import TARGETS, ptxas
from tests.ptx.machine import Machine
from tests.ptx.memory import Memory
from tests.ptx.program import parse


class _Driver:
    """The part of a driver of Triton that compilation reads."""

    def __init__(self, target: str) -> None:
        self._target = target

    def get_current_target(self) -> Any:
        return TARGETS[self._target]

    def get_current_device(self) -> str:
        return self._target  # each target has kernels of its own

    def get_current_stream(self, device: str) -> int:
        return 0


def cache_folder() -> Path:
    """Return the folder of PTX: that of the session's kernels, or one for the machine."""
    kept = os.environ.get("LNM_CACHE")
    return Path(kept or Path(tempfile.gettempdir(), "lnm-ptx")) / "ptx"


@contextmanager
def compiled(machine: Machine, target: str = "sm_90") -> Iterator[None]:
    """Run generated Triton modules on a machine, from PTX for a target."""
    import triton
    from triton import knobs
    from triton.backends.nvidia.compiler import CUDABackend
    from triton.runtime import driver
    from triton.runtime.jit import JITFunction

    plain = JITFunction.run

    def run(self: Any, *given: Any, grid: Any, warmup: bool, **options: Any) -> Any:
        kernel = plain(self, *given, grid=grid, warmup=True, **options)
        execute(machine, kernel, self.arg_names, given, int(grid[0]))
        return kernel

    folder = str(cache_folder() / "triton")  # apart, since these entries have no machine code
    with (
        mock.patch.object(driver, "_active", _Driver(target)),
        mock.patch.object(JITFunction, "run", run),
        # The function of a module, and a layer, take tensors on the CPU if Triton interprets.
        mock.patch.object(triton, "JITFunction", _Driver),
        mock.patch.object(select, "interpreting", return_value=True),
        mock.patch.object(CUDABackend, "make_cubin", return_value=b""),
        knobs.cache.scope(),
    ):
        knobs.cache.dir = folder
        yield


def compiled_for_recurrence(
    neuron: lnm.Neuron, size: int, precision: str, target: str
) -> dict[str, dict[str, int]]:
    """Return what the kernels of a recurrent layer use, "forward" and "backward", not executed."""
    found: dict[str, dict[str, int]] = {}

    def see(machine: Machine, kernel: Any, names: list[str], given: Any, grid: int) -> None:
        used = ptxas(kernel.asm["ptx"], target) | {"shared": kernel.metadata.shared}
        found[kernel.metadata.name.split("_")[1]] = used

    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        with mock.patch(f"{__name__}.execute", see), compiled(Machine(), target):
            layer = lnm.nn.RecurrentLayer(neuron, size, backend="triton")
            layer(torch.zeros(17, 2, size)).sum().backward()
    finally:
        torch.set_float32_matmul_precision(before)
    found.pop("sums", None)
    return found


def execute(machine: Machine, kernel: Any, names: list[str], given: Any, grid: int) -> None:
    """Execute a compiled kernel on the arguments of its launch."""
    ptx = parse(kernel.asm["ptx"])[kernel.metadata.name]
    memory, words = Memory(), []
    for name, value in zip(names, given, strict=False):
        if kernel.src.signature[name] == "constexpr":
            continue
        words.append(address(memory, value) if isinstance(value, torch.Tensor) else int(value))
    words += [0] * (len(ptx.params) - len(words))  # scratch memory of Triton, of which none is used
    threads = 32 * kernel.metadata.num_warps
    params = struct.pack(f"<{len(words)}q", *words)
    machine.launch(ptx, grid, threads, kernel.metadata.shared, params, memory)


def address(memory: Memory, tensor: torch.Tensor) -> int:
    """Return the address of a tensor; all of its storage is accessible."""
    storage = tensor.untyped_storage()
    whole = torch.tensor([], dtype=torch.uint8).set_(storage).numpy()
    if not whole.size:
        whole = np.empty(0, np.uint8)
    return memory.add(whole) + tensor.storage_offset() * tensor.element_size()
