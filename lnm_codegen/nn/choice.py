"""Which backend runs a call, and why not another.

A backend named by the user is never switched: where it cannot run, the call says why. "auto" takes
"c" on a CPU and "triton" on a GPU, and eager PyTorch, with one warning, where those lack a tool.
"""

from __future__ import annotations

import importlib.util
import os
import warnings
from typing import Final

import torch

from lnm_codegen.compiler.pipeline import model_of
from lnm_codegen.errors import ToolError
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.nn.arguments import TYPES
from lnm_codegen.nn.function import Kernels
from lnm_codegen.nn.load.c import compiler, load_c

FUSED: Final = ("c", "triton", "cuda")
"""Backends of generated kernels."""

BACKENDS: Final = ("auto", *FUSED, "torch")
"""What a layer accepts."""

_AUTO: Final = {"cpu": "c", "cuda": "triton"}


def misplaced(backend: str, device: str) -> str | None:
    """Return why a backend does not run on a type of device, and what to do; None if it does."""
    if backend == "torch" or device == ("cpu" if backend == "c" else "cuda"):
        return None
    if backend == "triton" and interpreting():
        return None
    where = {"c": "the CPU", "triton": "a GPU", "cuda": "an NVIDIA GPU"}[backend]
    return f"runs on {where}; the input is on {device}. Use backend='torch', or move the input."


def missing(backend: str) -> str | None:
    """Return what this machine lacks for a backend, and what to do; None if nothing."""
    match backend:
        case "c":
            try:
                compiler()
            except ToolError as error:
                return str(error).removeprefix("c: ")
        case "triton" if importlib.util.find_spec("triton") is None:
            return "Triton is not installed. Install the package triton, or use backend='torch'."
        case "cuda" if torch.version.hip is not None:
            return "this PyTorch is built for AMD GPUs. Use backend='triton'."
        case "cuda" if importlib.util.find_spec("cuda") is None:
            return "cuda-bindings is not installed. Install lnm_codegen[cuda], or use 'triton'."
    return None


def interpreting() -> bool:
    """Say whether Triton runs its kernels in Python, on any tensor."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def choose(neuron: str, backend: str, device: str) -> str:
    """Return the backend that runs.

    Raises:
        ToolError: The backend that was named cannot.
    """
    if backend == "auto":
        backend = _AUTO.get(device, "torch")
        lack = missing(backend)
        if lack is None:
            return backend
        _warn_once(f"{backend}: {lack} Running eager PyTorch instead.")
        return "torch"
    place, lack = misplaced(backend, device), missing(backend)
    if place is not None:
        raise ToolError(f"{neuron}: backend {backend!r} {place}")
    if lack is not None:
        raise ToolError(f"{backend}: {lack}")
    return backend


_WARNED: set[str] = set()


def _warn_once(message: str) -> None:
    if message not in _WARNED:
        _WARNED.add(message)
        warnings.warn(message, RuntimeWarning, stacklevel=6)


def kernels_of(neuron: Neuron, backend: str, dtype: torch.dtype) -> Kernels:
    """Return the kernels of a neuron for a type of sequences, built and loaded if need be."""
    model = model_of(neuron, dtype=TYPES[dtype])
    match backend:
        case "triton":
            from lnm_codegen.nn.load.triton import load_triton

            return load_triton(model)
        case "cuda":
            from lnm_codegen.nn.load.cuda import load_cuda

            return load_cuda(model)
        case _:
            return load_c(model)
