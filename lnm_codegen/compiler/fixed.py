"""Fixed point: `lnm.quantize`, and real numbers as integers of a format."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from lnm_codegen.compiler.arguments import parameters_of, start_of
from lnm_codegen.compiler.lost import Lost, Runs, lost_error, lost_numbers, needed
from lnm_codegen.compiler.pipeline import lower
from lnm_codegen.errors import ModelError
from lnm_codegen.ir import interpret as real
from lnm_codegen.ir.declarations import Extent
from lnm_codegen.ir.fixed import nodes as fx
from lnm_codegen.ir.fixed.interpret import Array
from lnm_codegen.ir.fixed.quantize import quantize as quantized
from lnm_codegen.ir.nodes import Role
from lnm_codegen.ir.passes.simplify import keep_results
from lnm_codegen.ir.types import Bits, Fixed, FixedSpec, spec_of
from lnm_codegen.language.family import require_neuron
from lnm_codegen.language.neuron import Neuron
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
