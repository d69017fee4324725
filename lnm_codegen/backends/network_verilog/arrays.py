"""Arrays of the neurons of a network: one for all layers that are equal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from lnm_codegen.backends.base import Source
from lnm_codegen.backends.fixed import (
    MOST_NEURONS,
    Coefficient,
    CoefficientsName,
    FixedModel,
    FixedState,
    Rtl,
)
from lnm_codegen.backends.network_verilog.layers import Part
from lnm_codegen.backends.network_verilog.modules import LayerMemory
from lnm_codegen.backends.verilog.array import (
    StreamField,
    data_width,
    packed_rows,
    stream_fields,
)
from lnm_codegen.backends.verilog.backend import circuit_of
from lnm_codegen.errors import UnsupportedError
from lnm_codegen.ir.fixed import nodes as fx
from lnm_codegen.ir.network.nodes import Integers, NeuronStage
from lnm_codegen.ir.types import Bits

MOST_UPDATES = 1 << 14
"""Most updates of neurons in the golden vectors of an array; there is at least one sample."""


@dataclass(frozen=True, eq=False)
class NeuronArray:
    """An array of neurons.

    Attributes:
        name: Prefix of its modules, and its folder in arrays/.
        model: The neurons.
        source: Its circuit as a folder of its own.
        input: Place of x in s_axis_tdata.
        output: Place of the output in m_axis_tdata.
        input_bits: Width of s_axis_tdata.
        output_bits: Width of m_axis_tdata.
        cycles: Fewest cycles of a time step.
        latency: Cycles from an input to its result.
        multipliers: Multipliers in the source.
        files: Its modules, relative to its folder; the array is the last.
    """

    name: str
    model: FixedModel
    source: Source
    input: StreamField
    output: StreamField
    input_bits: int
    output_bits: int
    cycles: int
    latency: int
    multipliers: int
    files: tuple[str, ...]


def coefficient_rows(array: NeuronArray, stage: NeuronStage | None = None) -> LayerMemory:
    """Return the memory of coefficients of an array.

    Args:
        array: The array.
        stage: Other numbers for the same circuit; by default those of the array.
    """
    held, channels = array.model.coefficients, array.model.channels
    if stage is not None:
        held = _coefficients(stage, channels)
    width = sum(c.bits.width for c in held)
    return LayerMemory("coefficients", packed_rows(held, channels), width)


def arrays_of(
    parts: Sequence[Part], inputs: dict[str, Integers], loadable: bool, lanes: int
) -> dict[str, NeuronArray]:
    """Return name of a layer of neurons -> its array; equal layers share one.

    Args:
        parts: The layers of weights and the poolings.
        inputs: Name of a layer of neurons -> its inputs (samples, T, neurons), for golden vectors.
        loadable: Coefficients can be loaded.
        lanes: Weights that a layer adds in one cycle. With one lane, neurons pass through one
            multiplier: events take as long.

    Raises:
        UnsupportedError: Neurons without a circuit.
    """
    found: dict[str, NeuronArray] = {}
    for part in parts:
        if part.neurons is None:
            continue
        model = _model(part.neurons, part.outputs, loadable)
        same = (a for a in found.values() if replace(a.model, name=model.name) == model)
        shared = next(same, None)
        if shared is None:
            stimulus = _stimulus(inputs[part.neurons.name], part.neurons)
            named = replace(model, name=f"{part.prefix}_neurons", stimulus=stimulus)
            shared = _array(named, is_small=lanes == 1)
        found[part.neurons.name] = shared
    return found


def shared_array(
    name: str, parts: Sequence[Part], inputs: dict[str, Integers]
) -> NeuronArray | None:
    """Return one array for the neurons of all layers, in order.

    None if there is one layer, or if layers differ in more than their coefficients. Each neuron has
    a row of coefficients, unless all rows are equal.

    Args:
        name: Name of the network.
        parts: The layers of weights and the poolings.
        inputs: Name of a layer of neurons -> its inputs (samples, T, neurons), for golden vectors.
    """
    own = [(part.neurons, part.outputs) for part in parts if part.neurons is not None]
    models = [_model(stage, count, loadable=False) for stage, count in own]
    count = sum(outputs for _, outputs in own)
    if len(own) < 2 or count > MOST_NEURONS:
        return None
    first = models[0]
    if any(replace(m, coefficients=first.coefficients, rtl=first.rtl) != first for m in models):
        return None
    rows = [_coefficients(stage, outputs) for stage, outputs in own]
    joined = []
    for found in zip(*rows, strict=True):
        each = [k for c, (_, n) in zip(found, own, strict=True) for k in _spread(c.integers, n)]
        integers = tuple(each) if len({*each}) > 1 else (each[0],)
        reals = tuple(float(found[0].bits.value(k)) for k in integers)
        joined.append(Coefficient(found[0].name, found[0].bits, integers, reals))
    place: CoefficientsName = "memory" if any(len(c.integers) > 1 for c in joined) else "constant"
    x = np.concatenate([inputs[stage.name] for stage, _ in own], axis=2)
    model = replace(
        first,
        name=f"{name}_neurons",
        coefficients=tuple(joined),
        rtl=replace(first.rtl, neurons=count, coefficients=place),
        stimulus=_stimulus(x, own[0][0]),
    )
    return _array(model, is_small=True)


def _spread(integers: tuple[int, ...], count: int) -> tuple[int, ...]:
    """Return an integer for each neuron of a layer."""
    return integers * count if len(integers) == 1 else integers


def _stimulus(x: Integers, neurons: NeuronStage) -> dict[str, Integers]:
    """Return the input (samples, T, neurons) of an array: samples, then its whole format once.

    A trained network rarely saturates, and faults of the clamps would then go unnoticed.
    """
    bits = neurons.input.type
    assert isinstance(bits, Bits), "an input is a number"
    rng, x = np.random.default_rng(0), x[: max(1, MOST_UPDATES // (x.shape[1] * x.shape[2]))]
    drawn = rng.integers(bits.low, bits.high, (1, *x.shape[1:]), endpoint=True)
    return {neurons.input.name: np.concatenate([x, drawn])}


def _array(model: FixedModel, is_small: bool) -> NeuronArray:
    circuit = circuit_of(model)
    if is_small and circuit.forms[0].multipliers > 1:
        circuit = circuit_of(replace(model, rtl=replace(model.rtl, through="seq")))
    (form,) = circuit.forms
    inputs, results = stream_fields(circuit.design)
    return NeuronArray(
        name=model.name,
        model=model,
        source=circuit.source,
        input=inputs[0],
        output=results[-1],
        input_bits=data_width(inputs),
        output_bits=data_width(results),
        cycles=dict(form.more)["tick_cycles"],
        latency=form.latency,
        multipliers=form.multipliers,
        files=tuple(f"rtl/{model.name}_{word}.v" for word in form.modules),
    )


def _coefficients(stage: NeuronStage, channels: int) -> tuple[Coefficient, ...]:
    """Return the coefficients of neurons: one integer each, or one for each of the channels."""
    found = []
    for name, integers in stage.coefficients:
        spread = integers if len(integers) == 1 else np.repeat(integers, channels // len(integers))
        bits, words = stage.program.kernel.bits(name), tuple(int(k) for k in spread)
        reals = tuple(float(bits.value(k)) for k in words)
        found.append(Coefficient(name, bits, words, reals))
    return tuple(found)


def _model(stage: NeuronStage, count: int, loadable: bool) -> FixedModel:
    """Return the neurons of a layer as the model of a circuit, without a name of its own."""
    where = f"network: {stage.name}"
    if count > MOST_NEURONS:
        raise UnsupportedError(where, f"{count} neurons", f"up to {MOST_NEURONS}")
    kernel = stage.program.kernel
    channels = max((len(integers) for _, integers in stage.coefficients), default=1)
    place: CoefficientsName = "memory" if channels > 1 else "constant"
    if loadable and stage.coefficients:
        place = "load"
    states = []
    for name, integers in stage.initial:
        values = np.unique(integers)
        if len(values) > 1:
            problem = f"the initial value of state {name!r} has {len(values)} values"
            remedy = "Use per='layer', or --backend c."
            raise UnsupportedError(where, problem, "one value for all neurons", remedy)
        states.append(FixedState(name, kernel.bits(name), int(values[0])))
    return FixedModel(
        name="neurons",
        family=stage.program.name,
        program=stage.program,
        states=tuple(states),
        coefficients=_coefficients(stage, channels),
        equations=tuple(f"{x.target.name} = {fx.expr_text(x.value)}" for x in kernel.body),
        rtl=Rtl(forms=("array",), neurons=count, coefficients=place),
    )
