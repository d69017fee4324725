"""The array: many neurons one after another through the core, their states in a memory.

A neuron is read when its input comes, its states reach the core three cycles later, and its result
is written as it leaves: a neuron's next input may come `latency + 4` cycles after its last. With at
least so many neurons the order of a tick alone sees to that; with fewer, those in the pipeline are
counted, and an input waits while all of them are in it.
"""

from __future__ import annotations

from dataclasses import dataclass

from lnm_codegen.backends.render import render
from lnm_codegen.backends.verilog.channels import channel_bits, coefficient_memory, in_memory
from lnm_codegen.backends.verilog.expr import declared, literal, width_of
from lnm_codegen.backends.verilog.parts import (
    Design,
    connected,
    constant_declared,
    localparam,
    port,
    ports,
    separated,
)
from lnm_codegen.backends.verilog.stream import data_width, fields
from lnm_codegen.errors import UnsupportedError

READ = 3
"""Cycles from an input to its neuron's states at the core."""


@dataclass(frozen=True, slots=True)
class ArrayTimes:
    """What an array takes: cycles from an input to its result, and for a tick of all neurons."""

    latency: int
    tick_cycles: int
    waits: bool


def array_times(design: Design, core_latency: int) -> ArrayTimes:
    """Return the times of the array around a core."""
    latency, neurons = core_latency + READ, design.rtl.neurons
    return ArrayTimes(latency, max(neurons, latency + 1), neurons < latency + 1)


def check_states(design: Design) -> None:
    """Refuse an array of neurons that have nothing to store.

    Raises:
        UnsupportedError: No state.
    """
    if "array" in design.rtl.forms and not design.states:
        raise UnsupportedError(
            f"verilog: {design.name}: form 'array' stores states, and there is none. Use"
            " rtl=lnm.Rtl(forms=('comb', 'core', 'seq'))."
        )


@dataclass(frozen=True, slots=True)
class _View:
    family: str
    name: str
    head: tuple[str, ...]
    neurons: int
    latency: int
    tick_cycles: int
    waits: bool
    held: bool
    layout: tuple[str, ...]
    ports: tuple[str, ...]
    localparams: tuple[str, ...]
    bits: int
    shape: str
    last: int
    flight_bits: int
    flight_shape: str
    neuron_in_next: str
    neuron_out_next: str
    counts_channels: bool
    members: int
    member_bits: int
    member_shape: str
    last_member: int
    channel_bits: int
    channel_shape: str
    word: int
    word_shape: str
    written: str
    delays: tuple[str, ...]
    state_registers: tuple[str, ...]
    state_updates: tuple[str, ...]
    wires: tuple[str, ...]
    connections: str
    tdata: str


def array_modules(design: Design, core_latency: int) -> dict[str, str]:
    """Return the modules of the array beside those of its core, by their word."""
    files = {"ram": render("verilog/ram.v.j2", _Leaf(design.model.family, design.name))}
    if in_memory(design):
        files["coefficients"] = coefficient_memory(design)
    return files | {"array": _array(design, core_latency)}


@dataclass(frozen=True, slots=True)
class _Leaf:
    family: str
    name: str


def _array(design: Design, core_latency: int) -> str:
    times, neurons = array_times(design, core_latency), design.rtl.neurons
    bits = max(1, (neurons - 1).bit_length())
    members = neurons // design.model.channels
    given = fields((*design.states, *design.outputs))
    single = _single(design)
    member_bits = max(1, (members - 1).bit_length())
    word = sum(width_of(s) or 1 for s in design.states)
    view = _View(
        family=design.model.family,
        name=design.name,
        head=design.head,
        neurons=neurons,
        latency=times.latency,
        tick_cycles=times.tick_cycles,
        waits=times.waits,
        held=design.rtl.coefficients == "port",
        layout=_layout(design, members),
        ports=separated(_ports(design)),
        localparams=tuple(
            constant_declared(c) for c in design.model.coefficients if c.name in single
        ),
        bits=bits,
        shape=_shape(bits),
        last=neurons - 1,
        flight_bits=neurons.bit_length(),
        flight_shape=_shape(neurons.bit_length()),
        neuron_in_next=_following("neuron_in", "last_in", neurons, bits),
        neuron_out_next=_following("neuron_out", "m_axis_tlast", neurons, bits),
        counts_channels=bool(in_memory(design)) and design.model.channels > 1 and not _is_power(members),
        members=members,
        member_bits=member_bits,
        member_shape=_shape(member_bits),
        last_member=members - 1,
        channel_bits=channel_bits(design),
        channel_shape=_shape(channel_bits(design)),
        word=word,
        word_shape=_shape(word),
        written=_joined([f"out_{s.name}" for s in design.states]),
        delays=_delays(design, times, bits),
        state_registers=tuple(
            f"{declared('reg', f'in_{s.name}', width_of(s))};" for s in design.states
        ),
        state_updates=_state_updates(design),
        wires=tuple(
            f"{declared('wire', f'out_{v.name}', width_of(v))};"
            for v in (*design.outputs, *design.states)
        ),
        connections=_connections(design, single),
        tdata=_joined([f.filled(f"out_{f.var.name}") for f in reversed(given)]),
    )
    return render("verilog/array.v.j2", view)


def _single(design: Design) -> frozenset[str]:
    """Return the coefficients that are constants of the array, though the core has ports."""
    if design.rtl.coefficients != "memory":
        return frozenset()
    held = {c.name for c in in_memory(design)}
    return frozenset(c.name for c in design.model.coefficients) - held


def _shape(width: int) -> str:
    return f"[{width - 1}:0]"


def _is_power(number: int) -> bool:
    return number & (number - 1) == 0


def _joined(parts: list[str]) -> str:
    alone = len(parts) == 1 and parts[0].isidentifier()
    return parts[0] if alone else f"{{{', '.join(parts)}}}"


def _following(name: str, last: str, neurons: int, bits: int) -> str:
    """Return the neuron after this one; the counter wraps by itself where it can."""
    following = f"{name} + {bits}'d1"
    return following if neurons == 1 << bits else f"{last} ? {bits}'d0 : {following}"


def _layout(design: Design, members: int) -> tuple[str, ...]:
    taken, given = fields(design.inputs), fields((*design.states, *design.outputs))
    lines = [f"s_axis_tdata  {f.meaning}" for f in taken]
    lines += [f"m_axis_tdata  {f.meaning}" for f in given]
    if in_memory(design):
        lines += ["", f"{members} neurons of each channel, channel 0 first."]
    return tuple(line.rstrip() for line in lines)


def _ports(design: Design) -> tuple[str, ...]:
    """Return the ports of the array."""
    taken = data_width(fields(design.inputs))
    given = data_width(fields((*design.states, *design.outputs)))
    held = design.coefficients if design.rtl.coefficients == "port" else ()
    return (
        *(port("input ", word, None) for word in ("clk", "rst", "clear")),
        *ports("input ", held, "in_"),
        port("input ", "s_axis_tvalid", None),
        port("output", "s_axis_tready", None),
        f"input  wire [{taken - 1}:0] s_axis_tdata",
        port("input ", "s_axis_tlast", None),
        port("output", "m_axis_tvalid", None),
        port("input ", "m_axis_tready", None),
        f"output wire [{given - 1}:0] m_axis_tdata",
        port("output", "m_axis_tlast", None),
        port("output", "tlast_error", None, "reg "),
    )


def _delays(design: Design, times: ArrayTimes, bits: int) -> tuple[str, ...]:
    """Return what travels beside the states until it meets them."""
    lines: list[str] = []

    def delay(name: str, source: str, width: int | None, cycles: int) -> None:
        lines.append(f"{declared('wire', name, width)};")
        lines.append(f"{design.name}_delay #(.WIDTH({width or 1}), .CYCLES({cycles}))")
        wires = connected((("clk", "clk"), ("ce", "ce"), ("d", source), ("q", name)))
        lines.append(f"    {name}_delay ({wires});")

    taken = fields(design.inputs)
    for field in taken:
        name = f"in_{field.var.name}"
        delay(name, f"s_axis_tdata{field.slice}", width_of(field.var), READ)
    rest = [f"s_axis_tdata{f.rest}" for f in taken if f.rest]
    if rest:
        lines.append(f"wire unused = &{{1'b0, {', '.join(rest)}}};")
    delay("fresh_out", "fresh", None, READ - 1)
    delay("restart_out", "restart", None, times.latency)
    held = in_memory(design)
    if held:
        width = channel_bits(design)
        lines.append(f"wire [{width - 1}:0] channel_out;")
        lines.append(f"{design.name}_delay #(.WIDTH({width}), .CYCLES(1))")
        source = _channel(design, bits)
        lines.append(f"    channel_delay (.clk(clk), .ce(ce), .d({source}), .q(channel_out));")
        lines += [f"{declared('wire', f'in_{c.name}', c.bits.width)};" for c in held]
        wires = connected(tuple((f"out_{c.name}", f"in_{c.name}") for c in held))
        lines.append(f"{design.name}_coefficients coefficients (.clk(clk), .ce(ce),")
        lines.append(f"    .channel(channel_out), {wires});")
    return tuple(lines)


def _channel(design: Design, bits: int) -> str:
    """Return the number of the channel of `neuron_in`."""
    members = design.rtl.neurons // design.model.channels
    if design.model.channels == 1:
        return "1'd0"
    if not _is_power(members):
        return "channel"
    return f"neuron_in[{bits - 1}:{members.bit_length() - 1}]"


def _state_updates(design: Design) -> tuple[str, ...]:
    starts = {s.name: s.init for s in design.model.states}
    lines, high = [], sum(width_of(s) or 1 for s in design.states)
    for state in design.states:
        width = width_of(state) or 1
        read = f"stored[{high - 1}:{high - width}]"
        start = literal(starts[state.name], width)
        lines.append(f"in_{state.name} <= fresh_out ? {start} : {read};")
        high -= width
    return tuple(lines)


def _connections(design: Design, single: frozenset[str]) -> str:
    given = (*design.outputs, *design.states)
    pairs = [(f"in_{v.name}", f"in_{v.name}") for v in (*design.states, *design.inputs)]
    for v in design.coefficients:
        pairs.append((f"in_{v.name}", localparam(v.name) if v.name in single else f"in_{v.name}"))
    return connected((*pairs, *((f"out_{v.name}", f"out_{v.name}") for v in given)))
