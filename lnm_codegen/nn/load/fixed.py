"""Integer C models: compiled to a shared library in the cache, called through ctypes."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Mapping
from functools import cache
from itertools import chain
from pathlib import Path
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from lnm_codegen.backends.arguments import ABI
from lnm_codegen.backends.fixed import FixedModel
from lnm_codegen.backends.integer_c.backend import WORDS, FixedC, run_fields
from lnm_codegen.backends.rtl import Rtl
from lnm_codegen.errors import InternalError, ToolError
from lnm_codegen.ir.fixed import nodes as fx
from lnm_codegen.nn.function import addresses
from lnm_codegen.nn.load.c import built, load_library


class CoefficientArgument(NamedTuple):
    """Coefficient of the C model: neuron n has values[n // inner % len(values)], int32."""

    values: Tensor
    inner: int


Argument: TypeAlias = Tensor | CoefficientArgument | int | None

_RUNS = {torch.int32: "", torch.float32: "_float", torch.float64: "_double"}


class FixedLibrary:
    """Functions of a model in a loaded library, one for each type of sequences."""

    def __init__(self, kernel: fx.Kernel, name: str, path: Path) -> None:
        self.path = path
        self._fields = run_fields(kernel)
        words = {"coefficient": 3, "number": 1, "stride": 1}
        count = len(WORDS) + sum(words[f.kind] for f in self._fields)
        self._words = struct.Struct(f"{count}q")
        loaded = load_library(path)
        self._runs = {
            dtype: getattr(loaded, f"{name}_model_run{suffix}") for dtype, suffix in _RUNS.items()
        }
        for run in self._runs.values():
            run.argtypes, run.restype = [ctypes.c_void_p], ctypes.c_int

    def run(
        self, time_steps: int, neurons: int, arguments: Mapping[str, Argument], dtype: torch.dtype
    ) -> None:
        """Run T steps of N neurons on fields of `run_fields` by name; missing ones are null.

        Sequences and states are of type `dtype`: int32, float32 or float64.
        """
        values = (arguments.get(f.name) for f in self._fields)
        words = chain.from_iterable(
            (v.values, len(v.values), v.inner) if isinstance(v, CoefficientArgument) else (v,)
            for v in values
        )
        head = self._words.size, ABI, time_steps, neurons, torch.get_num_threads()
        if problem := self._runs[dtype](self._words.pack(*head, *addresses(list(words)))):
            raise InternalError("c", f"the integer model refuses its arguments: error {problem}")


@cache
def load_fixed(program: fx.Program, folder: Path | None = None) -> FixedLibrary:
    """Build (or find in the cache folder, or another `folder`) and load a program's C model.

    Raises:
        ToolError: There is no compiler, or it fails, or the folder cannot be used.
    """
    name = program.name
    model = FixedModel(name, name, program, (), (), (), Rtl())
    values = f"{name}_model_coefficients.h"
    path = built(f"{name}_model", FixedC().emit(model), beside=values, folder=folder)
    return FixedLibrary(program.kernel, name, path)


def is_fixed_built(program: fx.Program) -> bool:
    """Report whether the cache has a library of a program. Call it where no compiler is."""
    try:
        load_fixed(program)
    except ToolError:
        return False
    return True
