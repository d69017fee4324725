"""Fixed point: `lnm.quantize`, and real numbers as integers of a format."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from lnm_codegen.compiler.pipeline import lower
from lnm_codegen.errors import ModelError
from lnm_codegen.ir import interpret as real
from lnm_codegen.ir.fixed import nodes as fx
from lnm_codegen.ir.fixed.interpret import Array
from lnm_codegen.ir.fixed.quantize import quantize as quantized
from lnm_codegen.ir.nodes import Role
from lnm_codegen.ir.passes.dce import keep_results
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
        ModelError: No neuron, no spec, a constant that does not fit its format.
        UnsupportedError: A function or a division in the step, which has no fixed-point form.
    """
    require_neuron("quantize", neuron)
    return quantized(lower(neuron, scheme), spec_of(spec, "quantize"))


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
