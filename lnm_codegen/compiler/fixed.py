"""Fixed point: `lnm.quantize`, `lnm.interpret_fixed`, and the neurons of a network in integers.

The interpreter is the reference of the integer C model and of the Verilog.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from lnm_codegen.compiler.arguments import extent_of, inputs_of, parameters_of, start_of
from lnm_codegen.compiler.interpret import broadcast_to_neurons, run_steps
from lnm_codegen.compiler.lost import Lost, lost_error, lost_numbers, needed
from lnm_codegen.compiler.pipeline import lower
from lnm_codegen.errors import ModelError
from lnm_codegen.ir.declarations import Extent
from lnm_codegen.ir.fixed import nodes as fx
from lnm_codegen.ir.fixed.quantize import quantize as quantized
from lnm_codegen.ir.interpret import Array, run
from lnm_codegen.ir.network.nodes import NeuronStage, Shape
from lnm_codegen.ir.nodes import Role
from lnm_codegen.ir.passes.simplify import keep_results
from lnm_codegen.ir.types import Bits, Fixed, FixedSpec, spec_of
from lnm_codegen.language.family import require_neuron
from lnm_codegen.language.neuron import Neuron, require_one_port
from lnm_codegen.options import SchemeName


def quantize(neuron: Neuron, spec: Fixed | FixedSpec, scheme: SchemeName = "horner") -> fx.Program:
    """Lower a neuron's time step to fixed point.

    Args:
        neuron: The definition.
        spec: One format for every node, `lnm.Fixed(16, 12)`, or an `lnm.FixedSpec`.
        scheme: "horner" or "estrin".

    Raises:
        ModelError: No neuron, no spec, a constant that does not fit its format; a constant, or a
            coefficient of the declared parameters, that the neuron needs and that rounds to 0
            (`compiler/lost.py`).
        UnsupportedError: A function or a division in the step, which has no fixed-point form.
    """
    program = program_of(neuron, spec, scheme)
    declared = (*neuron.params, *(s.decl for s in neuron.states))
    if not any(callable(getattr(d, "init", None)) for d in declared):
        channels = channels_of(neuron, {p.name: p.init for p in neuron.params})
        fixed_neuron(neuron, program, {}, (channels,)).require_needed()
    return program


def program_of(
    neuron: Neuron, spec: Fixed | FixedSpec, scheme: SchemeName = "horner"
) -> fx.Program:
    """Return what `quantize` does, for any values of the parameters."""
    require_neuron("quantize", neuron)
    return quantized(lower(neuron, scheme), spec_of(spec, "quantize"))


@dataclass(frozen=True, eq=False)
class FixedNeuron:
    """A neuron in fixed point with the values of its parameters: the neurons of one sample.

    Attributes:
        neuron: The definition.
        program: Its step in integers.
        extent: The neurons.
        raw: Declared parameter elements of `parameters_of`.
    """

    neuron: Neuron
    program: fx.Program
    extent: Extent
    raw: Mapping[str, Array]

    @cached_property
    def reals(self) -> dict[str, Array]:
        """The coefficients before rounding, in float64: (1, 1), (C, 1) or (C, I)."""
        found = prepared_values(self.program, self.raw)
        return {name: found[name] for name in self.program.kernel.input_names(Role.PARAM)}

    @cached_property
    def start(self) -> dict[str, Array]:
        """The initial states in real numbers, (neurons,)."""
        kind, shape = np.dtype(np.float64), (self.extent.neurons,)
        return start_of(self.neuron, None, shape, kind, self.raw, self.extent)

    def coefficients(self) -> dict[str, Array]:
        """Return `prepared_integers`; a number that does not fit its format is a ModelError."""
        return prepared_integers(self.program, self.raw)

    def initial(self) -> dict[str, Array]:
        """Return the initial states as integers; one that does not fit is a ModelError."""
        kernel, where = self.program.kernel, self.neuron.name
        return {
            name: rounded(where, f"the initial value of state {name!r}", array, kernel.bits(name))
            for name, array in self.start.items()
        }

    def needed(
        self, inputs: Mapping[str, Array] | None = None, *, resolved: bool = True
    ) -> tuple[list[Lost], float]:
        """Return the numbers that the neuron needs and that round to 0, and their effect.

        Args:
            inputs: Input -> real numbers (T, N, neurons) of the comparison of `lost.py`; drawn by
                default.
            resolved: An effect below the resolution of the formats does not count.
        """
        kernel = self.program.kernel
        own = {name: integers(array, kernel.bits(name)) for name, array in self.reals.items()}
        lost = lost_numbers(self.program, own, self.reals)
        if not lost:
            return [], 0.0
        return needed(kernel, lost, own, self.reals, self.start, inputs, resolved)

    def require_needed(self, inputs: Mapping[str, Array] | None = None) -> None:
        """Raise ModelError where a number that the neuron needs rounds to 0; see `needed`."""
        found, difference = self.needed(inputs)
        if found:
            raise lost_error(self.program.name, found, difference)


def fixed_neuron(
    neuron: Neuron, program: fx.Program, values: Mapping[str, Any], shape: Shape
) -> FixedNeuron:
    """Return a neuron with values of its parameters, for neurons (C, *) of one sample."""
    extent = Extent(1, shape[0], math.prod(shape[1:]))
    raw = parameters_of(neuron, values, extent, np.dtype(np.float64))
    return FixedNeuron(neuron, program, extent, raw)


def channels_of(neuron: Neuron, given: Mapping[str, Any]) -> int:
    """Return the number of channels of given values of parameters."""
    counts = [1]
    for param in neuron.params:
        if param.per == "channel" and param.name in given:
            shape = np.shape(given[param.name])
            counts += shape[: len(shape) - (param.size is not None)]
    return max(counts)


def integers(values: Any, bits: Bits) -> Array:
    """Return real numbers as integers of a format: the nearest, ties up, saturated; NaN is 0."""
    return np.clip(_nearest(values, bits), bits.low, bits.high).astype(np.int64)


def rounded(where: str, word: str, values: Any, bits: Bits) -> Array:
    """Return real numbers as integers of a format: the nearest, ties up.

    Raises:
        ModelError: A number that does not fit, or is not finite.
    """
    near = _nearest(values, bits)
    fits = (near >= bits.low) & (near <= bits.high) & np.isfinite(values)
    if not np.all(fits):
        worst = np.asarray(values)[~fits].flat[0]
        problem = f"{word} is {worst:g}, which does not fit {bits}"
        remedy = "Give more integer bits." if np.isfinite(worst) else ""
        raise ModelError(where, problem, bits.limits, remedy)
    return near.astype(np.int64)


def _nearest(values: Any, bits: Bits) -> Array:
    with np.errstate(over="ignore"):  # infinite values saturate
        scaled = np.nan_to_num(np.asarray(values, np.float64) * 2.0**bits.frac, nan=0.0)
    below = np.floor(scaled)
    return np.asarray(below + (scaled - below >= 0.5))


def prepared_integers(program: fx.Program, raw: Mapping[str, Any]) -> dict[str, Array]:
    """Return the prepared parameters of the kernel, each rounded once.

    `raw` are the declared parameter elements by name, numbers or arrays that broadcast.

    Raises:
        ModelError: A parameter that does not fit its format.
    """
    values = prepared_values(program, raw)
    return {
        name: rounded(
            program.name,
            f"parameter {_described(program, name)}",
            values[name],
            program.kernel.bits(name),
        )
        for name in program.kernel.input_names(Role.PARAM)
    }


def _described(program: fx.Program, name: str) -> str:
    """Return the name of a prepared parameter and of the declared ones that it depends on."""
    kept = keep_results(program.prepare, {name})
    if not kept.body:
        return repr(name)
    declared = {v.name for v in kept.reads}
    return f"{name!r}, made of {', '.join(n for n in kept.input_names(*Role) if n in declared)},"


def prepared_values(program: fx.Program, raw: Mapping[str, Any]) -> dict[str, Array]:
    """Return every prepared parameter in float64, before rounding."""
    return run(program.prepare, raw)


# `lnm.interpret_fixed`: a neuron on a sequence in fixed point, in NumPy integers.
#
# It is the reference of the integer C model and of the Verilog.


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
    bits = program.kernel.bits
    now = {n: integers(v, bits(n)) for n, v in start.items()}
    sequences = {n: integers(x, bits(n)) for n, x in inputs.items()}
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
    table = broadcast_to_neurons(parameters, extent)
    outputs, trajectory, final, _ = run_steps(program.kernel, dict(sequences), table, dict(start))
    return FixedResult(program, outputs, final, trajectory)


# Neurons of a network in integers, from a definition, formats and parameter values.


def neuron_stage(
    name: str,
    neuron: Neuron,
    spec: Fixed | FixedSpec,
    shape: Shape,
    values: Mapping[str, Any] | None = None,
) -> NeuronStage:
    """Return the neurons of a layer in integers.

    Args:
        name: Name of the layer.
        neuron: Its neuron, with one input and one output.
        spec: Formats.
        shape: (C, *) of the neurons of a time step.
        values: Parameters by name, as for `lnm.interpret`; the declared `init` otherwise.

    Raises:
        ModelError: A constant, a parameter or an initial state that does not fit its format; the
            place begins with the layer.
        UnsupportedError: The neuron has no fixed-point form.
    """
    require_one_port(name, neuron)
    try:
        own = fixed_neuron(neuron, program_of(neuron, spec), values or {}, shape)
        coefficients, initial = own.coefficients(), own.initial()
    except ModelError as error:
        raise error.within(name) from None
    pairs = (tuple((n, _fewest(a, shape)) for n, a in t.items()) for t in (coefficients, initial))
    return NeuronStage(name, own.program, *pairs)


def _fewest(array: Array, shape: Shape) -> Array:
    """Return the fewest numbers that give each neuron its own: one, one a channel, or all."""
    flat = array.reshape(-1)
    if np.all(flat == flat[0]):
        return flat[:1]
    rows = flat.reshape(shape[0], -1)
    return rows[:, 0] if np.all(rows == rows[:, :1]) else flat
