"""Kernels of recurrent layers: C++ in a library of the cache, or a Triton module."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from torch import Tensor

from lnm_codegen.backends.c import recurrent as c_source
from lnm_codegen.backends.plan import Field
from lnm_codegen.backends.recurrent import RecurrentPlan
from lnm_codegen.nn.function import addresses
from lnm_codegen.nn.load.c import built, kernel_error, load_library

Words: TypeAlias = Mapping[str, Tensor | int | None]
"""Field -> its tensor or number; a field that is missing is null."""


class RecurrentCKernels:
    """Forward and backward of a recurrent layer in a loaded library."""

    def __init__(self, model: RecurrentPlan, library: Path) -> None:
        self.model = model
        loaded, name = load_library(library), model.plan.name
        self._forward = _function(loaded, f"{name}_recurrent_forward", model.forward_fields)
        self._backward = _function(loaded, f"{name}_recurrent_backward", model.backward_fields)
        self._outer = _function(loaded, f"{name}_recurrent_outer", c_source.OUTER_FIELDS)

    def forward(self, words: Words) -> None:
        """Run the forward on fields by name."""
        self._forward(words)

    def backward(self, words: Words) -> None:
        """Run the backward on fields by name."""
        self._backward(words)

    def outer(self, words: Words) -> None:
        """Add a sum of outer products, for a sparse factor."""
        self._outer(words)


class RecurrentKernels(Protocol):
    """Forward and backward of a recurrent layer."""

    model: RecurrentPlan

    def forward(self, words: Words) -> None:
        """Run the forward on fields by name."""

    def backward(self, words: Words) -> None:
        """Run the backward on fields by name."""


def _function(loaded: ctypes.CDLL, name: str, fields: tuple[Field, ...]) -> Any:
    function = getattr(loaded, name)
    function.argtypes, function.restype = [ctypes.c_void_p], ctypes.c_int
    pack = struct.Struct(f"{len(fields)}q").pack
    names = tuple(f.name for f in fields)

    def call(words: Words) -> None:
        if problem := function(pack(*addresses([words.get(n) for n in names]))):
            raise kernel_error(problem)

    return call


@cache
def load_recurrent(
    backend: str, model: RecurrentPlan, *, folder: Path | None = None
) -> RecurrentKernels:
    """Build (or find in the cache folder, or another `folder`) and load the kernels of a layer.

    Raises:
        ToolError: There is no compiler, or it fails, or the folder cannot be used.
    """
    if backend == "triton":
        from lnm_codegen.nn.load.triton import RecurrentTritonKernels

        return RecurrentTritonKernels(model, folder)
    source = c_source.emit(model)
    library = built(f"{model.plan.name}_recurrent", source, beside="", folder=folder)
    return RecurrentCKernels(model, library)
