"""Top module of a network, and its arrays of neurons, one for all layers that are equal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from lnm_codegen.backends.base import Source
from lnm_codegen.backends.fixed import MOST_NEURONS, Coefficient, FixedModel, FixedState, Rtl
from lnm_codegen.backends.network_verilog.layers import DRAIN, Layer, bits_for
from lnm_codegen.backends.render import render
from lnm_codegen.backends.verilog.array import StreamField, data_width, stream_fields
from lnm_codegen.backends.verilog.backend import circuit_of
from lnm_codegen.backends.verilog.module import separated
from lnm_codegen.errors import UnsupportedError
from lnm_codegen.ir.fixed import nodes as fx
from lnm_codegen.ir.fixed.nodes import Span
from lnm_codegen.ir.network.nodes import IntegerNetwork, Integers, NeuronStage, ValueSpan, size_of
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


def family_of(network: IntegerNetwork) -> str:
    """Return the name in the head of each file: that of the network."""
    return network.name


def padded(width: int) -> int:
    """Return a width in whole bytes."""
    return (width + 7) // 8 * 8


def frames(network: IntegerNetwork) -> int:
    """Return the time steps of a sample on the input stream: 1 for a repeated sample."""
    return 1 if network.repeated else network.time_steps


def sample_size(network: IntegerNetwork) -> int:
    """Return the inputs of a sample on the input stream."""
    return frames(network) * size_of(network.input_shape)


def described(values: ValueSpan) -> str:
    """Return a sentence about values, for a comment."""
    if values.are_spikes:
        return "0 or 1"
    return f"k for k / 2^{values.frac}, {values.low} to {values.high}"


def readout_module(network: IntegerNetwork, value_bits: int) -> str:
    """Return the module `<name>_readout`; its input has `value_bits`, 0 for a spike."""
    scores, steps = network.scores, network.time_steps
    ends: Span = (scores.low, scores.high)
    bits = max(ValueSpan(*ends).width, value_bits or 2)
    extra = bits - (value_bits or 1)
    over = network.over if steps > 1 else "last"
    fill = f"{{{extra}{{s_value[{value_bits - 1}]}}}}" if value_bits else f"{extra}'d0"
    notes = {
        "mean": "sums over the time steps",
        "last": "those of the last time step",
        "max": "maxima over the time steps",
    }
    view = {
        "family": family_of(network),
        "top": f"{network.name}_readout",
        "classes": network.classes,
        "steps": steps,
        "step_bits": bits_for(steps),
        "class_bits": bits_for(network.classes),
        "score_bits": bits,
        "score_note": notes[network.over],
        "value_range": f"signed [{value_bits - 1}:0] " if value_bits else "",
        "value": f"{{{fill}, s_value}}" if extra else "s_value",
        "stored": over != "last",
        "combined": "held + value" if over == "mean" else "(value > held ? value : held)",
    }
    return render("network_verilog/readout.v.j2", view)


def score_bits(network: IntegerNetwork, value_bits: int) -> int:
    """Return the width of a score on the circuit."""
    return max(network.scores.width, value_bits or 2)


def last_bits(layers: Sequence[Layer], arrays: Mapping[str, NeuronArray]) -> int:
    """Return the width of the numbers that reach the readout; 0 for spikes."""
    last = layers[-1]
    if last.neurons is None:
        return last.stage.output.width
    field = arrays[last.neurons.name].output
    return field.width if isinstance(field.var.type, Bits) else 0


def top_module(
    network: IntegerNetwork, layers: Sequence[Layer], arrays: Mapping[str, NeuronArray]
) -> str:
    """Return the module `<name>_network`."""
    values, name = network.input, network.name
    size, in_bits = sample_size(network), padded(layers[0].value_bits)
    bits = score_bits(network, last_bits(layers, arrays))
    unused = [f"s_axis_tdata[{in_bits - 1}:{layers[0].value_bits}]"]
    unused = unused if in_bits > layers[0].value_bits else []
    unused += ["load_address", "load_data"] if layers[0].loadable else []
    lines: list[str] = []
    source = "x"
    for k, layer in enumerate(layers):
        more, source, left = _layer_lines(name, k, layer, arrays, source)
        lines += more
        unused += left
    score = f"{{{{{padded(bits) - bits}{{score[{bits - 1}]}}}}, score}}"
    classes = bits_for(network.classes)
    fill = padded(classes) - classes
    view = {
        "family": family_of(network),
        "name": name,
        "layers": [_layer_note(layer) for layer in layers],
        "input_note": f"{described(values)}; {layers[0].value_bits} bits in {in_bits // 8} byte(s)",
        "size": size,
        "steps": network.time_steps,
        "repeated": network.repeated,
        "classes": network.classes,
        "score_note": described(network.scores),
        "ports": separated(_ports(network, layers, in_bits, bits)),
        "beat_bits": bits_for(size),
        "value_bits": layers[0].value_bits,
        "lines": lines,
        "source": source,
        "score_bits": bits,
        "class_bits": classes,
        "score": score if padded(bits) > bits else "score",
        "label": f"{{{fill}'d0, label}}" if fill else "label",
        "unused": ", ".join(unused),
        "loadable": layers[0].loadable,
    }
    return render("network_verilog/top.v.j2", view)


def _layer_note(layer: Layer) -> str:
    neurons = "the readout" if layer.neurons is None else f"neurons {layer.neurons.name}"
    return (
        f"{layer.stage.name}: {layer.inputs} inputs, {layer.outputs} sums, then {neurons};"
        f" {layer.rows} cycles an event"
    )


def _ports(network: IntegerNetwork, layers: Sequence[Layer], in_bits: int, bits: int) -> list[str]:
    label = padded(bits_for(network.classes))
    found = ["input  wire clk", "input  wire rst"]
    if layers[0].loadable:
        found += [
            "input  wire load",
            f"input  wire [{load_layer_bits(layers) - 1}:0] load_layer",
            f"input  wire [{load_address_bits(layers) - 1}:0] load_address",
            f"input  wire [{load_data_bits(layers) - 1}:0] load_data",
        ]
    return [
        *found,
        "input  wire s_axis_tvalid",
        "output wire s_axis_tready",
        f"input  wire [{in_bits - 1}:0] s_axis_tdata",
        "input  wire s_axis_tlast",
        "output wire m_axis_tvalid",
        "input  wire m_axis_tready",
        f"output wire [{padded(bits) - 1}:0] m_axis_tdata",
        f"output wire [{label - 1}:0] m_axis_tuser",
        "output wire m_axis_tlast",
        "output reg  tlast_error",
    ]


def load_layer_bits(layers: Sequence[Layer]) -> int:
    """Return the width of the number of a layer on the load port."""
    return bits_for(layers[0].of)


def load_address_bits(layers: Sequence[Layer]) -> int:
    """Return the width of the address of a row on the load port."""
    return max(layer.address_bits for layer in layers)


def load_data_bits(layers: Sequence[Layer]) -> int:
    """Return the width of a row of weights on the load port."""
    return max(layer.lanes * layer.stage.bits for layer in layers)


def _layer_lines(
    name: str, k: int, layer: Layer, arrays: Mapping[str, NeuronArray], source: str
) -> tuple[list[str], str, list[str]]:
    """Return the wires and instances of a layer, the name of its result, and unused wires.

    A stream `x` has the wires x_valid, x_ready and x_value.
    """
    events, sums, prefix = f"event_{k}", f"sum_{k}", f"{name}_{layer.name}"
    out = layer.stage.output
    array = None if layer.neurons is None else arrays[layer.neurons.name]
    lines = [
        "",
        f"// {layer.stage.name}",
        *_load_wire(k, layer),
        f"wire {events}_valid, {events}_ready, {events}_last;",
        f"wire [{layer.address_bits - 1}:0] {events}_address;",
        f"wire [{layer.value_bits - 1}:0] {events}_value;",
        f"{prefix}_events events_{k} (.clk(clk), .rst(rst),",
        f"    .s_valid({source}_valid), .s_ready({source}_ready), .s_value({source}_value),",
        f"    .m_valid({events}_valid), .m_ready({events}_ready), .m_address({events}_address),",
        f"    .m_value({events}_value), .m_last({events}_last));",
        f"wire {sums}_valid, {sums}_ready, {sums}_last, clear_{k};",
        f"wire signed [{out.width - 1}:0] {sums}_value;",
        f"{prefix}_synapse #(.HEX(HEX)) synapse_{k} (.clk(clk), .rst(rst),",
        *_load(k, layer),
        f"    .s_valid({events}_valid), .s_ready({events}_ready), .s_address({events}_address),",
        f"    .s_value({events}_value), .s_last({events}_last),",
        f"    .m_valid({sums}_valid), .m_ready({sums}_ready), .m_data({sums}_value),",
        f"    .m_last({sums}_last), .clear(clear_{k}));",
    ]
    if array is None:
        return lines, sums, [f"{sums}_last", f"clear_{k}"]
    neurons, field = f"neuron_{k}", array.output
    left = [f"{neurons}_last", f"{neurons}_error"]
    if array.output_bits > field.width:
        left.append(f"{neurons}_data")
    sign = f"signed [{field.width - 1}:0] " if isinstance(field.var.type, Bits) else ""
    value = f"{sums}_value"
    extra = array.input_bits - out.width
    if extra:
        value = f"{{{{{extra}{{{sums}_value[{out.width - 1}]}}}}, {sums}_value}}"
    return (
        [
            *lines,
            f"wire {neurons}_valid, {neurons}_ready, {neurons}_last, {neurons}_error;",
            f"wire [{array.output_bits - 1}:0] {neurons}_data;",
            f"{array.name}_array neurons_{k} (.clk(clk), .rst(rst), .clear(clear_{k}),",
            f"    .s_axis_tvalid({sums}_valid), .s_axis_tready({sums}_ready),",
            f"    .s_axis_tdata({value}), .s_axis_tlast({sums}_last),",
            f"    .m_axis_tvalid({neurons}_valid), .m_axis_tready({neurons}_ready),",
            f"    .m_axis_tdata({neurons}_data), .m_axis_tlast({neurons}_last),",
            f"    .tlast_error({neurons}_error));",
            f"wire {sign}{neurons}_value = {neurons}_data{field.slice};",
        ],
        neurons,
        left,
    )


def _load_wire(k: int, layer: Layer) -> list[str]:
    bits = bits_for(layer.of)
    return [f"wire load_{k} = load && load_layer == {bits}'d{k};"] if layer.loadable else []


def _load(k: int, layer: Layer) -> list[str]:
    if not layer.loadable:
        return []
    return [
        f"    .load(load_{k}), .load_address(load_address[{layer.address_bits - 1}:0]),",
        f"    .load_data(load_data[{layer.lanes * layer.stage.bits - 1}:0]),",
    ]
