"""Selection of the backend of a call, and dispatch to its kernels.

A backend named by the user is never replaced: if it cannot run, the call raises ToolError.
"auto" selects "c" on a CPU and "triton" on a GPU. It selects eager PyTorch and warns once where
Triton is missing or cannot use the GPU, or where no library can be found, compiled or loaded.
"""

from __future__ import annotations

import importlib.util
import os
from functools import cache
from subprocess import SubprocessError
from typing import Final, NamedTuple, cast, get_args

import torch

from lnm_codegen.compiler.emit import plan_of
from lnm_codegen.errors import InternalError, ToolError, reason
from lnm_codegen.ir.fixed import nodes as fx
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.nn.arguments import TYPES
from lnm_codegen.nn.function import Kernels
from lnm_codegen.nn.load.c import compiler, is_built, is_fixed_built, load_c
from lnm_codegen.nn.load.cache import anywhere
from lnm_codegen.nn.load.warn import warn_once
from lnm_codegen.options import BackendName


class _Device(NamedTuple):
    type: str  # of a tensor
    name: str  # in messages


DEVICES: Final = {
    "c": _Device("cpu", "the CPU"),
    "triton": _Device("cuda", "a GPU"),
    "cuda": _Device("cuda", "an NVIDIA GPU"),
}
"""Backend of generated kernels -> device. "auto" selects the first backend of a type."""

FUSED: Final = cast("tuple[BackendName, ...]", tuple(DEVICES))
"""Backends of generated kernels."""

BACKENDS: Final[tuple[BackendName, ...]] = get_args(BackendName)
"""Backends that a layer accepts."""


def device_type(backend: str) -> str:
    """Return the type of device of a backend; eager PyTorch counts as "cpu"."""
    return DEVICES[backend].type if backend in DEVICES else "cpu"


def device_mismatch(backend: str, device: str) -> str:
    """Return why a backend does not run on a type of device; empty if it does."""
    if backend == "torch" or device == DEVICES[backend].type:
        return ""
    if backend == "triton" and interpreting():
        return ""
    return f"runs on {DEVICES[backend].name}; the input is on {device}"


def missing(backend: str) -> ToolError | None:
    """Return a ToolError if a tool of the backend is missing, else None."""
    problem, remedy = "", ""
    match backend:
        case "c":
            try:
                compiler()
            except ToolError as error:
                return error
        case "triton" if importlib.util.find_spec("triton") is None:
            problem = "Triton is not installed"
            remedy = "Install the package triton, or use backend='torch'."
        case "triton" if problem := _triton_problem():
            remedy = "Install a C compiler and the headers of Python, or set TRITON_CACHE_DIR to "
            remedy += "another folder, or use backend='torch'."
        case "cuda" if torch.version.hip is not None:
            problem, remedy = "this PyTorch is built for AMD GPUs", "Use backend='triton'."
        case "cuda" if not _has_bindings():
            problem = "cuda-bindings is not installed"
            remedy = "Run pip install 'lnm_codegen[cuda]', or use backend='triton'."
    return ToolError(backend, problem, remedy=remedy) if problem else None


def _has_bindings() -> bool:
    """Report whether cuda-bindings is installed; other packages share the namespace `cuda`."""
    try:
        return importlib.util.find_spec("cuda.bindings") is not None
    except ModuleNotFoundError:  # no package has the namespace
        return False


@cache
def _triton_problem() -> str:
    """Return why Triton cannot use the GPU; empty if it can, or without a GPU.

    Triton compiles a C module before its first launch.
    """
    if interpreting() or not torch.cuda.is_available():
        return ""
    from triton.runtime import driver

    try:
        driver.active.get_current_device()
    except (RuntimeError, OSError, AssertionError, ImportError, SubprocessError) as error:
        return f"Triton cannot use the GPU: {reason(error)}"
    return ""


def interpreting() -> bool:
    """Report whether Triton runs its kernels in Python, on any tensor."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def select(
    neuron: Neuron,
    backend: str,
    device: str,
    dtype: torch.dtype | None = None,
    program: fx.Program | None = None,
) -> str:
    """Return the backend that runs a call on a type of device.

    With the `dtype` of the sequences, or the integer `program` of the neuron, "c" needs no compiler
    if the cache has its library.

    Raises:
        ToolError: The named backend cannot run.
    """
    is_auto = backend == "auto"
    if is_auto:
        backend = next((name for name, one in DEVICES.items() if one.type == device), "torch")
    elif problem := device_mismatch(backend, device):
        remedy = "Use backend='torch', or move the input."
        raise ToolError(neuron.name, f"backend {backend!r} {problem}", remedy=remedy)
    error = missing(backend)
    if error is None:
        return backend
    if backend == "c" and program is not None and is_fixed_built(program):
        return backend
    if backend == "c" and dtype is not None and is_built(plan_of(neuron, dtype=TYPES[dtype])):
        return backend
    if not is_auto:
        raise error
    return replaced(error)


def replaced(error: ToolError) -> str:
    """Return "torch", which "auto" selects after an error of another backend, and warn of it."""
    warn_once(f"{error} Eager PyTorch runs instead.", error.problem)
    return "torch"


def kernels_of(neuron: Neuron, backend: str, dtype: torch.dtype, is_auto: bool = False) -> Kernels:
    """Return the kernels of a neuron for a type of sequences; the first call compiles them.

    With `is_auto`, they are compiled in a private folder where the cache folder cannot be used.

    Raises:
        ToolError: They cannot be compiled, written or loaded.
    """
    model = plan_of(neuron, dtype=TYPES[dtype])
    match backend:
        case "triton":
            from lnm_codegen.nn.load.triton import load_triton

            return anywhere(load_triton, model) if is_auto else load_triton(model)
        case "cuda":
            from lnm_codegen.nn.load.cuda import load_cuda

            return load_cuda(model)
        case "c":
            return anywhere(load_c, model) if is_auto else load_c(model)
        case _:
            raise InternalError("NeuronLayer", f"no kernels for backend {backend!r}")
