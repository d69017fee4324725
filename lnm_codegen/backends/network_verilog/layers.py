"""Layers of weights and poolings of a network as circuits: sizes, widths, cycles."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeAlias

from lnm_codegen.errors import UnsupportedError
from lnm_codegen.ir.network.nodes import (
    AddStage,
    FlattenStage,
    IntegerNetwork,
    Integers,
    NeuronStage,
    PoolStage,
    Shape,
    ValueSpan,
    WeightStage,
    operands,
    size_of,
    sources_of,
    values_of_bits,
    width_of,
)
from lnm_codegen.ir.network.verify import MOST_MULTIPLIER, SHIFTS
from lnm_codegen.ir.types import Bits

LANES = 4
"""Weights that a synapse adds in one cycle, by default."""
MOST_LANES = 64
MOST_PER_CYCLE = 16
FEWEST_ROWS = 4
"""Least rows of accumulators of a linear layer: a row is written three cycles after it is read."""
WAITS = FEWEST_ROWS - 1
"""Most cycles that an event of a convolution waits for rows of the event before."""
SHIFT_MARGIN = 2
"""How far a loaded shift may be beyond those of the network: a scale four times as large."""
DRAIN = 8
"""Cycles from the last event of a time step to its first sum, and from the last sum on."""
ACCEPTED = "linear layers, recurrent or not, convolutions, poolings, additions; neurons after them"
FEWEST_WORDS = 4
"""Least words of a memory that waits for another stream."""


@dataclass(frozen=True, slots=True)
class Axis:
    """The places of a convolution's window along one axis, in pixels.

        output o reads the inputs o * stride - padding to o * stride - padding + kernel - 1

    Attributes:
        inputs: Size of the input.
        outputs: Size of the output.
        kernel: Size of the window.
        stride: Distance of two windows.
        padding: Zeros on each side.
    """

    inputs: int
    outputs: int
    kernel: int
    stride: int
    padding: int

    def reached(self, place: int) -> range:
        """Return the outputs that read an input."""
        padded = place + self.padding
        first = max(0, -((self.kernel - 1 - padded) // self.stride))
        return range(first, min(self.outputs - 1, padded // self.stride) + 1)

    def flipped(self, place: int) -> int:
        """Return where the weight of the first of these outputs is, in the flipped kernel.

        That of the next output is `stride` further.
        """
        first = self.reached(place).start
        return self.kernel - 1 - (place + self.padding - first * self.stride)

    @property
    def most(self) -> int:
        """Most outputs that read an input."""
        return max(len(self.reached(place)) for place in range(self.inputs))


@dataclass(frozen=True, slots=True)
class Slice:
    """A block of the output channels of a stage: number `place` of `count` equal ones."""

    place: int
    count: int

    @property
    def is_first(self) -> bool:
        """Whether it is the first one."""
        return self.place == 0

    @property
    def ending(self) -> str:
        """End of its names in Verilog; empty if there is one slice."""
        return f"_{self.place}" if self.count > 1 else ""

    @property
    def title(self) -> str:
        """End of its title; empty if there is one slice."""
        return f", slice {self.place}" if self.count > 1 else ""

    def of(self, numbers: Integers) -> Integers:
        """Return its block of numbers by channel or by neuron; one number is that of all."""
        if len(numbers) == 1:
            return numbers
        size = len(numbers) // self.count
        return numbers[self.place * size : (self.place + 1) * size]

    def weights(self, stage: WeightStage) -> WeightStage:
        """Return its weights of a layer."""
        if self.count == 1:
            return stage
        return replace(
            stage,
            name=f"{stage.name}{self.title}",
            weight=self.of(stage.weight),
            bias=self.of(stage.bias),
            multiplier=self.of(stage.multiplier),
            shift=self.of(stage.shift),
        )

    def neurons(self, stage: NeuronStage | None) -> NeuronStage | None:
        """Return its neurons of a layer."""
        if stage is None or self.count == 1:
            return stage
        coefficients, initial = (
            tuple((name, self.of(numbers)) for name, numbers in table)
            for table in (stage.coefficients, stage.initial)
        )
        name = f"{stage.name}{self.title}"
        return replace(stage, name=name, coefficients=coefficients, initial=initial)

    def shape(self, shape: Shape) -> Shape:
        """Return the shape of its block of values."""
        return (shape[0] // self.count, *shape[1:])


@dataclass(frozen=True, kw_only=True)
class StreamPart:
    """A part of the circuit that turns streams into a stream, and the neurons that follow, if any.

    Attributes:
        network: Name of the network.
        name: Name in Verilog.
        slice: Which block of the channels it is.
        index: Its stage.
        reads: The stages that it reads.
        neurons: The next neurons, or None.
        shape: Shape of its inputs.
        steps: Time steps of a sample.
    """

    network: str
    name: str
    slice: Slice
    index: int
    reads: tuple[int, ...]
    neurons: NeuronStage | None
    shape: Shape
    steps: int

    @property
    def prefix(self) -> str:
        """Prefix of its modules and memories."""
        return f"{self.network}_{self.name}{self.slice.ending}"

    @property
    def title(self) -> str:
        """Its name for readers."""
        return f"{self.name}{self.slice.title}"

    @property
    def modules(self) -> tuple[str, ...]:
        """Names of its modules, without its neurons."""
        return (self.prefix,)

    @property
    def inputs(self) -> int:
        """Inputs of a time step, of each stream."""
        return size_of(self.shape)

    @property
    def outputs(self) -> int:
        """Outputs of a time step."""
        return self.inputs


@dataclass(frozen=True, kw_only=True)
class Layer(StreamPart):
    """A linear layer or a convolution.

    A layer of several slices is as many of these, each with the weights of a block of the output
    channels. The first one has the events of all. The shape is that of the inputs of all, without
    the feedback.

    Attributes:
        taken: Inputs that arrive in a cycle: the slices of the stage that it reads.
        stage: Its weights.
        values: Values of its inputs.
        own_bits: Width of an input from the layer before; a spike has 1 bit without a sign.
        is_spike: Inputs are spikes.
        lanes: Weights that are added in one cycle.
        constant: The sums of one time step serve all steps.
        loadable: Trained numbers can be loaded, so that any of their formats may occur.
        is_fast: Few accumulators are registers.
    """

    taken: int
    stage: WeightStage
    values: ValueSpan
    own_bits: int
    is_spike: bool
    lanes: int
    constant: bool
    loadable: bool
    is_fast: bool

    @property
    def events(self) -> str:
        """Name of the module of its events, that of all slices."""
        return f"{self.network}_{self.name}_events"

    @property
    def title(self) -> str:
        """Name of the layer in the trained network."""
        return self.stage.name

    @property
    def own_inputs(self) -> int:
        """Inputs of a time step from the layer before."""
        return size_of(self.shape)

    @property
    def inputs(self) -> int:
        """Inputs of a time step, those of the feedback too."""
        return self.own_inputs + self.stage.fed

    @property
    def is_conv(self) -> bool:
        """Whether the layer is a convolution."""
        return self.stage.kind == "conv"

    @property
    def axes(self) -> tuple[Axis, Axis]:
        """The window of a convolution from top to bottom, and from left to right."""
        stage, (_, *outputs) = self.stage, self.stage.output_shape(self.shape)
        down, across = (
            Axis(*sizes, stage.stride, stage.padding)
            for sizes in zip(self.shape[1:], outputs, stage.weight.shape[2:], strict=True)
        )
        return down, across

    @property
    def kernel(self) -> int:
        """Number of weights of a window, of one channel."""
        return size_of(self.stage.weight.shape[2:])

    @property
    def positions(self) -> int:
        """Number of windows; 1 in a linear layer."""
        return size_of(self.stage.output_shape(self.shape)[1:])

    @property
    def groups(self) -> int:
        """Number of groups of `lanes` output channels."""
        return -(-self.channels // self.lanes)

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
        feedback = (f"{self.prefix}_feedback",) if self.stage.delay else ()
        events = (self.events,) if self.slice.is_first else ()
        return (*feedback, *events, f"{self.prefix}_synapse")

    @property
    def memories(self) -> tuple[str, ...]:
        """Files of its memories, in rtl/."""
        scales = ("scales",) if self.scale_bits else ()
        return tuple(f"{self.prefix}_{word}.hex" for word in ("weights", "biases", *scales))

    @property
    def channels(self) -> int:
        """Number of output channels; in a linear layer, of sums."""
        return self.stage.channels

    @property
    def outputs(self) -> int:
        """Number of sums."""
        return self.channels * self.positions

    @property
    def rows(self) -> int:
        """Rows of accumulators; in the memory of a linear layer at least `FEWEST_ROWS`."""
        if self.is_conv:
            return self.groups * self.positions
        return self.groups if self.in_registers else max(self.groups, FEWEST_ROWS)

    @property
    def in_registers(self) -> bool:
        """Whether the accumulators are registers: fewer rows, and an event takes fewer cycles."""
        return self.is_fast and not self.is_conv and self.groups < FEWEST_ROWS

    @property
    def frees_early(self) -> bool:
        """Whether the second memory takes new sums as soon as the last one of it has been read."""
        return self.is_fast and not self.is_conv and not (self.constant and self.steps > 1)

    @property
    def event_rows(self) -> int:
        """Rows of weights of an event: its cycles, at most."""
        if self.is_conv:
            down, across = self.axes
            return self.groups * down.most * across.most
        return self.rows

    @property
    def depth(self) -> int:
        """Rows of weights in the memory."""
        if self.is_conv:
            return self.shape[0] * self.groups * self.kernel
        return self.inputs * self.rows

    @property
    def address_bits(self) -> int:
        """Width of the address of a row of weights."""
        return bits_for(self.depth)

    @property
    def bias_bits(self) -> int:
        """Width of a bias; one that is loaded has the accumulator of the network."""
        return self.stage.accumulator if self.loadable else self.accumulator

    @cached_property
    def bound(self) -> int:
        """The largest magnitude of an accumulator."""
        if not self.loadable:
            return self.stage.bound(self.values)
        most, size = 1 << (self.bias_bits - 1), 1 << (self.stage.bits - 1)
        own = (size_of(self.stage.weight.shape[1:]) - self.stage.fed) * self.values.magnitude
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
        return max(0, self.shift_span[1])

    @property
    def shift_span(self) -> tuple[int, int]:
        """The least and the largest shift of a sum; `SHIFT_MARGIN` more where they are loaded."""
        low, high = min(self.stage.shifts), max(self.stage.shifts)
        if not self.loadable:
            return low, high
        return max(low - SHIFT_MARGIN, SHIFTS[0]), min(high + SHIFT_MARGIN, SHIFTS[1])

    @property
    def least_amount(self) -> int:
        """The least of `amounts`, those of loaded shifts too."""
        return self.right - self.shift_span[1]

    @property
    def amounts(self) -> tuple[int, ...]:
        """Shift to the left of each sum before the common right shift."""
        return tuple(self.right - shift for shift in self.stage.shifts)

    @property
    def product_bits(self) -> int:
        """Width of a sum times its multiplier."""
        return self.accumulator + (width_of((0, self.factor)) if self.multiplies else 0)

    @property
    def factor(self) -> int:
        """The largest multiplier, also of loaded scales."""
        any_other = self.loadable and self.multiplies
        return MOST_MULTIPLIER if any_other else max(self.stage.multipliers)

    @cached_property
    def shifted_bits(self) -> int:
        """Width of the largest product after its shift to the left."""
        spans, amounts = self.stage.scaled_spans(self.values), self.amounts
        if self.loadable:
            spans = [(-self.bound * self.factor, self.bound * self.factor)]
            amounts = (self.least_amount + (1 << self.amount_bits) - 1,)  # of any loaded word
        widths = (width_of(s) + amount for s, amount in zip(spans, amounts, strict=True))
        return max(*widths, self.product_bits, self.right + 1)

    @property
    def amount_bits(self) -> int:
        """Width of a shift to the left; 0 if all are equal."""
        low, high = self.shift_span
        return (high - low).bit_length()

    @property
    def factor_bits(self) -> int:
        """Width of a multiplier, without a sign; 0 if all are 1."""
        return self.factor.bit_length() if self.multiplies else 0

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
        taken, waits = 1 if self.constant else self.steps, WAITS if self.is_conv else 0
        return taken * (self.inputs * (self.event_rows + waits) + self.rows + DRAIN)

    @property
    def leaving(self) -> int:
        """Most cycles in which a sample's sums leave, if the neurons take each at once."""
        return self.steps * (self.outputs + 2 * DRAIN)


@dataclass(frozen=True, kw_only=True)
class Pooling(StreamPart):
    """A pooling.

    Attributes:
        stage: Its kind and its size.
        own_bits: Width of an input; a spike has 1 bit without a sign.
        is_spike: Inputs are spikes.
        out_bits: Width of an output.
        gives_spikes: Outputs are spikes.
    """

    stage: PoolStage
    own_bits: int
    is_spike: bool
    out_bits: int
    gives_spikes: bool

    @property
    def title(self) -> str:
        """Its name, kind and size."""
        kind = f"{self.stage.kind}, {self.stage.size} x {self.stage.size}"
        return f"{self.name} ({kind}){self.slice.title}"

    @property
    def outputs(self) -> int:
        """Outputs of a time step."""
        return size_of(self.stage.output_shape(self.shape))


@dataclass(frozen=True, kw_only=True)
class Addition(StreamPart):
    """An addition of two streams. The second one waits in a memory until the first one comes.

    Attributes:
        stage: Its output format.
        values: Values of both streams.
        are_spikes: Whether each stream has spikes.
        own_bits: Width of a number of the first stream; a spike has 1 bit without a sign.
        other_bits: The same of the second one.
        out_bits: Width of an output.
        waiting: Numbers of the second stream that wait.
    """

    stage: AddStage
    values: tuple[ValueSpan, ValueSpan]
    are_spikes: tuple[bool, bool]
    own_bits: int
    other_bits: int
    out_bits: int
    waiting: int

    @property
    def words(self) -> int:
        """Words of the memory, a power of two."""
        return 1 << bits_for(max(self.waiting, FEWEST_WORDS))


Part: TypeAlias = Layer | Pooling | Addition


@dataclass(frozen=True, slots=True)
class _Signal:
    """The numbers of a stage on the circuit.

    Attributes:
        source: The stage whose stream they are: not a flatten and not a branch. -1 is the input.
        bits: Width of a number; a spike has 1 bit without a sign.
        is_spike: They are spikes.
        layers: Most layers of weights on the way from the input.
        origins: The stages of streams on all ways from the input, this one too.
    """

    source: int
    bits: int
    is_spike: bool
    layers: int
    origins: frozenset[int]

    def is_ahead_of(self, other: _Signal) -> bool:
        """Whether a number comes before that of another stream, which it may depend on."""
        return other.layers > self.layers or self.source in other.origins


def parts_of(
    network: IntegerNetwork, lanes: int = LANES, loadable: bool = False, per_cycle: int = 1
) -> tuple[Part, ...]:
    """Return the layers of weights, the poolings and the additions of a network, in order.

    The slices of a stage follow one another.

    Args:
        network: The network.
        lanes: Most weights that a layer adds in a cycle.
        loadable: Trained numbers can be loaded.
        per_cycle: Most neurons of a layer that are updated in a cycle.

    Raises:
        UnsupportedError: Neurons or a readout without a layer of weights before them, or a stage
            that reads numbers of one step where it needs those of each.
    """
    built = _Builder(network, lanes, loadable, per_cycle)
    for k in range(len(network.stages)):
        built.add(k)
    if not any(isinstance(part, Layer) for part in built.found):
        raise UnsupportedError(f"network {network.name}", "no layer of weights", ACCEPTED)
    return tuple(built.found)


class _Builder:
    """The parts of the stages so far, and the numbers of each stage, those of the input first."""

    def __init__(self, network: IntegerNetwork, lanes: int, loadable: bool, per_cycle: int) -> None:
        self.network, self.lanes, self.loadable, self.per_cycle = (
            network,
            lanes,
            loadable,
            per_cycle,
        )
        self.shapes, self.values = network.shapes(), value_spans(network, loadable)
        self.counts = slice_counts(network, per_cycle)
        lead = range(network.constant_stages)
        weights = (k for k in lead if isinstance(network.stages[k], WeightStage))
        self.repeating = max(weights, default=-1)
        self.found: list[Part] = []
        own = network.input
        bits = 1 if own.are_spikes else own.width
        self.signals = [_Signal(-1, bits, own.are_spikes, 0, frozenset({-1}))]

    def add(self, k: int) -> None:
        """Add the parts of a stage, and what is known of its numbers."""
        stage = self.network.stages[k]
        read = operands(k, stage, self.signals)
        _require_circuit(self.network, k, self.repeating)
        _require_rate(self.network, k, self.repeating, read)
        match stage:
            case WeightStage():
                made = self._weights(k, stage, read[0])
            case PoolStage():
                made = self._pooling(k, stage, read[0])
            case AddStage():
                made = self._addition(k, stage, read)
            case NeuronStage():
                number = stage.output.type
                is_number = isinstance(number, Bits)
                made = number.width if isinstance(number, Bits) else 1, not is_number
            case _:
                self.signals.append(read[0])
                return
        layers = max(signal.layers for signal in read) + isinstance(stage, WeightStage)
        origins = frozenset({k}).union(*(signal.origins for signal in read))
        self.signals.append(_Signal(k, *made, layers, origins))

    def _slices(self, k: int) -> list[dict[str, Any]]:
        """Return what every part of a stage has, for each slice."""
        network, shape = self.network, self.shapes[k]
        after = (*network.stages[k + 1 :], None)[0]
        is_weights = isinstance(network.stages[k], WeightStage)
        slices = [Slice(n, self.counts[k + 1]) for n in range(self.counts[k + 1])]
        return [
            {
                "network": network.name,
                "slice": one,
                "index": k,
                "neurons": one.neurons(after if isinstance(after, NeuronStage) else None),
                "shape": shape if is_weights else one.shape(shape),
                "steps": 1 if k < self.repeating else network.time_steps,
            }
            for one in slices
        ]

    def _named(self, name: str) -> str:
        while name in {part.name for part in self.found}:
            name += "_"
        return name

    def _numbered(self, word: str, kind: type) -> str:
        own = {part.index for part in self.found if isinstance(part, kind)}
        return self._named(f"{word}_{len(own)}")

    def _weights(self, k: int, stage: WeightStage, read: _Signal) -> tuple[int, bool]:
        """Add a layer of weights; return the width of its sums, and that they are no spikes."""
        slices, is_fast = self._slices(k), self.per_cycle > 1
        fewest = 1 if stage.kind == "conv" or is_fast else FEWEST_ROWS
        channels = stage.channels // len(slices)
        name = self._named(re.sub(r"\W", "_", stage.name, flags=re.ASCII).lower())
        self.found += [
            Layer(
                **given,
                name=name,
                reads=(read.source,),
                taken=self.counts[read.source + 1],
                stage=given["slice"].weights(stage),
                values=operands(k, stage, self.values)[0],
                own_bits=read.bits,
                is_spike=read.is_spike,
                lanes=min(max(self.lanes // len(slices), 1), -(-channels // fewest)),
                constant=k == self.repeating,
                loadable=self.loadable,
                is_fast=is_fast,
            )
            for given in slices
        ]
        return stage.output.width, False

    def _pooling(self, k: int, stage: PoolStage, read: _Signal) -> tuple[int, bool]:
        """Add a pooling; return the width of its outputs, and whether they are spikes."""
        is_max = stage.kind == "max"
        wide = read.bits if is_max else max(read.bits, self.values[k + 1].width)
        gives_spikes, name = read.is_spike and is_max, self._numbered("pool", Pooling)
        self.found += [
            Pooling(
                **given,
                name=name,
                reads=(read.source,),
                stage=stage,
                own_bits=read.bits,
                is_spike=read.is_spike,
                out_bits=wide,
                gives_spikes=gives_spikes,
            )
            for given in self._slices(k)
        ]
        return wide, gives_spikes

    def _addition(self, k: int, stage: AddStage, read: list[_Signal]) -> tuple[int, bool]:
        """Add an addition; return the width of its outputs, and that they are no spikes."""
        first, second = zip(read, operands(k, stage, self.values), strict=True)
        by_turns = self.lanes == 1 and not self.loadable  # an array holds the first results
        is_ahead = first[0].is_ahead_of(second[0])
        if first[0].source < second[0].source if by_turns else is_ahead:
            first, second = second, first  # the later stream is the first one
        (own, values), (other, others) = first, second
        ahead = own.layers - other.layers + (other.source in own.origins)
        name, slices = self._numbered("add", Addition), self._slices(k)
        wide = self.values[k + 1].width
        self.found += [
            Addition(
                **given,
                name=name,
                reads=(own.source, other.source),
                stage=stage,
                values=(values, others),
                are_spikes=(own.is_spike, other.is_spike),
                own_bits=own.bits,
                other_bits=other.bits,
                out_bits=wide,
                waiting=max(ahead, by_turns) * size_of(self.shapes[k]) // len(slices),
            )
            for given in slices
        ]
        return wide, False


def slice_counts(network: IntegerNetwork, per_cycle: int) -> list[int]:
    """Return the slices of the input, then those of each stage: at most `per_cycle`.

    They divide the channels of every layer whose values are added, pooled or reset together. The
    input, the scores, and what a recurrent layer reads and gives, come one by one.
    """
    stages, group = network.stages, list(range(len(network.stages) + 1))
    for k, stage in enumerate(stages):
        if not isinstance(stage, WeightStage):
            for source in sources_of(k, stage):
                old, new = group[source + 1], group[k + 1]
                group = [new if one == old else one for one in group]
    channels = [0] * len(group)
    single = {group[0], group[-1]}
    for k, stage in enumerate(stages):
        if isinstance(stage, WeightStage):
            channels[group[k + 1]] = math.gcd(channels[group[k + 1]], stage.channels)
            if stage.delay:
                single |= {group[k], group[k + 1]}

    def count(one: int) -> int:
        if one in single:
            return 1
        return max(n for n in range(1, per_cycle + 1) if channels[one] % n == 0)

    return [count(one) for one in group]


def value_spans(network: IntegerNetwork, loadable: bool) -> tuple[ValueSpan, ...]:
    """Return the values of the input, then of the output of each stage.

    Where coefficients are loaded, neurons may give any number of their format.
    """
    found = [network.input]
    for k, stage in enumerate(network.stages):
        if loadable and isinstance(stage, NeuronStage) and isinstance(stage.output.type, Bits):
            found.append(values_of_bits(stage.output.type))
        else:
            found.append(stage.output_values(*operands(k, stage, found)))
    return tuple(found)


def form_in(manifest: Mapping[str, Any]) -> tuple[int, bool, int]:
    """Return lanes, load port and neurons of a cycle of the circuit of a manifest."""
    return manifest["lanes"], manifest["load_port"], manifest["neurons_per_cycle"]


def most_lanes(layers: Sequence[Layer]) -> int:
    """Return the lanes that give these layers again; a slice has at least one."""
    return max(one.lanes * one.slice.count if one.lanes > 1 else 1 for one in layers)


def layers_of(
    network: IntegerNetwork, lanes: int = LANES, loadable: bool = False, per_cycle: int = 1
) -> tuple[Layer, ...]:
    """Return the layers of weights of a network, in order; `parts_of` without the others."""
    parts = parts_of(network, lanes, loadable, per_cycle)
    return tuple(part for part in parts if isinstance(part, Layer))


def _require_circuit(network: IntegerNetwork, k: int, repeating: int) -> None:
    """Refuse a stage without a circuit; stage `repeating` gives a repeated sample again."""
    stage, name = network.stages[k], getattr(network.stages[k], "name", f"stage {k}")
    ahead = [s for s in network.stages[:k] if not isinstance(s, FlattenStage)]
    is_neurons = isinstance(stage, NeuronStage)
    if is_neurons and not (ahead and isinstance(ahead[-1], WeightStage | PoolStage | AddStage)):
        problem = "these neurons have no layer of weights before them"
    elif network.repeated and k == network.constant_stages and repeating < 0:
        subject = "a layer of neurons" if is_neurons else "a recurrent layer"
        problem = f"{subject} that receives a repeated sample has no circuit"
    else:
        return
    raise UnsupportedError(
        f"network {network.name}: {name}", problem, ACCEPTED, "Use --backend c for this network."
    )


def _require_rate(network: IntegerNetwork, k: int, repeating: int, read: Sequence[_Signal]) -> None:
    """Refuse a stage that reads one step where it needs one for each time step."""
    if network.time_steps == 1 or repeating < 0 or k <= repeating:
        return
    if all(signal.source >= repeating for signal in read):
        return
    problem = "it reads numbers of one step, and the network repeats a later layer"
    raise UnsupportedError(
        f"network {network.name}: stage {k}", problem, ACCEPTED, "Use --backend c for this network."
    )


def sample_entry(network: IntegerNetwork) -> dict[str, int]:
    """Return the numbers of a sample as in the manifest: inputs, scores of a label, labels."""
    return {
        "inputs": network.sample_size,
        "scores": network.classes,
        "labels": network.labels,
    }


def layer_entries(layers: Sequence[Layer]) -> list[dict[str, Any]]:
    """Return the layers as in the manifest, all slices of a layer as one."""
    return [
        {
            "layer": layer.stage.name.removesuffix(layer.slice.title),
            "inputs": layer.inputs,
            "outputs": layer.outputs * layer.slice.count,
            "weight_bits": layer.stage.bits,
            "accumulator_bits": layer.accumulator,
            "bound": max(one.bound for one in layers if one.index == layer.index),
            "lanes": layer.lanes * layer.slice.count,
            "cycles_per_event": layer.event_rows,
            "weight_memory_bits": layer.depth * layer.lanes * layer.slice.count * layer.stage.bits,
        }
        for layer in layers
        if layer.slice.is_first
    ]


def bits_for(count: int) -> int:
    """Return the width of a number below `count`."""
    return max(1, (count - 1).bit_length())
