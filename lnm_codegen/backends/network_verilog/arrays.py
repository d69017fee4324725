"""Arrays of a network's neurons: one circuit for all layers that are equal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from lnm_codegen.backends.base import Source
from lnm_codegen.backends.fixed import Coefficient, FixedModel, FixedState
from lnm_codegen.backends.network_verilog.layers import DRAIN, Layer
from lnm_codegen.backends.rtl import MOST_NEURONS, Rtl
from lnm_codegen.backends.verilog.array import StreamField, data_width, stream_fields
from lnm_codegen.backends.verilog.backend import circuit_of
from lnm_codegen.errors import UnsupportedError
from lnm_codegen.ir.fixed import nodes as fx
from lnm_codegen.ir.network.nodes import Integers, NeuronStage
from lnm_codegen.ir.operators import Role
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
        models: Simulation models of vendor cells, relative to its folder.
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


def arrays_of(
    network: str, layers: Sequence[Layer], inputs: dict[str, Integers]
) -> dict[str, NeuronArray]:
    """Return name of a layer of neurons -> its array; equal layers share one.

    Args:
        network: Name of the network.
        layers: The layers.
        inputs: Name of a layer of neurons -> its inputs (samples, T, neurons), for golden vectors.

    Raises:
        UnsupportedError: Neurons without a circuit.
    """
    found: dict[str, NeuronArray] = {}
    for layer in layers:
        if layer.neurons is None:
            continue
        model = _model(layer.neurons, layer.outputs)
        same = (a for a in found.values() if replace(a.model, name=model.name) == model)
        shared = next(same, None)
        if shared is None:
            x = inputs[layer.neurons.name]
            count = max(1, MOST_UPDATES // (x.shape[1] * x.shape[2]))
            stimulus = {layer.neurons.input.name: _with_extremes(x[:count], layer.neurons)}
            named = replace(model, name=f"{network}_{layer.name}_neurons", stimulus=stimulus)
            shared = _array(named)
        found[layer.neurons.name] = shared
    return found


def most_cycles(layers: Sequence[Layer], arrays: Mapping[str, NeuronArray]) -> int:
    """Return a bound of the cycles of a sample: every input is an event, no two layers overlap."""
    found = 2 * DRAIN
    for layer in layers:
        found += layer.most_cycles + layer.inputs
        if layer.neurons is not None:
            array = arrays[layer.neurons.name]
            found += layer.steps * (array.cycles + array.latency)
    return found


def _with_extremes(x: Integers, neurons: NeuronStage) -> Integers:
    """Return inputs (samples + 1, T, neurons): samples, then numbers of the whole format of x.

    A trained network rarely saturates, and faults of the clamps would then go unnoticed.
    """
    bits = neurons.input.type
    assert isinstance(bits, Bits), "an input is a number"
    rng = np.random.default_rng(0)
    return np.concatenate([x, rng.integers(bits.low, bits.high, (1, *x.shape[1:]), endpoint=True)])


def _array(model: FixedModel) -> NeuronArray:
    circuit = circuit_of(model)
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


def _model(stage: NeuronStage, count: int) -> FixedModel:
    """Return the neurons of a layer as the model of a circuit, without a name of its own."""
    where = f"network: {stage.name}"
    if count > MOST_NEURONS:
        raise UnsupportedError(where, f"{count} neurons", f"up to {MOST_NEURONS}")
    kernel = stage.program.kernel
    bits = {v.name: v.type for v in kernel.input_vars(*Role)}
    coefficients = tuple(_coefficient(name, bits[name], k) for name, k in stage.coefficients)
    channels = max((len(c.integers) for c in coefficients), default=1)
    states = tuple(_state(where, name, bits[name], k) for name, k in stage.initial)
    return FixedModel(
        name="neurons",
        family=stage.program.name,
        program=stage.program,
        states=states,
        coefficients=coefficients,
        equations=_equations(kernel),
        rtl=Rtl(
            forms=("array",),
            neurons=count,
            coefficients="memory" if channels > 1 else "constant",
        ),
    )


def _coefficient(name: str, bits: object, integers: Integers) -> Coefficient:
    assert isinstance(bits, Bits), "a coefficient is a number"
    words = tuple(int(k) for k in integers)
    return Coefficient(name, bits, words, tuple(float(bits.value(k)) for k in words))


def _state(where: str, name: str, bits: object, integers: Integers) -> FixedState:
    assert isinstance(bits, Bits), "a state is a number"
    values = np.unique(integers)
    if len(values) > 1:
        problem = f"the initial value of state {name!r} has {len(values)} values"
        remedy = "Use per='layer', or --backend c."
        raise UnsupportedError(where, problem, "one value for all neurons", remedy)
    return FixedState(name, bits, int(values[0]))


def _equations(kernel: fx.Kernel) -> tuple[str, ...]:
    """Return the step in integers, a line for each value."""
    return tuple(f"{let.target.name} = {fx.expr_text(let.value)}" for let in kernel.body)
