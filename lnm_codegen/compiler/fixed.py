"""Neurons to fixed point: `lnm.quantize`, and what a fixed-point backend receives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from lnm_codegen.backends.integer_c.model import Coefficient, FixedModel, FixedState
from lnm_codegen.backends.verilog.rtl import Rtl
from lnm_codegen.compiler.arguments import parameters_of, start_of
from lnm_codegen.compiler.pipeline import equations, lower
from lnm_codegen.errors import ModelError, ShapeError, UnsupportedError
from lnm_codegen.ir import interpret as real
from lnm_codegen.ir.fixed import nodes as fx
from lnm_codegen.ir.fixed.interpret import Array
from lnm_codegen.ir.fixed.quantize import quantize as quantized
from lnm_codegen.ir.fixed.spec import FixedSpec, spec_of
from lnm_codegen.ir.granularity import Extent, finest
from lnm_codegen.ir.nodes import Role, variables
from lnm_codegen.ir.types import Bits, Fixed
from lnm_codegen.language.family import require_neuron
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.language.symbols import require_name


def quantize(neuron: Neuron, spec: Fixed | FixedSpec, scheme: str = "horner") -> fx.Program:
    """Lower a neuron's step to fixed point.

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


def fixed_model_of(
    neuron: Neuron,
    spec: Fixed | FixedSpec | None,
    *,
    name: str | None = None,
    scheme: str = "horner",
    values: Mapping[str, Any] | None = None,
    rtl: Rtl | None = None,
    stimulus: Mapping[str, Any] | None = None,
) -> FixedModel:
    """Return what a fixed-point backend receives for a neuron.

    Raises:
        ModelError: As for `quantize`; a name that is reserved; a value or an initial state that
            does not fit.
        ShapeError: `stimulus` is not one array (sequences, ticks, neurons) for each input.
        UnsupportedError: As for `quantize`; a parameter per neuron.
    """
    if name is not None and name != neuron.name:
        require_name("emit: name", name)
    program = quantize(neuron, spec, scheme)  # type: ignore[arg-type]
    given = values or {}
    if finest(p.per for p in neuron.params) == "neuron":
        names = ", ".join(p.name for p in neuron.params if p.per == "neuron")
        raise UnsupportedError(
            neuron.name, f"{names} per neuron has no circuit", "per='layer' or per='channel'"
        )
    raw = parameters_of(neuron, given, Extent(1, _channels(neuron, given), 1), np.dtype("float64"))
    reals = prepared_values(program, raw)
    coefficients = tuple(
        Coefficient(
            n,
            _bits(program, n),
            tuple(int(k) for k in array.reshape(-1)),
            tuple(float(r) for r in np.broadcast_to(reals[n], array.shape).reshape(-1)),
        )
        for n, array in prepared_integers(program, raw).items()
    )
    start = start_of(neuron, None, (), np.dtype("float64"))
    return FixedModel(
        name=neuron.name if name is None else name,
        family=neuron.name,
        program=program,
        states=tuple(
            FixedState(n, _bits(program, n), _start(neuron.name, n, v, _bits(program, n)))
            for n, v in start.items()
        ),
        coefficients=coefficients,
        equations=equations(neuron),
        rtl=rtl or Rtl(),
        stimulus=None if stimulus is None else _stimulus(neuron, program, stimulus, rtl or Rtl()),
    )


def _stimulus(
    neuron: Neuron, program: fx.Program, stimulus: Mapping[str, Any], rtl: Rtl
) -> dict[str, Array]:
    names = [s.name for s in neuron.inputs]
    arrays = {name: np.asarray(value, np.float64) for name, value in stimulus.items()}
    shapes = {array.shape for array in arrays.values()}
    shape = next(iter(shapes), ())
    sound = len(shapes) == 1 and len(shape) == 3 and min(shape) > 0 and shape[2] == rtl.neurons
    if sorted(arrays) != sorted(names) or not sound:
        given = ", ".join(f"{n} {a.shape}" for n, a in arrays.items()) or "nothing"
        raise ShapeError(
            neuron.name,
            f"stimulus is {given}",
            f"for each of {', '.join(names)} an array (sequences, ticks, {rtl.neurons})",
        )
    return {name: integers(array, _bits(program, name)) for name, array in arrays.items()}


def _bits(program: fx.Program, name: str) -> Bits:
    found = next(p.var.type for p in program.kernel.inputs if p.var.name == name)
    assert isinstance(found, Bits)
    return found


def _start(neuron: str, name: str, value: Array, bits: Bits) -> int:
    """Return the integer that a state begins with."""
    near = float(_nearest(value, bits))
    if not bits.low <= near <= bits.high:
        low, high = bits.interval
        raise ModelError(
            neuron,
            (
                f"state {name!r} begins at {float(value):g}, which does not fit {bits}: "
                f"{float(low):g} to {float(high):g}"
            ),
            remedy="Give more integer bits.",
        )
    return int(near)


def _channels(neuron: Neuron, given: Mapping[str, Any]) -> int:
    """Return how many channels the values that are given have."""
    rows = [1]
    for param in neuron.params:
        if param.per == "channel" and param.name in given:
            shape = np.shape(given[param.name])
            rows += shape[: len(shape) - (param.size is not None)]
    return max(rows)


def integers(values: Any, bits: Bits) -> Array:
    """Return real numbers as integers of a format: the nearest, ties up, saturated; NaN is 0."""
    return np.clip(_nearest(values, bits), bits.low, bits.high).astype(np.int64)


def _nearest(values: Any, bits: Bits) -> Array:
    with np.errstate(over="ignore"):  # infinite values saturate
        scaled = np.nan_to_num(np.asarray(values, np.float64) * 2.0**bits.frac, nan=0.0)
    below = np.floor(scaled)
    return np.asarray(below + (scaled - below >= 0.5))


def prepared_integers(program: fx.Program, raw: Mapping[str, Any]) -> dict[str, Array]:
    """Return the prepared parameters that the kernel takes, each rounded once.

    Args:
        program: What `quantize` made.
        raw: The declared parameter elements by name, numbers or arrays that broadcast.

    Raises:
        ModelError: A parameter that does not fit its format.
    """
    values = prepared_values(program, raw)
    found = {}
    for var in program.kernel.input_vars(Role.PARAM):
        bits = var.type
        assert isinstance(bits, Bits)
        near = _nearest(values[var.name], bits)
        wrong = ~((near >= bits.low) & (near <= bits.high)) | ~np.isfinite(values[var.name])
        if np.any(wrong):
            worst = np.asarray(values[var.name])[wrong].flat[0]
            low, high = bits.interval
            raise ModelError(
                program.name,
                (
                    f"parameter {_shown(program, var.name)} is {worst:g}, which does not fit {bits}: "
                    f"{float(low):g} to {float(high):g}"
                ),
                remedy="Give more integer bits.",
            )
        found[var.name] = near.astype(np.int64)
    return found


def _shown(program: fx.Program, name: str) -> str:
    """Return a prepared parameter as a user knows it: with the declared ones it is made of."""
    lets = {let.target.name: let.value for let in program.prepare.body}
    if name not in lets:
        return repr(name)
    made_of: list[str] = []
    pending = [name]
    while pending:
        value = lets.get(word := pending.pop(0))
        if value is None:
            made_of.append(word)
        else:
            pending += sorted(v.name for v in variables(value))
    return f"{name!r}, made of {', '.join(dict.fromkeys(made_of))},"


def prepared_values(program: fx.Program, raw: Mapping[str, Any]) -> dict[str, Array]:
    """Return every prepared parameter in float64, before it is rounded."""
    return real.run(program.prepare, raw, np.float64)
