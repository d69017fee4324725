"""Selection of the backend of a call, and dispatch to its kernels.

A backend named by the user is never replaced: if it cannot run, the call raises ToolError.
"auto" selects "c" on a CPU and "triton" on a GPU. If the compiler or Triton is missing, "auto"
selects eager PyTorch and warns once.
"""

from __future__ import annotations

import importlib.util
import os
import warnings
from typing import Final

import torch

from lnm_codegen.compiler.model import model_of
from lnm_codegen.errors import InternalError, ToolError
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.nn.arguments import TYPES
from lnm_codegen.nn.function import Kernels
from lnm_codegen.nn.load.c import compiler, load_c

FUSED: Final = ("c", "triton", "cuda")
"""Backends of generated kernels."""

BACKENDS: Final = ("auto", *FUSED, "torch")
"""Backends that a layer accepts."""

_AUTO: Final = {"cpu": "c", "cuda": "triton"}


def device_mismatch(backend: str, device: str) -> str:
    """Return why a backend does not run on a type of device; empty if it does."""
    if backend == "torch" or device == ("cpu" if backend == "c" else "cuda"):
        return ""
    if backend == "triton" and interpreting():
        return ""
    place = {"c": "the CPU", "triton": "a GPU", "cuda": "an NVIDIA GPU"}[backend]
    return f"runs on {place}; the input is on {device}"


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
        case "cuda" if torch.version.hip is not None:
            problem, remedy = "this PyTorch is built for AMD GPUs", "Use backend='triton'."
        case "cuda" if importlib.util.find_spec("cuda") is None:
            problem = "cuda-bindings is not installed"
            remedy = "Install lnm_codegen[cuda], or use backend='triton'."
    return ToolError(backend, problem, remedy=remedy) if problem else None


def interpreting() -> bool:
    """Report whether Triton runs its kernels in Python, on any tensor."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def select(neuron: str, backend: str, device: str) -> str:
    """Return the backend that runs a call on a type of device.

    Raises:
        ToolError: The named backend cannot run.
    """
    is_auto = backend == "auto"
    if is_auto:
        backend = _AUTO.get(device, "torch")
    elif problem := device_mismatch(backend, device):
        remedy = "Use backend='torch', or move the input."
        raise ToolError(neuron, f"backend {backend!r} {problem}", remedy=remedy)
    error = missing(backend)
    if error is None:
        return backend
    if not is_auto:
        raise error
    _warn_once(f"{error} Eager PyTorch runs instead.")
    return "torch"


_WARNED: set[str] = set()


def _warn_once(message: str) -> None:
    if message not in _WARNED:
        _WARNED.add(message)
        warnings.warn(message, RuntimeWarning, stacklevel=6)


def kernels_of(neuron: Neuron, backend: str, dtype: torch.dtype) -> Kernels:
    """Return the kernels of a neuron for a type of sequences; the first call compiles them."""
    model = model_of(neuron, dtype=TYPES[dtype])
    match backend:
        case "triton":
            from lnm_codegen.nn.load.triton import load_triton

            return load_triton(model)
        case "cuda":
            from lnm_codegen.nn.load.cuda import load_cuda

            return load_cuda(model)
        case "c":
            return load_c(model)
        case _:
            raise InternalError("NeuronLayer", f"no kernels for backend {backend!r}")
