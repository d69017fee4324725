"""Fixed point: `lnm.quantize`, `lnm.interpret_fixed`, and the neurons of a network in integers.

The interpreter is the reference of the integer C model and of the Verilog.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from lnm_codegen.compiler.arguments import extent_of, inputs_of, parameters_of, start_of
from lnm_codegen.compiler.interpret import broadcast_to_neurons, run_steps
from lnm_codegen.compiler.lost import Lost, Runs, lost_error, lost_numbers, needed
from lnm_codegen.compiler.pipeline import lower
from lnm_codegen.errors import ModelError
from lnm_codegen.ir import interpret as real
from lnm_codegen.ir.declarations import Extent
from lnm_codegen.ir.fixed import nodes as fx
from lnm_codegen.ir.fixed.interpret import Array, run
from lnm_codegen.ir.fixed.quantize import quantize as quantized
from lnm_codegen.ir.network.nodes import NeuronStage, Shape, size_of
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
        extent = Extent(1, channels_of(neuron, {p.name: p.init for p in neuron.params}), 1)
        raw = parameters_of(neuron, {}, extent, np.dtype(np.float64))
        require_needed(neuron, program, raw, extent)
    return program


def program_of(
    neuron: Neuron, spec: Fixed | FixedSpec, scheme: SchemeName = "horner"
) -> fx.Program:
    """Return what `quantize` does, for any values of the parameters."""
    require_neuron("quantize", neuron)
    return quantized(lower(neuron, scheme), spec_of(spec, "quantize"))


def needed_numbers(
    neuron: Neuron,
    program: fx.Program,
    raw: Mapping[str, Array],
    extent: Extent,
    inputs: Mapping[str, Array] | None = None,
    *,
    resolved: bool = True,
) -> tuple[list[Lost], float]:
    """Return the numbers that a neuron needs and that round to 0, and their effect (`lost.py`).

    Args:
        neuron: The definition.
        program: Its step in fixed point.
        raw: Declared parameter elements of `parameters_of`.
        extent: Its extent, of one sample.
        inputs: Input -> real numbers (T, N, neurons) of the comparison; drawn by default.
        resolved: An effect below the resolution of the formats does not count.
    """
    reals = prepared_values(program, raw)
    names = program.kernel.input_names(Role.PARAM)
    own = {name: integers(reals[name], bits_of(program, name)) for name in names}
    if not lost_numbers(program, own, reals):
        return [], 0.0
    kind = np.dtype(np.float64)
    start = start_of(neuron, None, (extent.neurons,), kind, raw, extent)
    return needed(program, own, reals, Runs(inputs, start, resolved))


def require_needed(
    neuron: Neuron,
    program: fx.Program,
    raw: Mapping[str, Array],
    extent: Extent,
    inputs: Mapping[str, Array] | None = None,
) -> None:
    """Raise ModelError where a number that the neuron needs rounds to 0; see `needed_numbers`."""
    found, difference = needed_numbers(neuron, program, raw, extent, inputs)
    if found:
        raise lost_error(program.name, found, difference)


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


def bits_of(program: fx.Program, name: str) -> Bits:
    """Return the format of an input port of the kernel."""
    found = next(p.var.type for p in program.kernel.inputs if p.var.name == name)
    assert isinstance(found, Bits)
    return found


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
            bits_of(program, name),
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
    return real.run(program.prepare, raw, np.float64)


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
        return _stage(name, neuron, spec, shape, values or {})
    except ModelError as error:
        raise error.within(name) from None


def _stage(
    name: str,
    neuron: Neuron,
    spec: Fixed | FixedSpec,
    shape: Shape,
    values: Mapping[str, Any],
) -> NeuronStage:
    program, kind = program_of(neuron, spec), np.dtype(np.float64)
    extent = Extent(1, shape[0], size_of(shape[1:]))
    raw = parameters_of(neuron, values, extent, kind)
    start = start_of(neuron, None, shape, kind, raw, extent)

    def initial(state: str, array: Array) -> Array:
        word = f"the initial value of state {state!r}"
        return _fewest(rounded(neuron.name, word, array, bits_of(program, state)), shape)

    return NeuronStage(
        name,
        program,
        tuple((n, _fewest(a, shape)) for n, a in prepared_integers(program, raw).items()),
        tuple((n, initial(n, a)) for n, a in start.items()),
    )


def _fewest(array: Array, shape: Shape) -> Array:
    """Return the fewest numbers that give each neuron its own: one, one a channel, or all."""
    flat = array.reshape(-1)
    if np.all(flat == flat[0]):
        return flat[:1]
    rows = flat.reshape(shape[0], -1)
    return rows[:, 0] if np.all(rows == rows[:, :1]) else flat
