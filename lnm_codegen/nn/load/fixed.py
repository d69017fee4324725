"""The integer C model of a neuron as a library of the user's cache, called through ctypes."""

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

from lnm_codegen.backends.integer_c.backend import FixedC
from lnm_codegen.backends.integer_c.fields import WORDS, run_fields
from lnm_codegen.backends.integer_c.model import FixedModel
from lnm_codegen.backends.verilog.rtl import Rtl
from lnm_codegen.ir.fixed import nodes as fx
from lnm_codegen.nn.load.c import built, loading


class Rows(NamedTuple):
    """A coefficient of the C model: neuron n has values[n // inner % len(values)], int32."""

    values: Tensor
    inner: int


Argument: TypeAlias = Tensor | Rows | int | None

_RUNS = {torch.int32: "", torch.float32: "_float", torch.float64: "_double"}


class FixedLibrary:
    """The runs of a model in a loaded library, one for each type of sequences."""

    def __init__(self, kernel: fx.Kernel, name: str, path: Path) -> None:
        self.path = path
        self._fields = run_fields(kernel)
        words = {"coefficient": 3, "number": 1, "stride": 1}
        count = len(WORDS) + sum(words[f.kind] for f in self._fields)
        self._words = struct.Struct(f"{count}q")
        loaded = ctypes.CDLL(str(path))
        self._runs = {
            dtype: getattr(loaded, f"{name}_model_run{suffix}") for dtype, suffix in _RUNS.items()
        }
        for run in self._runs.values():
            run.argtypes, run.restype = [ctypes.c_void_p], None

    def run(
        self,
        time_steps: int,
        neurons: int,
        arguments: Mapping[str, Argument],
        dtype: torch.dtype,
    ) -> None:
        """Run T steps of N neurons.

        Args:
            time_steps: T.
            neurons: N.
            arguments: The fields of `run_fields` by name; those left out are null.
            dtype: Of sequences and states: int32, float32 or float64.
        """
        words = chain.from_iterable(_words(arguments.get(f.name)) for f in self._fields)
        self._runs[dtype](self._words.pack(time_steps, neurons, torch.get_num_threads(), *words))


def _words(value: Argument) -> tuple[int, ...]:
    match value:
        case None:
            return (0,)
        case Rows(values, inner):
            return values.data_ptr(), len(values), inner
        case Tensor():
            return (value.data_ptr(),)
        case _:
            return (value,)


@cache
def load_fixed(program: fx.Program) -> FixedLibrary:
    """Build (or find in the cache) and load the integer C model of a program.

    Raises:
        ToolError: No compiler, or it failed; the message has its first error.
    """
    name = program.name
    model = FixedModel(name, name, program, (), (), (), Rtl())
    values = f"{name}_model_coefficients.h"
    path = built(f"{name}_model", FixedC().emit(model), beside=values)
    with loading(path):
        return FixedLibrary(program.kernel, name, path)
