"""Checks of generated Triton modules in Triton's interpreter, which owns a process.

Run as a script with names of checks, `name` or `name:argument`; prints one JSON line for each, its
traceback or null.
"""

from __future__ import annotations

import os

os.environ["TRITON_INTERPRET"] = "1"  # before Triton is imported

import json
import sys
import traceback
from collections.abc import Callable
from typing import Any

import numpy as np
from triton.runtime import interpreter

from tests.backends.triton import checks as triton_checks
from tests.backends.triton.runs import build, run
from tests.cases import arguments
from tests.test_agree import neuron_of


def _splat_conditions() -> None:
    """Mend the interpreter, which spreads a condition on numbers over a block as a float.

    Compiled, `(w > 0.25) & (v < 0.5)` with a number w and a block v is a block of conditions.
    """
    plain = interpreter.InterpreterBuilder.create_splat

    def create_splat(self, ret_ty, arg):
        if arg.data.dtype == np.bool_:
            return interpreter.TensorHandle(np.full(ret_ty.shape, arg.data), arg.dtype.scalar)
        return plain(self, ret_ty, arg)

    interpreter.InterpreterBuilder.create_splat = create_splat


_splat_conditions()


def traffic() -> None:
    """Bytes that the kernels themselves load and store per neuron and step, counted as they run."""
    assert bytes_per_step("lif", "float32") == 20
    assert bytes_per_step("lif", "bfloat16") == 10


def bytes_per_step(case: str, dtype: str, fewer: int = 4, more: int = 16) -> float:
    """Return what one more step moves per neuron: loads and stores of active lanes."""
    moved = []
    builder = interpreter.interpreter_builder
    neuron, store, load = neuron_of(case), builder.create_masked_store, builder.create_masked_load

    def counted(call: Callable[..., Any], mask_at: int) -> Callable[..., Any]:
        def wrapped(*given: Any) -> Any:
            size = given[0].get_element_ty().primitive_bitwidth // 8
            moved.append(
                size * int(np.sum(np.broadcast_to(given[mask_at].data, given[0].data.shape)))
            )
            return call(*given)

        return wrapped

    builder.create_masked_load = counted(load, 1)
    builder.create_masked_store = counted(store, 2)
    try:
        totals = []
        for steps in (fewer, more):
            a = arguments(neuron, np.random.default_rng(0), (steps, 2, 3, 16))
            moved.clear()
            run(build(neuron, dtype), a)
            totals.append(sum(moved))
    finally:
        builder.create_masked_load, builder.create_masked_store = load, store
    return (totals[1] - totals[0]) / ((more - fewer) * 96)


if __name__ == "__main__":
    for word in sys.argv[1:]:
        name, *given = word.split(":")
        try:
            {**vars(triton_checks), **globals()}[name](*given)
        except Exception:
            print(json.dumps([word, traceback.format_exc()]), flush=True)
        else:
            print(json.dumps([word, None]), flush=True)
