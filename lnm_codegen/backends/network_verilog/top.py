"""Design of a network's circuit, with the modules of the whole network: readout and top."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from lnm_codegen.backends.network_verilog.arrays import NeuronArray, coefficient_rows
from lnm_codegen.backends.network_verilog.layers import (
    DRAIN,
    Addition,
    Layer,
    Part,
    Pooling,
    bits_for,
    value_spans,
)
from lnm_codegen.backends.network_verilog.modules import (
    LayerMemory,
    layer_memories,
    load_bits,
    waiting_words,
    windows_of,
)
from lnm_codegen.backends.render import render
from lnm_codegen.backends.verilog.module import ModulePort, controls, port_lines
from lnm_codegen.ir.network.nodes import IntegerNetwork, ValueSpan
from lnm_codegen.ir.types import Bits


@dataclass(frozen=True, slots=True, eq=False)
class LoadedMemory:
    """A memory that the load port writes, with its number and its place below the top module."""

    number: int
    part: Part
    place: str
    memory: LayerMemory

    def __str__(self) -> str:
        memory, owner = self.memory, self.part.title
        if memory.word == "coefficients" and self.part.neurons is not None:
            owner = self.part.neurons.name
        return f"{self.number}: {memory.word} of {owner}, {len(memory.rows)} x {memory.width} bits"


@dataclass(frozen=True, slots=True)
class MeanCycles:
    """The mean cycles from sample to sample, measured on a number of samples at full speed."""

    cycles: float
    samples: int


@dataclass(frozen=True, eq=False)
class NetworkDesign:
    """A network as its circuit is built from it.

    Attributes:
        network: The network.
        parts: Its layers of weights, poolings and additions, in order.
        arrays: Name of a layer of neurons -> its array.
        takes_turns: All layers take turns on one array.
        has_axi: There is a wrapper for a system bus.
        per_cycle: Most neurons of a layer that were asked to be updated in a cycle.
        mean: The measured interval, if it was measured.
    """

    network: IntegerNetwork
    parts: tuple[Part, ...]
    arrays: Mapping[str, NeuronArray]
    takes_turns: bool
    has_axi: bool
    per_cycle: int
    mean: MeanCycles | None

    @property
    def name(self) -> str:
        """Name of the network: the prefix of every module."""
        return self.network.name

    @property
    def layers(self) -> tuple[Layer, ...]:
        """Its layers of weights."""
        return tuple(part for part in self.parts if isinstance(part, Layer))

    @property
    def pools(self) -> tuple[Pooling, ...]:
        """Its poolings."""
        return tuple(part for part in self.parts if isinstance(part, Pooling))

    @property
    def additions(self) -> tuple[Addition, ...]:
        """Its additions."""
        return tuple(part for part in self.parts if isinstance(part, Addition))

    def array_of(self, part: Part) -> NeuronArray | None:
        """Return the array of the neurons that follow; None without neurons."""
        return None if part.neurons is None else self.arrays[part.neurons.name]

    @property
    def most_slices(self) -> int:
        """Most slices of a layer: neurons that are updated in a cycle."""
        return max(part.slice.count for part in self.parts)

    @property
    def has_windows(self) -> bool:
        """Whether a layer is a convolution."""
        return any(layer.is_conv for layer in self.layers)

    def next_of(self, part: Part) -> str:
        """Return what follows a part without neurons."""
        after = (p for p in self.parts if part.index in p.reads and p.slice.is_first)
        titles = (p.title.removesuffix(p.slice.title) for p in after)
        return " and ".join(titles) or "readout"

    @property
    def last_index(self) -> int:
        """The stage whose outputs are the scores."""
        last = self.parts[-1]
        return last.index + (last.neurons is not None)

    @property
    def distinct_arrays(self) -> list[NeuronArray]:
        """The arrays, each once."""
        return list({array.name: array for array in self.arrays.values()}.values())

    @property
    def loadable(self) -> bool:
        """Whether trained numbers can be loaded."""
        return self.layers[0].loadable

    @property
    def can_hold(self) -> bool:
        """Whether the top module has the ports hold and idle."""
        return self.loadable or self.has_axi

    @cached_property
    def memories(self) -> tuple[LoadedMemory, ...]:
        """The memories that the load port writes; empty without one."""
        if not self.loadable:
            return ()
        found: list[tuple[Part, str, LayerMemory]] = []
        for part in self.parts:
            number = self.number_of(part)
            if isinstance(part, Layer):
                memories = layer_memories(part)
                found += [(part, f"synapse_{number}.{m.word}", m) for m in memories]
            array = self.array_of(part)
            if array and array.model.coefficients:
                place = f"neurons_{number}.coefficients.memory"
                found.append((part, place, coefficient_rows(array)))
        return tuple(LoadedMemory(k, *each) for k, each in enumerate(found))

    def number_of(self, part: Part) -> str:
        """Return what tells the instances of a part from others."""
        return f"{self.stage_number(part)}{part.slice.ending}"

    def stage_number(self, part: Part) -> str:
        """Return what tells the slices of a stage from those of others."""
        kind = type(part)
        letter = {Layer: "", Pooling: "p", Addition: "a"}[kind]
        same = dict.fromkeys(one.index for one in self.parts if isinstance(one, kind))
        return f"{letter}{list(same).index(part.index)}"

    def slices_of(self, part: Part) -> list[Part]:
        """Return all slices of the stage of a part."""
        return [one for one in self.parts if one.index == part.index]

    @property
    def most_labels(self) -> int:
        """A bound of the labels whose samples are inside.

        A sample that is inside has a word in a memory of events, a neuron in an array, or a number
        on its way between two of them.
        """
        words = [waiting_words(layer) for layer in self.layers]
        words += [array.latency for part in self.parts if (array := self.array_of(part))]
        words += [addition.words for addition in self.additions]
        return self.network.labels * (sum(words) + 4 * DRAIN * len(self.parts))

    @property
    def most_cycles(self) -> int:
        """A bound of the cycles of a sample: every input is an event, no two layers overlap."""
        found = 2 * DRAIN
        for part in self.parts:
            if not part.slice.is_first:  # it works with the first one
                continue
            if isinstance(part, Layer):
                found += part.inputs + part.adding + part.leaving
            else:
                found += part.steps * part.inputs
            if array := self.array_of(part):
                found += part.steps * (array.cycles + array.latency)
        return found

    def interval_of(self, part: Part) -> int:
        """Return a bound of the cycles from sample to sample of a part with its neurons.

        Events are added while sums leave. In a recurrent layer they wait for the spikes.
        """
        array = self.array_of(part)
        if not isinstance(part, Layer):
            tick = max(part.inputs, array.cycles if array else 0)
            return part.steps * (tick + 2 * DRAIN)
        if array is None:
            return max(part.adding, part.leaving)
        if part.stage.delay:
            waits = part.inputs + array.cycles + array.latency
            return part.adding + part.leaving + part.steps * waits
        tick = max(array.cycles, part.outputs) + 2 * DRAIN
        return max(part.adding, part.steps * tick)

    @property
    def interval(self) -> int:
        """A bound of the mean cycles from sample to sample: that of the slowest layer.

        Layers that take turns wait for each other.
        """
        if self.takes_turns:
            return self.most_cycles
        return max(map(self.interval_of, self.parts))

    @property
    def value_bits(self) -> int:
        """Width of the numbers that reach the readout; 0 for spikes."""
        last = self.parts[-1]
        if array := self.array_of(last):
            return array.output.width if isinstance(array.output.var.type, Bits) else 0
        if isinstance(last, Pooling):
            return 0 if last.gives_spikes else last.out_bits
        if isinstance(last, Addition):
            return last.out_bits
        return last.stage.output.width

    @property
    def input_bits(self) -> int:
        """Width of an input; a spike has 1 bit without a sign."""
        return self.parts[0].own_bits

    @property
    def score_bits(self) -> int:
        """Width of a score on the circuit."""
        return max(self.scores.width, self.value_bits or 2)

    @property
    def scores(self) -> ValueSpan:
        """The values of the scores, those of loaded numbers too."""
        last, steps = value_spans(self.network, self.loadable)[-1], self.network.time_steps
        if self.network.over != "mean":
            return last
        return ValueSpan(steps * last.low, steps * last.high, last.frac)

    @property
    def stream_widths(self) -> tuple[int, int, int]:
        """Widths of s_axis_tdata, m_axis_tdata and m_axis_tuser, in whole bytes of bits."""
        widths = self.input_bits, self.score_bits, bits_for(self.network.classes)
        taken, given, label = ((width + 7) // 8 * 8 for width in widths)
        return taken, given, label

    @property
    def load_widths(self) -> dict[str, int]:
        """Width of each number of the load port: memory, address of a row, row; empty without."""
        if not self.loadable:
            return {}
        memories = [loaded.memory for loaded in self.memories]
        return {
            "load_memory": bits_for(len(memories)),
            "load_address": bits_for(max(len(memory.rows) for memory in memories)),
            "load_data": max(memory.width for memory in memories),
        }

    def writes(self, instance: str) -> str:
        """Return a bit for each memory of an instance, the first one lowest: it is written."""
        bits = self.load_widths["load_memory"]
        own = [m.number for m in self.memories if m.place.startswith(f"{instance}.")]
        found = [f"write && load_memory == {bits}'d{number}" for number in reversed(own)]
        return found[0] if len(found) == 1 else f"{{{', '.join(found)}}}"


def described(values: ValueSpan) -> str:
    """Return a sentence about values, for a comment."""
    if values.are_spikes:
        return "0 or 1"
    return f"k for k / 2^{values.frac}, {values.low} to {values.high}"


def readout_module(design: NetworkDesign) -> str:
    """Return the module `<name>_readout`."""
    network, bits, value_bits = design.network, design.score_bits, design.value_bits
    steps = network.time_steps if network.over != "step" else 1  # that a score is made of
    extra = bits - (value_bits or 1)
    over = network.over if steps > 1 else "last"
    fill = f"{{{extra}{{s_value[{value_bits - 1}]}}}}" if value_bits else f"{extra}'d0"
    notes = {
        "mean": "sums over the time steps",
        "last": "those of the last time step",
        "max": "maxima over the time steps",
        "step": "those of each time step",
    }
    view = {
        "family": design.name,
        "top": f"{design.name}_readout",
        "network": network,
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


def top_module(design: NetworkDesign) -> str:
    """Return the module `<name>_network`."""
    network, first, bits = design.network, design.input_bits, design.score_bits
    in_bits, out_bits, label_bits = design.stream_widths
    unused = [f"s_axis_tdata[{in_bits - 1}:{first}]"] if in_bits > first else []
    unused += ["load_address", "load_data"] if design.loadable else []
    lines: list[str] = []
    given: list[_Stream] = []  # into the one array, if layers take turns
    streams = _Streams(design)
    lines += streams.add(-1, "x", ["x"])
    for part in (part for part in design.parts if part.slice.is_first):
        more, stages = _stage_lines(design, part, streams)
        lines += more
        for one, made in zip(design.slices_of(part), stages, strict=True):
            array = design.array_of(one)
            if array is None:
                unused += [f"{made.name}_last", made.clear]
            elif design.takes_turns:
                given.append(made)
            else:
                more, left = _neuron_lines(design, one, array, made)
                lines += more
                unused += left
    if design.takes_turns:
        more, left = _turns_lines(design, given)
        lines += more
        unused += left
    source = streams.taken(design.last_index)
    score = f"{{{{{out_bits - bits}{{score[{bits - 1}]}}}}, score}}"
    classes = bits_for(network.classes)
    fill = label_bits - classes
    view = {
        "family": design.name,
        "name": design.name,
        "layers": [_part_note(design, part) for part in design.parts if part.slice.is_first],
        "input_note": f"{described(network.input)}; {first} bits in {in_bits // 8} byte(s)",
        "network": network,
        "score_note": described(design.scores),
        "ports": port_lines(network_ports(design)),
        "beat_bits": bits_for(network.sample_size),
        "value_bits": first,
        "lines": lines,
        "source": source,
        "score_bits": bits,
        "class_bits": classes,
        "score": score if out_bits > bits else "score",
        "label": f"{{{fill}'d0, label}}" if fill else "label",
        "unused": ", ".join(unused),
        "loadable": design.loadable,
        "can_hold": design.can_hold,
        "memories": [str(loaded) for loaded in design.memories],
        "labels": network.labels,
        "label_count_bits": bits_for(design.most_labels + 1),
        "has_windows": design.has_windows,
    }
    return render("network_verilog/top.v.j2", view)


def _part_note(design: NetworkDesign, part: Part) -> str:
    is_layer, after = isinstance(part, Layer), design.next_of(part)
    after = f"the {after}" if part is design.parts[-1] else after
    if part.neurons is not None:
        after = f"neurons {part.neurons.name.removesuffix(part.slice.title)}"
    all_in = part.inputs if is_layer else part.inputs * part.slice.count
    outputs = part.outputs * part.slice.count
    counts = f"{all_in} inputs, {outputs} {'sums' if is_layer else 'outputs'}"
    counts += f" in {part.slice.count} slices" if part.slice.count > 1 else ""
    cycles = ""
    if isinstance(part, Layer):
        cycles = f"; {'at most ' * part.is_conv}{part.event_rows} cycle(s) an event"
    title = part.title.removesuffix(part.slice.title)
    return f"{title}: {counts}, then {after}{cycles}"


def network_ports(design: NetworkDesign) -> tuple[ModulePort, ...]:
    """Return the ports of `<name>_network`."""
    taken, given, label = design.stream_widths
    found = controls("input", "clk", "rst")
    if design.can_hold:
        found += (*controls("input", "hold"), *controls("output", "idle"))
    if design.loadable:
        found += controls("input", "load")
        for word, width in design.load_widths.items():
            found += (ModulePort("input", word, width, signed=False),)
    return (
        *found,
        *controls("input", "s_axis_tvalid"),
        *controls("output", "s_axis_tready"),
        ModulePort("input", "s_axis_tdata", taken, signed=False),
        *controls("input", "s_axis_tlast"),
        *controls("output", "m_axis_tvalid"),
        *controls("input", "m_axis_tready"),
        ModulePort("output", "m_axis_tdata", given, signed=False),
        ModulePort("output", "m_axis_tuser", label, signed=False),
        *controls("output", "m_axis_tlast"),
        ModulePort("output", "tlast_error", kind="reg"),
    )


@dataclass(frozen=True, slots=True)
class _Tap:
    """What a reader of a stream takes.

    Attributes:
        ready: Wire that the reader drives.
        value: Expression of the value, or of the values of all slices.
        there: Expression: the values are there.
        others: Expression: every other reader takes them; empty without others.
    """

    ready: str
    value: str
    there: str
    others: str = ""

    @classmethod
    def of(cls, name: str) -> _Tap:
        """Return the tap of a stream with one reader."""
        return cls(f"{name}_ready", f"{name}_value", f"{name}_valid")

    @property
    def valid(self) -> str:
        """Expression: the values are there, and every other reader takes them."""
        return f"{self.there} && {self.others}" if self.others else self.there

    @property
    def ports(self) -> str:
        """Connections of the ports of the reader."""
        return f".s_valid({self.valid}), .s_ready({self.ready}), .s_value({self.value})"


class _Streams:
    """The streams of a design by their stages, and forks of those that have several readers.

    A stream of several slices has a number of each. The numbers leave in the cycle in which all are
    there and every reader takes its own.
    """

    def __init__(self, design: NetworkDesign) -> None:
        self._readers: dict[int, int] = {design.last_index: 1}

        def add(k: int, count: int) -> None:
            self._readers[k] = self._readers.get(k, 0) + count

        for part in design.parts:
            if part.neurons is not None:
                add(part.index, 1)
            if part.slice.is_first or not isinstance(part, Layer):
                for k in part.reads:
                    add(k, 1)
        self._taps: dict[int, list[_Tap]] = {}
        self._values: dict[int, list[str]] = {}

    def add(self, k: int, name: str, slices: Sequence[str]) -> list[str]:
        """Add the stream of stage k, and return the wires of its fork.

        `slices` are the streams that it consists of, `name` alone if there is one.
        """
        self._values[k] = [f"{one}_value" for one in slices]
        if self._readers[k] == 1 and len(slices) == 1:
            self._taps[k] = [_Tap.of(name)]
            return []
        ready = [f"{name}_to_{n}_ready" for n in range(self._readers[k])]
        lines, there, whole = [f"wire {', '.join(ready)};"], f"{name}_valid", ready
        if len(slices) > 1:
            there, valids = f"{name}_there", " && ".join(f"{one}_valid" for one in slices)
            lines.append(f"wire {there} = {valids};")
            whole = [there, *ready]
        lines += [f"assign {one}_ready = {' && '.join(whole)};" for one in slices]
        self._taps[k] = [
            _Tap(own, self._values[k][0], there, " && ".join(r for r in ready if r != own))
            for own in ready
        ]
        return lines

    def taken(self, k: int, place: int | None = None) -> _Tap:
        """Return a tap of the stream of stage k, with the value of one slice, or those of all."""
        tap, values = self._taps[k].pop(0), self._values[k]
        if len(values) == 1:
            return tap
        joined = f"{{{', '.join(reversed(values))}}}"
        return replace(tap, value=joined if place is None else values[place])


@dataclass(frozen=True, slots=True)
class _Stream:
    """Numbers of time steps: the wires NAME_valid, NAME_ready, NAME_value and NAME_last.

    Attributes:
        name: Name of the stream.
        clear: Wire that is 1 after the last number of a sample.
        neurons: Name of the neurons that follow, and of the stream of their results.
        bits: Width of a number; 0 for a spike.
        tap: What the neurons take of it; None without neurons.
    """

    name: str
    clear: str
    neurons: str
    bits: int
    tap: _Tap | None = None

    @property
    def taken(self) -> _Tap:
        """What the neurons take."""
        assert self.tap is not None, "there are neurons"
        return self.tap


def _stage_lines(
    design: NetworkDesign, first: Part, streams: _Streams
) -> tuple[list[str], list[_Stream]]:
    """Return the wires and instances of the slices of a stage, and their streams."""
    slices, lines, made = design.slices_of(first), list[str](), list[_Stream]()
    events: list[str] = []
    if isinstance(first, Layer):
        lines, events = _events_lines(design, first, streams.taken(first.reads[0]))
    for part in slices:
        if isinstance(part, Layer):
            more, one = _synapse_lines(design, part, events[part.slice.place])
        else:
            taps = [streams.taken(k, part.slice.place) for k in part.reads]
            if isinstance(part, Pooling):
                more, one = _pool_lines(design, part, *taps)
            else:
                more, one = _add_lines(design, part, *taps)
        lines += more
        made.append(one)
    ending = first.slice.ending
    name, neurons = (word.removesuffix(ending) for word in (made[0].name, made[0].neurons))
    lines += streams.add(first.index, name, [one.name for one in made])
    if first.neurons is not None:
        lines += streams.add(first.index + 1, neurons, [one.neurons for one in made])
        made = [replace(one, tap=streams.taken(first.index, n)) for n, one in enumerate(made)]
    return lines, made


def _events_lines(design: NetworkDesign, layer: Layer, source: _Tap) -> tuple[list[str], list[str]]:
    """Return the wires and instances of the events of a layer, and what its slices take of them."""
    k, slices = design.stage_number(layer), design.slices_of(layer)
    events = f"event_{k}"
    lines = ["", f"// {layer.stage.name.removesuffix(layer.slice.title)}"]
    for one in slices:
        if array := design.array_of(one):
            lines += _neuron_wires(design, f"neuron_{design.number_of(one)}", array)
    if layer.stage.delay:
        fed, neurons = f"fed_{k}", f"neuron_{k}"
        lines += [
            f"wire {fed}_valid, {fed}_ready;",
            f"wire [{layer.value_bits - 1}:0] {fed}_value;",
            f"{layer.prefix}_feedback feedback_{k} (.clk(clk), .rst(rst),",
            f"    {source.ports},",
            f"    .spike_valid({neurons}_valid && {neurons}_ready), .spike({neurons}_value),",
            f"    .m_valid({fed}_valid), .m_ready({fed}_ready), .m_value({fed}_value));",
        ]
        source = _Tap.of(fed)
    place, given = list[str](), list[str]()
    if conv := windows_of(layer):
        place = [
            f"wire [{conv.y_bits - 1}:0] {events}_y;",
            f"wire [{conv.x_bits - 1}:0] {events}_x;",
        ]
        given = [f"    .m_y({events}_y), .m_x({events}_x),"]
    lines += [
        f"wire {events}_valid, {events}_ready, {events}_last;",
        f"wire [{layer.address_bits - 1}:0] {events}_address;",
        *place,
        f"wire [{layer.value_bits - 1}:0] {events}_value;",
        f"{layer.events} events_{k} (.clk(clk), .rst(rst),",
        *_event_ports(layer, source),
        f"    .m_valid({events}_valid), .m_ready({events}_ready), .m_address({events}_address),",
        *given,
        f"    .m_value({events}_value), .m_last({events}_last));",
    ]
    if len(slices) == 1:
        return lines, [events]
    taps = [f"{events}_to_{n}" for n in range(len(slices))]
    ready = [f"{tap}_ready" for tap in taps]
    lines.append(f"wire {', '.join(ready)};")
    for tap in taps:
        others = " && ".join(one for one in ready if one != f"{tap}_ready")
        lines.append(f"wire {tap}_valid = {events}_valid && {others};")
    return [*lines, f"assign {events}_ready = {' && '.join(ready)};"], taps


def _event_ports(layer: Layer, source: _Tap) -> list[str]:
    """Return the connections of the inputs of events."""
    if layer.taken == 1:
        return [f"    {source.ports},"]
    others = source.others or "1'b1"
    return [
        f"    .s_valid({source.there}), .s_ready({source.ready}),",
        f"    .s_others({others}),",
        f"    .s_value({source.value}),",
    ]


def _synapse_lines(design: NetworkDesign, layer: Layer, taken: str) -> tuple[list[str], _Stream]:
    """Return the wires and the instance of the synapse of a slice, and its sums."""
    k, events = design.number_of(layer), f"event_{design.stage_number(layer)}"
    made = _Stream(f"sum_{k}", f"clear_{k}", f"neuron_{k}", layer.stage.output.width)
    sums = made.name
    load: tuple[str, ...] = ()
    if layer.loadable:
        _, address, data = load_bits(layer)
        load = (
            f"    .load({design.writes(f'synapse_{k}')}),",
            f"    .load_address(load_address[{address - 1}:0]),",
            f"    .load_data(load_data[{data - 1}:0]),",
        )
    place = [f"    .s_y({events}_y), .s_x({events}_x),"] if layer.is_conv else []
    return [
        f"wire {sums}_valid, {sums}_ready, {sums}_last, {made.clear};",
        f"wire signed [{made.bits - 1}:0] {sums}_value;",
        f"{layer.prefix}_synapse #(.HEX(HEX)) synapse_{k} (.clk(clk), .rst(rst),",
        *load,
        f"    .s_valid({taken}_valid), .s_ready({taken}_ready), .s_address({events}_address),",
        *place,
        f"    .s_value({events}_value), .s_last({events}_last),",
        f"    .m_valid({sums}_valid), .m_ready({sums}_ready), .m_data({sums}_value),",
        f"    .m_last({sums}_last), .clear({made.clear}));",
    ], made


def _stream_lines(design: NetworkDesign, part: Part, made: _Stream) -> list[str]:
    """Return the wires of the outputs of a pooling or an addition, and of the neurons after it."""
    name, array = made.name, design.array_of(part)
    return [
        "",
        f"// {part.title}",
        *(_neuron_wires(design, made.neurons, array) if array else []),
        f"wire {name}_valid, {name}_ready, {name}_last, {made.clear};",
        f"wire {f'signed [{made.bits - 1}:0] ' if made.bits else ''}{name}_value;",
    ]


def _pool_lines(design: NetworkDesign, pool: Pooling, source: _Tap) -> tuple[list[str], _Stream]:
    """Return the wires and the instance of a pooling, and its outputs."""
    number, bits = design.number_of(pool), 0 if pool.gives_spikes else pool.out_bits
    k = number[1:]
    made = _Stream(f"pooled_{k}", f"clear_{number}", f"neuron_{number}", bits)
    name = made.name
    return [
        *_stream_lines(design, pool, made),
        f"{pool.prefix} pool_{k} (.clk(clk), .rst(rst),",
        f"    {source.ports},",
        f"    .m_valid({name}_valid), .m_ready({name}_ready), .m_data({name}_value),",
        f"    .m_last({name}_last), .clear({made.clear}));",
    ], made


def _add_lines(
    design: NetworkDesign, part: Addition, source: _Tap, other: _Tap
) -> tuple[list[str], _Stream]:
    """Return the wires and the instance of an addition, and its sums."""
    number = design.number_of(part)
    k = number[1:]
    made = _Stream(f"added_{k}", f"clear_{number}", f"neuron_{number}", part.out_bits)
    name = made.name
    return [
        *_stream_lines(design, part, made),
        f"{part.prefix} add_{k} (.clk(clk), .rst(rst),",
        f"    {source.ports},",
        f"    .other_valid({other.valid}), .other_ready({other.ready}),",
        f"    .other_value({other.value}),",
        f"    .m_valid({name}_valid), .m_ready({name}_ready), .m_data({name}_value),",
        f"    .m_last({name}_last), .clear({made.clear}));",
    ], made


def _neuron_wires(design: NetworkDesign, neurons: str, array: NeuronArray) -> list[str]:
    """Return the wires of the results of an array."""
    field = array.output
    sign = f"signed [{field.width - 1}:0] " if isinstance(field.var.type, Bits) else ""
    if design.takes_turns:
        return [
            f"wire {neurons}_valid, {neurons}_ready;",
            f"wire {sign}{neurons}_value;",
        ]
    return [
        f"wire {neurons}_valid, {neurons}_ready, {neurons}_last, {neurons}_error;",
        f"wire [{array.output_bits - 1}:0] {neurons}_data;",
        f"wire {sign}{neurons}_value = {neurons}_data{field.slice};",
    ]


def _padded_value(array: NeuronArray, given: _Stream) -> tuple[str, list[str]]:
    """Return a number as the input of an array, and its wire if a part of it is not read."""
    value = f"{given.name}_value"
    if not given.bits:
        return f"{{{array.input_bits - 1}'d0, {value}}}", []
    extra = array.input_bits - given.bits
    if extra < 0:  # its numbers fit, and its width is larger
        return f"{value}[{array.input_bits - 1}:0]", [value]
    if extra:
        return f"{{{{{extra}{{{value}[{given.bits - 1}]}}}}, {value}}}", []
    return value, []


def _turns_lines(design: NetworkDesign, given: list[_Stream]) -> tuple[list[str], list[str]]:
    """Return the instance of the array on which all layers take turns, and unused wires."""
    array, left = next(iter(design.arrays.values())), ["turns_error"]
    field = array.output
    if array.output_bits > field.width:
        left.append("turns_data")
    lines = [
        "",
        "// the neurons of all layers",
        "wire turns_error;",
        f"wire [{array.output_bits - 1}:0] turns_data;",
        *(f"assign {stream.neurons}_value = turns_data{field.slice};" for stream in given),
        f"{design.name}_turns turns (.clk(clk), .rst(rst), .clear({given[-1].clear}),",
    ]
    for k, stream in enumerate(given):
        value, more = _padded_value(array, stream)
        left += more
        name, neurons, by = stream.name, stream.neurons, stream.taken
        lines += [
            f"    .s{k}_valid({by.valid}), .s{k}_ready({by.ready}),",
            f"    .s{k}_data({value}), .s{k}_last({name}_last),",
            f"    .m{k}_valid({neurons}_valid), .m{k}_ready({neurons}_ready),",
        ]
    lines.append("    .m_data(turns_data), .tlast_error(turns_error));")
    return lines, left + [stream.clear for stream in given[:-1]]


@dataclass(frozen=True, slots=True)
class _Turn:
    """A layer of neurons that takes its turn."""

    number: int
    name: str
    neurons: int


def turns_module(design: NetworkDesign) -> str:
    """Return the module `<name>_turns`."""
    array = next(iter(design.arrays.values()))
    parts = [(part.neurons.name, part.outputs) for part in design.parts if part.neurons is not None]
    turns = [_Turn(k, *each) for k, each in enumerate(parts)]

    def joined(word: str, prefix: str = "s") -> str:
        return f"{{{', '.join(f'{prefix}{turn.number}_{word}' for turn in reversed(turns))}}}"

    view = {
        "family": design.name,
        "top": f"{design.name}_turns",
        "array": array.name,
        "turns": turns,
        "count": len(turns),
        "neurons": sum(turn.neurons for turn in turns),
        "in_bits": array.input_bits,
        "out_bits": array.output_bits,
        "turn_bits": bits_for(len(turns)),
        "left_bits": bits_for(max(turn.neurons for turn in turns)),
        "valids": joined("valid"),
        "lasts": joined("last"),
        "readies": joined("ready", "m"),
        "data": joined("data"),
    }
    return render("network_verilog/turns.v.j2", view)


def _neuron_lines(
    design: NetworkDesign, part: Part, array: NeuronArray, given: _Stream
) -> tuple[list[str], list[str]]:
    """Return the instance of neurons, and unused wires."""
    neurons, name, by = given.neurons, given.name, given.taken
    value, left = _padded_value(array, given)
    left += [f"{neurons}_last", f"{neurons}_error"]
    if array.output_bits > array.output.width:
        left.append(f"{neurons}_data")
    load, number = list[str](), design.number_of(part)
    if design.loadable and array.model.coefficients:
        memory, channel = coefficient_rows(array), bits_for(array.model.channels)
        load = [
            f"    .load({design.writes(f'neurons_{number}')}),",
            f"    .load_channel(load_address[{channel - 1}:0]),",
            f"    .load_data(load_data[{memory.width - 1}:0]),",
        ]
    lines = [
        f"{array.name}_array neurons_{number} (.clk(clk), .rst(rst), .clear({given.clear}),",
        *load,
        f"    .s_axis_tvalid({by.valid}), .s_axis_tready({by.ready}),",
        f"    .s_axis_tdata({value}), .s_axis_tlast({name}_last),",
        f"    .m_axis_tvalid({neurons}_valid), .m_axis_tready({neurons}_ready),",
        f"    .m_axis_tdata({neurons}_data), .m_axis_tlast({neurons}_last),",
        f"    .tlast_error({neurons}_error));",
    ]
    return lines, left
