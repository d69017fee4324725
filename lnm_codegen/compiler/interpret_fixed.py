"""`lnm.interpret_fixed`: a neuron on a sequence in fixed point, in NumPy integers.

It is the reference of the integer C model and of the Verilog.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from lnm_codegen.compiler.arguments import extent_of, inputs_of, parameters_of, start_of
from lnm_codegen.compiler.fixed import bits_of, integers, prepared_integers, program_of
from lnm_codegen.compiler.interpret import broadcast_to_neurons, run_steps
from lnm_codegen.ir.declarations import Extent
from lnm_codegen.ir.fixed import nodes as fx
from lnm_codegen.ir.fixed.interpret import Array, run
from lnm_codegen.ir.nodes import Role
from lnm_codegen.ir.types import Bits, Fixed, FixedSpec
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.options import SchemeName


@dataclass(frozen=True)
class FixedResult:
    """Result of `interpret_fixed`, as integers; `value` converts them to numbers.

    Attributes:
        program: The fixed-point program.
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
        """Return an output as float64 numbers, or the final value of a state.

        Where both have the name, it is the output.
        """
        kernel = self.program.kernel
        types = {p.var.name: p.var.type for p in kernel.inputs}
        results = (p.var.type for p in kernel.results if p.role is Role.OUTPUT)
        types |= dict(zip(self.outputs, results, strict=True))
        array, bits = (self.states | self.outputs)[name], types[name]
        return array / 2.0**bits.frac if isinstance(bits, Bits) else array.astype(np.float64)


def interpret_fixed(
    neuron: Neuron,
    *x_seq: Any,
    spec: Fixed | FixedSpec,
    state: Mapping[str, Any] | None = None,
    scheme: SchemeName = "horner",
    **params: Any,
) -> FixedResult:
    """Run a neuron over a sequence in fixed point.

    Args:
        neuron: The definition.
        x_seq: One array per input, of shapes as for `lnm.interpret`, in real numbers; each is
            rounded to the nearest number of its format, ties up, and saturated; NaN becomes 0.
        spec: A `Fixed`, or a `FixedSpec`.
        state: Initial values by state name, in real numbers, rounded likewise.
        scheme: "horner" or "estrin".
        **params: As for `lnm.interpret`; the prepared parameters are rounded once.

    Raises:
        ModelError: As for `quantize`; a parameter that does not fit its format.
        ShapeError: Arrays that are not of real numbers, or do not fit together.
    """
    program = program_of(neuron, spec, scheme)
    kind = np.dtype(np.float64)
    inputs = inputs_of(neuron, x_seq, kind)
    shape = next(iter(inputs.values())).shape
    extent = extent_of(neuron.params, shape)
    raw = parameters_of(neuron, params, extent, kind)
    table = prepared_integers(program, raw)
    start = start_of(neuron, state, shape[1:], kind, raw, extent)
    now = {n: integers(v, bits_of(program, n)) for n, v in start.items()}
    sequences = {n: integers(x, bits_of(program, n)) for n, x in inputs.items()}
    result = run_sequence(program, sequences, table, now, extent)
    names = (name for name, _ in neuron.output)
    return replace(result, outputs=dict(zip(names, result.outputs.values(), strict=True)))


def run_sequence(
    program: fx.Program,
    sequences: Mapping[str, Array],
    parameters: Mapping[str, Array],
    start: Mapping[str, Array],
    extent: Extent,
) -> FixedResult:
    """Run a program over a sequence of integers.

    `sequences` are the inputs (T, N, *), `parameters` those of `prepared_integers`, `start` the
    states (N, *).
    """
    outputs, trajectory, final, _ = run_steps(
        program.kernel,
        lambda values: run(program.kernel, values),
        lambda type_: np.int64 if isinstance(type_, Bits) else np.bool_,
        dict(sequences),
        broadcast_to_neurons(parameters, extent),
        dict(start),
    )
    return FixedResult(program, outputs, final, trajectory)
