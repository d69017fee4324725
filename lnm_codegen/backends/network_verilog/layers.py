"""Layers of a network as circuits: sizes, cycles, memories and modules of each synapse."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from lnm_codegen.backends.render import render
from lnm_codegen.backends.verilog.expr import hex_text
from lnm_codegen.errors import UnsupportedError
from lnm_codegen.ir.network.nodes import (
    AnyStage,
    FlattenStage,
    IntegerNetwork,
    NeuronStage,
    PoolStage,
    ValueSpan,
    WeightStage,
    size_of,
    width_of,
)
from lnm_codegen.ir.types import Bits

LANES = 4
"""Weights that a synapse adds in one cycle, by default."""
MOST_LANES = 64
FEWEST_ROWS = 4
"""Least rows of accumulators: a row is written three cycles after it is read."""
DRAIN = 8
"""Cycles from the last event of a time step to its first sum, and from the last sum on."""
ACCEPTED = (
    "linear layers, recurrent or not, each before neurons or the readout, a flatten of the input"
)


@dataclass(frozen=True)
class Layer:
    """A linear layer, and the neurons that follow it, if any.

    Attributes:
        network: Name of the network.
        name: Name of the layer in Verilog.
        stage: Its weights.
        neurons: The next neurons, or None.
        values: Values of its inputs.
        own_bits: Width of an input from the layer before; a spike has 1 bit without a sign.
        is_spike: Inputs are spikes.
        inputs: Inputs of a time step, those of the feedback too.
        lanes: Weights that are added in one cycle.
        steps: Time steps of a sample.
        constant: The sums of one time step serve all steps.
        loadable: Weights can be loaded, so that any weight may occur.
    """

    network: str
    name: str
    stage: WeightStage
    neurons: NeuronStage | None
    values: ValueSpan
    own_bits: int
    is_spike: bool
    inputs: int
    lanes: int
    steps: int
    constant: bool
    loadable: bool

    @property
    def prefix(self) -> str:
        """Prefix of its modules and memories."""
        return f"{self.network}_{self.name}"

    @property
    def own_inputs(self) -> int:
        """Inputs of a time step from the layer before."""
        return self.inputs - self.stage.fed

    @property
    def spike(self) -> int:
        """The input that a spike of the feedback is."""
        return 1 << self.values.frac

    @property
    def value_bits(self) -> int:
        """Width of an input, of the feedback too."""
        if self.is_spike or not self.stage.delay:
            return self.own_bits
        return max(self.own_bits, width_of((0, self.spike)))

    @property
    def modules(self) -> tuple[str, ...]:
        """Names of its modules, without its neurons."""
        feedback = ("feedback",) if self.stage.delay else ()
        return tuple(f"{self.prefix}_{word}" for word in (*feedback, "events", "synapse"))

    @property
    def memories(self) -> tuple[str, ...]:
        """Files of its memories, in rtl/."""
        scales = ("scales",) if self.scale_bits else ()
        return tuple(f"{self.prefix}_{word}.hex" for word in ("weights", "biases", *scales))

    @property
    def outputs(self) -> int:
        """Number of sums."""
        return self.stage.channels

    @property
    def rows(self) -> int:
        """Cycles of an event: rows of weights and accumulators, at least `FEWEST_ROWS`."""
        return max(-(-self.outputs // self.lanes), FEWEST_ROWS)

    @property
    def depth(self) -> int:
        """Rows of weights in the memory."""
        return self.inputs * self.rows

    @property
    def address_bits(self) -> int:
        """Width of the address of a row of weights."""
        return bits_for(self.depth)

    @cached_property
    def bound(self) -> int:
        """The largest magnitude of an accumulator."""
        if not self.loadable:
            return self.stage.bound(self.values)
        most, size = max(abs(int(b)) for b in self.stage.bias), 1 << (self.stage.bits - 1)
        own = self.own_inputs * self.values.magnitude
        return most + size * (own + self.stage.fed * self.spike)

    @property
    def accumulator(self) -> int:
        """Width of an accumulator."""
        return max(self.stage.accumulator, width_of((-self.bound, self.bound)), self.addend_bits)

    @property
    def addend_bits(self) -> int:
        """Width of a weight, or of its product with an input that is a number."""
        return self.stage.bits + (0 if self.is_spike else self.value_bits)

    @property
    def right(self) -> int:
        """Places of the common right shift, after shifts to the left by `amounts`."""
        return max(0, *self.stage.shifts)

    @property
    def amounts(self) -> tuple[int, ...]:
        """Shift to the left of each sum before the common right shift."""
        return tuple(self.right - shift for shift in self.stage.shifts)

    @property
    def product_bits(self) -> int:
        """Width of a sum times its multiplier."""
        largest = max(self.stage.multipliers)
        return self.accumulator + (width_of((0, largest)) if self.multiplies else 0)

    @cached_property
    def shifted_bits(self) -> int:
        """Width of the largest product after its shift to the left."""
        spans = self.stage.scaled_spans(self.values)
        if self.loadable:
            spans = [(-self.bound * k, self.bound * k) for k in self.stage.multipliers]
        widths = (width_of(s) + amount for s, amount in zip(spans, self.amounts, strict=True))
        return max(*widths, self.product_bits, self.right + 1)

    @property
    def amount_bits(self) -> int:
        """Width of a shift to the left; 0 if all are equal."""
        return (max(self.amounts) - min(self.amounts)).bit_length()

    @property
    def factor_bits(self) -> int:
        """Width of a multiplier, without a sign; 0 if all are 1."""
        return max(self.stage.multipliers).bit_length() if self.multiplies else 0

    @property
    def scale_bits(self) -> int:
        """Width of a word of scales; 0 if the layer has no such memory."""
        return self.amount_bits + self.factor_bits

    @property
    def multiplies(self) -> bool:
        """Whether a multiplier is not 1."""
        return {*self.stage.multipliers} != {1}

    @property
    def multipliers(self) -> int:
        """Products in the source."""
        return (0 if self.is_spike else self.lanes) + self.multiplies

    @property
    def adding(self) -> int:
        """Most cycles in which a sample's events are added: every input is an event."""
        taken = 1 if self.constant else self.steps
        return taken * (self.depth + self.rows + DRAIN)

    @property
    def leaving(self) -> int:
        """Most cycles in which a sample's sums leave, if the neurons take each at once."""
        return self.steps * (self.outputs + 2 * DRAIN)


def layers_of(network: IntegerNetwork, lanes: int = LANES, loadable: bool = False) -> list[Layer]:
    """Return the layers of a feed-forward network of linear layers.

    Raises:
        UnsupportedError: Another stage, or neurons without a linear layer before them.
    """
    shapes, values = network.shapes(), network.values()
    found: list[Layer] = []
    before: AnyStage | None = None
    for k, stage in enumerate(network.stages):
        _require_linear(network, k, stage, before)
        after = network.stages[k + 1] if k + 1 < len(network.stages) else None
        if isinstance(stage, WeightStage):
            is_spike = _gives_spikes(network, before)
            constant = k < network.constant_stages
            ends = constant and k + 1 == network.constant_stages
            name = re.sub(r"\W", "_", stage.name, flags=re.ASCII).lower()
            while name in {layer.name for layer in found}:
                name += "_"
            found.append(
                Layer(
                    network=network.name,
                    name=name,
                    stage=stage,
                    neurons=after if isinstance(after, NeuronStage) else None,
                    values=values[k],
                    own_bits=1 if is_spike else _value_bits(before, values[k]),
                    is_spike=is_spike,
                    inputs=size_of(shapes[k]) + stage.fed,
                    lanes=min(lanes, -(-stage.channels // FEWEST_ROWS)),
                    steps=1 if constant and not ends else network.time_steps,
                    constant=ends,
                    loadable=loadable,
                )
            )
        before = before if isinstance(stage, FlattenStage) else stage
    return found


def _require_linear(
    network: IntegerNetwork, k: int, stage: AnyStage, before: AnyStage | None
) -> None:
    """Refuse a stage without a circuit."""
    name = getattr(stage, "name", f"stage {k}")
    if isinstance(stage, PoolStage):
        problem = f"a pooling of kind {stage.kind!r} has no circuit"
    elif isinstance(stage, WeightStage) and stage.kind == "conv":
        problem = "a convolution has no circuit"
    elif isinstance(stage, NeuronStage) and not isinstance(before, WeightStage):
        problem = "these neurons have no linear layer before them"
    elif isinstance(stage, WeightStage) and stage.delay and network.repeated and before is None:
        problem = "a recurrent layer that receives a repeated sample has no circuit"
    else:
        return
    raise UnsupportedError(
        f"network {network.name}: {name}", problem, ACCEPTED, "Use --backend c for this network."
    )


def _gives_spikes(network: IntegerNetwork, before: AnyStage | None) -> bool:
    if before is None:
        return network.input.are_spikes
    return isinstance(before, NeuronStage) and not isinstance(before.output.type, Bits)


def _value_bits(before: AnyStage | None, values: ValueSpan) -> int:
    """Return the width of the numbers that reach a layer."""
    if isinstance(before, NeuronStage) and isinstance(before.output.type, Bits):
        return before.output.type.width
    return before.output.width if isinstance(before, WeightStage) else values.width


def sample_entry(network: IntegerNetwork) -> dict[str, int]:
    """Return the numbers of a sample as in the manifest: inputs, scores of a label, labels."""
    return {
        "inputs": network.sample_size,
        "scores": network.classes,
        "labels": network.labels,
    }


def layer_entries(layers: Sequence[Layer]) -> list[dict[str, Any]]:
    """Return the layers as in the manifest."""
    return [
        {
            "layer": layer.stage.name,
            "inputs": layer.inputs,
            "outputs": layer.outputs,
            "weight_bits": layer.stage.bits,
            "accumulator_bits": layer.accumulator,
            "bound": layer.bound,
            "lanes": layer.lanes,
            "cycles_per_event": layer.rows,
            "weight_memory_bits": layer.depth * layer.lanes * layer.stage.bits,
        }
        for layer in layers
    ]


def bits_for(count: int) -> int:
    """Return the width of a number below `count`."""
    return max(1, (count - 1).bit_length())


# Memories of a synapse as lines for `$readmemh`: weights, biases, scales.


def memory_files(layer: Layer) -> dict[str, str]:
    """Return file -> text of the memories of a layer, in rtl/.

    The rows of weights of input 0 come first, and lane 0 has the lowest bits. A word of scales is
    the multiplier of a sum, then its shift to the left beyond the least one.
    """
    stage, bits = layer.stage, layer.accumulator
    weights = [w for column in stage.weight.T.tolist() for w in _rows(layer, column, stage.bits)]
    factors = stage.multipliers if layer.multiplies else [0] * layer.outputs
    least, low = min(layer.amounts), layer.amount_bits
    scales = [k << low | a - least for k, a in zip(factors, layer.amounts, strict=True)]
    words = (
        (weights, layer.lanes * stage.bits),
        ([int(b) & ((1 << bits) - 1) for b in stage.bias], bits),
        (scales, layer.scale_bits),
    )
    return {
        f"rtl/{name}": hex_text(layer.network, numbers, width)
        for name, (numbers, width) in zip(layer.memories, words, strict=False)
    }


def _rows(layer: Layer, numbers: list[int], width: int) -> list[int]:
    """Return numbers in rows of `lanes`, with zeros at the end."""
    size, mask = layer.rows * layer.lanes, (1 << width) - 1
    filled = [*numbers, *[0] * (size - len(numbers))]
    return [
        sum((filled[first + p] & mask) << (p * width) for p in range(layer.lanes))
        for first in range(0, size, layer.lanes)
    ]


# Modules of a layer: events of its inputs, and the synapse that adds weights.


MOST_WORDS = 1 << 10
"""Most events that wait between two layers."""
LEAST_ROWS = 64
"""Least rows of weights that are worth a block RAM."""


def waiting_words(layer: Layer) -> int:
    """Return the words of the memory of events: those of a time step, up to `MOST_WORDS`."""
    return min(1 << max(layer.inputs.bit_length(), 2), MOST_WORDS)


def events_module(layer: Layer) -> str:
    """Return the module `<prefix>_events`."""
    size = waiting_words(layer)
    view = {
        "family": layer.network,
        "top": f"{layer.prefix}_events",
        "layer": layer,
        "value_note": "spikes" if layer.is_spike else f"numbers of {layer.value_bits} bits",
        "size": size,
        "place_bits": bits_for(layer.inputs),
        "stride": f"{layer.address_bits}'d{layer.rows if layer.inputs > 1 else 0}",
        "width": 1 + layer.address_bits + layer.value_bits,
        "pointer": bits_for(size),
    }
    return render("network_verilog/events.v.j2", view)


def feedback_module(layer: Layer) -> str:
    """Return the module `<prefix>_feedback`."""
    bits, extra = layer.value_bits, layer.value_bits - layer.own_bits
    own = f"{{{{{extra}{{s_value[{layer.own_bits - 1}]}}}}, s_value}}" if extra else "s_value"
    view = feedback_view(layer) | {
        "place_bits": bits_for(layer.inputs),
        "step_bits": bits_for(layer.steps),
        "own_value": own,
        "spike_value": "fed" if bits == 1 else f"(fed ? {bits}'d{layer.spike} : {bits}'d0)",
    }
    return render("network_verilog/feedback.v.j2", view)


def feedback_view(layer: Layer) -> dict[str, object]:
    """Return what both the module of the feedback and its proof are rendered from."""
    size = layer.stage.delay * layer.outputs
    return {
        "family": layer.network,
        "top": f"{layer.prefix}_feedback",
        "layer": layer,
        "size": size,
        "wait_bits": bits_for(layer.stage.delay + 1),
        "at_bits": bits_for(size),
        "number_bits": bits_for(layer.outputs),
    }


def synapse_module(layer: Layer) -> str:
    """Return the module `<prefix>_synapse`."""
    in_block = layer.depth >= LEAST_ROWS and not layer.loadable
    view = {
        "family": layer.network,
        "top": f"{layer.prefix}_synapse",
        "layer": layer,
        "scaled_note": scaled_note(layer),
        "rom": '(* rom_style = "block" *) ' if in_block else "",
        "value_range": "" if layer.is_spike else f"signed [{layer.value_bits - 1}:0] ",
        "row_bits": bits_for(layer.rows),
        "lane_bits": bits_for(layer.lanes),
        "number_bits": bits_for(layer.outputs),
        "step_bits": bits_for(layer.steps),
        "addend": "weight" if layer.is_spike else "weight * value_2",
        "extended": _extended("addend", layer.addend_bits, layer.accumulator),
        **_leaving(layer),
    }
    return render("network_verilog/synapse.v.j2", view)


def scaled_note(layer: Layer) -> str:
    """Return the output of a sum, as a comment; without a right shift nothing is rounded."""
    exact = "multiplier[o] * sum[o]" if layer.multiplies else "sum[o]"
    low, high = min(layer.stage.shifts), max(layer.stage.shifts)
    if low == high == 0:
        return f"saturate({exact})"
    if high <= 0:
        ends = f", k from {-high} to {-low}" if low < high else ""
        return f"saturate({exact} * 2^{'k[o]' if ends else -low}){ends}"
    ends = f", shift from {low} to {high}" if low < high else ""
    return f"saturate(half_up({exact} / 2^{'shift[o]' if ends else high})){ends}"


def _leaving(layer: Layer) -> dict[str, object]:
    """Return the expressions by which a sum is scaled, rounded and saturated."""
    acc, product, wide = layer.accumulator, layer.product_bits, layer.shifted_bits
    low = layer.amount_bits
    factor = f"$signed({{1'b0, scale_3[{layer.scale_bits - 1}:{low}]}})"
    least = min(layer.amounts)
    shifted = _extended("product_4", product, wide)
    shifted = f"{shifted} << {least}" if least else shifted
    lines, name, width = [], "shifted_5", wide
    if layer.right:
        half = f"{wide + 1}'d{1 << (layer.right - 1)}"
        lines.append(f"wire [{wide}:0] rounded = {{shifted_5[{wide - 1}], shifted_5}} + {half};")
        lines.append(f"wire unused = &{{1'b0, rounded[{layer.right - 1}:0]}};")
        name, width = "result", wide + 1 - layer.right
        lines.append(f"wire [{width - 1}:0] result = rounded[{wide}:{layer.right}];")
    bits = layer.stage.output.width
    saturated = _extended(name, width, bits)
    if width > bits:
        top = f"{name}[{width - 1}:{bits - 1}]"
        lines.append(f"wire fits = &{top} || !(|{top});")
        sign = f"{name}[{width - 1}]"
        saturated = f"fits ? {name}[{bits - 1}:0] : {{{sign}, {{{bits - 1}{{!{sign}}}}}}}"
    return {
        "selected": f"held_1[lane_1 * {acc} +: {acc}]" if layer.lanes > 1 else "held_1",
        "product": f"sum_3 * {factor}" if layer.factor_bits else "sum_3",
        "shifted": f"({shifted}) << amount_4" if low else shifted,
        "rounding": lines,
        "saturated": saturated,
    }


def _extended(name: str, width: int, wide: int) -> str:
    """Return a signed number in more bits."""
    if wide <= width:
        return name
    return f"{{{{{wide - width}{{{name}[{width - 1}]}}}}, {name}}}"
