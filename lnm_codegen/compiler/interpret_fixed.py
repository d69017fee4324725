"""`lnm.interpret_fixed`: what a neuron computes in fixed point.

The reference of the C model and of the Verilog: the Program's kernel in NumPy integers, step by
step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lnm_codegen.compiler.arguments import extent_of, inputs_of, parameters_of, start_of
from lnm_codegen.compiler.fixed import integers, prepared_integers, quantize
from lnm_codegen.ir.fixed import nodes as fx
from lnm_codegen.ir.fixed.interpret import Array, run
from lnm_codegen.ir.fixed.spec import FixedSpec
from lnm_codegen.ir.granularity import Extent
from lnm_codegen.ir.nodes import Role
from lnm_codegen.ir.types import Bits, Fixed
from lnm_codegen.language.neuron import Neuron


@dataclass(frozen=True)
class FixedResult:
    """What `interpret_fixed` returns, as integers; `value` turns them into numbers.

    Attributes:
        program: What ran.
        outputs: Output name -> integers (T, N, *), or booleans for a spike.
        states: State name -> its integers after the last step, (N, *).
        trajectory: State name -> its integers before each step, (T, N, *).
    """

    program: fx.Program
    outputs: dict[str, Array]
    states: dict[str, Array]
    trajectory: dict[str, Array] = field(repr=False)

    @property
    def out(self) -> Array:
        """The first output, as numbers."""
        return self.value(next(iter(self.outputs)))

    def value(self, name: str) -> Array:
        """Return an output or the final value of a state as float64 numbers."""
        kernel = self.program.kernel
        types = {p.var.name: p.var.type for p in (*kernel.results, *kernel.inputs)}
        array = (self.outputs | self.states)[name]
        kind = types[name]
        return array / 2.0**kind.frac if isinstance(kind, Bits) else array.astype(np.float64)


def interpret_fixed(
    neuron: Neuron,
    *x_seq: Any,
    spec: Fixed | FixedSpec,
    state: Mapping[str, Any] | None = None,
    scheme: str = "horner",
    **params: Any,
) -> FixedResult:
    """Run a neuron over a sequence in fixed point.

    Args:
        neuron: The definition.
        x_seq: One array (T, N, *) per input, in real numbers; each is rounded to the nearest number
            of its format, ties up, and saturated; NaN becomes 0.
        spec: A `Fixed`, or a `FixedSpec`.
        state: Initial values by state name, in real numbers, rounded likewise.
        scheme: "horner" or "estrin".
        **params: As for `lnm.interpret`; what `prepare` makes of them is rounded once.

    Raises:
        ModelError: A parameter that does not fit its format; and as for `quantize`.
        ShapeError: Arrays that are not of real numbers, or do not fit together.
    """
    program = quantize(neuron, spec, scheme)
    kind = np.dtype(np.float64)
    inputs = inputs_of(neuron, x_seq, kind)
    shape = next(iter(inputs.values())).shape
    extent = extent_of(neuron.params, shape)
    raw = parameters_of(neuron, params, extent, kind)
    table = prepared_integers(program, raw)
    types = {p.var.name: p.var.type for p in program.kernel.inputs}
    bits = {name: kind for name, kind in types.items() if isinstance(kind, Bits)}
    start = start_of(neuron, state, shape[1:], kind)
    now = {n: integers(v, bits[n]) for n, v in start.items()}
    sequences = {n: integers(x, bits[n]) for n, x in inputs.items()}
    return run_sequence(program, sequences, table, now, extent)


def run_sequence(
    program: fx.Program,
    sequences: Mapping[str, Array],
    parameters: Mapping[str, Array],
    start: Mapping[str, Array],
    extent: Extent,
) -> FixedResult:
    """Run a program over a sequence of integers.

    Args:
        program: What `quantize` made.
        sequences: Input -> (T, N, *), one input at least.
        parameters: What `prepared_integers` gave: (1, 1), (C, 1) or (C, I).
        start: State -> (N, *).
        extent: How the neurons of a step lie.
    """
    kernel = program.kernel
    shape = next(iter(sequences.values())).shape
    table = {name: _spread(value, extent) for name, value in parameters.items()}
    now = {name: value.reshape(-1) for name, value in start.items()}
    lanes = int(np.prod(shape[1:], dtype=int))
    outputs: dict[str, Array] = {
        v.name: np.zeros(shape, np.int64 if isinstance(v.type, Bits) else np.bool_)
        for v in kernel.result_vars(Role.OUTPUT)
    }
    trajectory = {n: np.zeros(shape, np.int64) for n in now}
    for t in range(shape[0]):
        for name, value in now.items():
            trajectory[name][t] = value.reshape(shape[1:])
        step = {n: a[t].reshape(-1) for n, a in sequences.items()}
        results = run(kernel, {**table, **now, **step})
        for name in outputs:
            outputs[name][t] = np.broadcast_to(results[name], (lanes,)).reshape(shape[1:])
        now = {n: np.broadcast_to(results[f"{n}_next"], (lanes,)) for n in now}
    final = {n: np.array(v).reshape(shape[1:]) for n, v in now.items()}
    return FixedResult(program, outputs, final, trajectory)


def _spread(value: Array, extent: Extent) -> Array:
    shape = (extent.batch, extent.channels, extent.inner)
    return np.asarray(np.broadcast_to(value, shape)).reshape(-1)
