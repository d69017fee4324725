"""CUDA kernels: compiled by NVRTC for the current GPU, launched on PyTorch's current stream.

NVRTC and the driver are called through cuda-bindings. The key of a cubin in the cache is its
source, the flags, NVRTC's version and the architecture.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import cache
from typing import Any

import torch

from lnm_codegen.backends.cuda.backend import FLAGS, Cuda
from lnm_codegen.backends.cuda.kernels import CudaPlan
from lnm_codegen.backends.cuda.launches import SHARED, Launch
from lnm_codegen.backends.loops import ABI
from lnm_codegen.backends.plan import HEAD, Plan
from lnm_codegen.errors import ToolError, reason
from lnm_codegen.files import write_whole
from lnm_codegen.nn.function import Arguments, Kernels, addresses, device_of
from lnm_codegen.nn.load.cache import entry, sound_bytes, usable_cache, write_digest


class CudaKernels(Kernels):
    """Kernels of a model on NVIDIA GPUs."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan, plan.counts)
        self._plan = CudaPlan(plan)
        self._modules: dict[int, Any] = {}
        self._functions: dict[tuple[int, str], Any] = {}

    def saved_size(self, time_steps: int, neurons: int) -> int:
        """Return the number of elements in the saved states."""
        return self._plan.launches.saved_size(time_steps, neurons)

    def forward(self, sizes: Sequence[int], arguments: Arguments) -> None:
        """Run the forward kernel; its blocks add to the count buffers, which the caller zeroes."""
        _, neurons, sample, _, _ = sizes
        self._run(self._plan.launches.forward_launches(neurons, sample), sizes, arguments, 0)

    def backward(self, sizes: Sequence[int], arguments: Arguments) -> None:
        """Run the backward kernels."""
        time_steps, neurons, sample, channels, _ = sizes
        bytes_ = self._plan.launches.backward_workspace(time_steps, neurons, sample)
        launches = self._plan.launches.backward_launches(neurons, sample, channels)
        self._run(launches, sizes, arguments, bytes_)

    def _run(
        self,
        launches: tuple[Launch, ...],
        sizes: Sequence[int],
        arguments: Arguments,
        workspace_bytes: int,
    ) -> None:
        from cuda.bindings import driver

        device, words = device_of(arguments), addresses(arguments)
        workspace = torch.empty(max(workspace_bytes, 1), dtype=torch.uint8, device=device)
        count = len(HEAD) + len(sizes) + len(words)
        struct = (ctypes.c_int64 * count)(8 * count, ABI, *sizes, *words)
        place = ctypes.c_void_p(workspace.data_ptr())
        values = (ctypes.c_void_p * 2)(ctypes.addressof(struct), ctypes.addressof(place))
        with torch.cuda.device(device):
            stream = torch.cuda.current_stream().cuda_stream
            # A thread of autograd has no context before its first call of the CUDA runtime.
            _check(driver.cuCtxSetCurrent(_context(device.index)))
            for launch in launches:
                function = self._function(device.index, launch)
                _check(
                    driver.cuLaunchKernel(
                        function, launch.grid, 1, 1, launch.block, 1, 1, launch.shared, stream,
                        ctypes.addressof(values), 0,
                    )
                )  # fmt: skip

    def _function(self, device: int, launch: Launch) -> Any:
        """Return a kernel on a device, found at the first call."""
        from cuda.bindings import driver

        key = (device, launch.kernel)
        if key not in self._functions:
            module = self._module(device)
            (function,) = _check(driver.cuModuleGetFunction(module, launch.kernel.encode()))
            if launch.shared > SHARED:
                word = driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
                _check(driver.cuFuncSetAttribute(function, word, launch.shared))
            self._functions[key] = function
        return self._functions[key]

    def _module(self, device: int) -> Any:
        """Return the kernels on a device, loaded at the first call."""
        from cuda.bindings import driver

        if device not in self._modules:
            major, minor = torch.cuda.get_device_capability(device)
            image = cubin(self._plan.plan, f"sm_{major}{minor}")
            (self._modules[device],) = _check(driver.cuModuleLoadData(image))
        return self._modules[device]


@cache
def _context(device: int) -> Any:
    """Return the primary context of a device, which is PyTorch's."""
    from cuda.bindings import driver

    (number,) = _check(driver.cuDeviceGet(device))
    (context,) = _check(driver.cuDevicePrimaryCtxRetain(number))
    return context


def _check(result: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the results of a call of the driver or of NVRTC, or raise ToolError."""
    error, *results = result
    if int(error) != 0:
        remedy = "Install a driver and a PyTorch that fit this GPU."
        raise ToolError("cuda", str(error.name), remedy=remedy)
    return tuple(results)


def cubin(plan: Plan, arch: str) -> bytes:
    """Return the kernels of a model as machine code for an architecture such as "sm_90".

    Raises:
        ToolError: NVRTC is not installed or fails; the message has its first error.
    """
    try:
        from cuda.bindings import nvrtc

        version = _check(nvrtc.nvrtcVersion())
    except (ImportError, RuntimeError) as error:
        raise ToolError(
            "cuda",
            f"NVRTC cannot be loaded: {reason(error)}",
            remedy="Run pip install 'lnm_codegen[cuda]', or use backend='triton'.",
        ) from None
    source = Cuda().emit(plan)
    read = ("_step.h", "_layout.h")
    needed = {n: t for n, t in source.files.items() if n == source.entry or n.endswith(read)}
    options = [*FLAGS, f"--gpu-architecture={arch}"]
    parts = [*(f"{n}\n{t}" for n, t in needed.items()), *options, str(version)]
    path = entry(plan.name, parts) / f"{plan.name}.{arch}.cubin"
    image = sound_bytes(path)
    if image is None:
        image = _compiled(needed, source.entry, options)
        with usable_cache("cuda"):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, image)
            write_digest(path)
    return image


def _compiled(files: dict[str, str], entry: str, options: list[str]) -> bytes:
    from cuda.bindings import nvrtc

    headers = {n: t for n, t in files.items() if n != entry}
    (program,) = _check(
        nvrtc.nvrtcCreateProgram(
            files[entry].encode(), entry.encode(), len(headers),
            [t.encode() for t in headers.values()], [n.encode() for n in headers],
        )
    )  # fmt: skip
    (error,) = nvrtc.nvrtcCompileProgram(program, len(options), [o.encode() for o in options])
    if int(error) != 0:
        (size,) = _check(nvrtc.nvrtcGetProgramLogSize(program))
        log = bytes(size)
        _check(nvrtc.nvrtcGetProgramLog(program, log))
        lines = [x for x in log.decode().splitlines() if "error" in x] or [error.name]
        raise ToolError("cuda", f"NVRTC failed: {lines[0]} (options: {' '.join(options)})")
    (size,) = _check(nvrtc.nvrtcGetCUBINSize(program))
    image = bytes(size)
    _check(nvrtc.nvrtcGetCUBIN(program, image))
    return image


@cache
def load_cuda(plan: Plan) -> CudaKernels:
    """Return the CUDA kernels of a model; they are compiled at the first call on a GPU."""
    return CudaKernels(plan)
