"""Array of many neurons that pass through one core in turn, with their states in a memory.

The array reads the states of a neuron when its input arrives. They reach the core three cycles
later. The memory stores the result when it leaves the core. Two inputs of a neuron are therefore at
least L + 4 cycles apart, for a core of latency L. The order of a tick ensures this in an array of
at least L + 4 neurons. A smaller array counts the neurons in the pipeline and delays inputs.

In place of the core the neurons can pass through the sequence on one multiplier, one at a time.

Users' names have the prefix `in_` or `out_` in this module. No other signal begins with these.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from lnm_codegen.backends.fixed import Coefficient
from lnm_codegen.backends.render import render
from lnm_codegen.backends.verilog.design import CircuitDesign, localparam
from lnm_codegen.backends.verilog.expr import declared, literal, width_of
from lnm_codegen.backends.verilog.module import (
    Module,
    ModulePort,
    connected,
    controls,
    declarations,
    named,
    port_lines,
    ports,
    same_names,
)
from lnm_codegen.errors import UnsupportedError
from lnm_codegen.ir.fixed import nodes as fx
from lnm_codegen.ir.types import Bits


@dataclass(frozen=True, slots=True)
class StreamField:
    """A number in the data of a stream, at bits low to low + width - 1."""

    var: fx.Var
    low: int
    width: int

    @property
    def padded(self) -> int:
        """Width in whole bytes, in bits."""
        return (self.width + 7) // 8 * 8

    @property
    def meaning(self) -> str:
        """Name, place and format, for a comment."""
        format_ = self.var.type if isinstance(self.var.type, Bits) else "a bit"
        return f"{self.var.name} {self.slice}, {format_}"

    @property
    def slice(self) -> str:
        """The bits of the number, as Verilog selects them."""
        return _bits(self.low, self.width)

    @property
    def rest(self) -> str:
        """The bits that fill the last byte; empty for none."""
        left = self.padded - self.width
        return _bits(self.low + self.width, left) if left else ""

    def filled(self, name: str) -> str:
        """Return an identifier at whole bytes: copies of the sign, or zeros for a condition."""
        left = self.padded - self.width
        if not left:
            return name
        if not isinstance(self.var.type, Bits):
            return f"{left}'d0, {name}"
        return f"{{{left}{{{name}[{self.width - 1}]}}}}, {name}"

    def packed(self, integer: int) -> int:
        """Return the data with an integer in this field."""
        return (integer & ((1 << self.padded) - 1)) << self.low


def stream_fields(design: CircuitDesign) -> tuple[tuple[StreamField, ...], tuple[StreamField, ...]]:
    """Return the fields of s_axis_tdata and of m_axis_tdata."""
    return _fields(design.inputs), _fields((*design.states, *design.outputs))


def _fields(variables: tuple[fx.Var, ...]) -> tuple[StreamField, ...]:
    found: list[StreamField] = []
    low = 0
    for var in variables:
        found.append(StreamField(var, low, width_of(var) or 1))
        low += found[-1].padded
    return tuple(found)


def data_width(fields: tuple[StreamField, ...]) -> int:
    """Return the bits of a word of the stream."""
    return sum(field.padded for field in fields)


def _bits(low: int, width: int) -> str:
    return f"[{low}]" if width == 1 else f"[{low + width - 1}:{low}]"


# Coefficients per channel, and the memory that stores them for an array.


STORED = ("memory", "load")
"""Places of coefficients in which an array stores them."""
LEAST_ROWS = 64
"""Least rows of a memory that are worth a block RAM."""
IN_LOGIC = 16
"""Most rows that one LUT4 a bit stores, which is better than a block RAM."""


def ram_attributes(rows: int) -> str:
    """Return the attributes of a memory of which no row is read in the cycle that writes it.

    Yosys reads no_rw_check, and otherwise adds logic for that case. A small memory has no style: an
    iCE40 knows block RAM alone.
    """
    style = ', ram_style = "block"' if rows >= LEAST_ROWS else ""
    return f"(* no_rw_check{style} *) "


def check_channels(design: CircuitDesign) -> None:
    """Refuse several channels without a memory that distinguishes them.

    Raises:
        UnsupportedError: Several channels with coefficients that are constants, or ports of an
            array; or neurons that are not a multiple of the channels.
    """
    channels, rtl = design.model.channels, design.rtl
    if channels == 1:
        return
    array = "array" in rtl.forms
    if rtl.coefficients == "constant" or (array and rtl.coefficients == "port"):
        raise UnsupportedError(
            f"verilog: {design.name}",
            f"coefficients is {rtl.coefficients!r} for {channels} channels with different values",
            "'memory' or 'load'",
            "Use rtl=lnm.Rtl(coefficients='memory'), or --coefficients memory.",
        )
    if array and rtl.neurons % channels:
        raise UnsupportedError(
            f"verilog: {design.name}",
            f"neurons is {rtl.neurons} for {channels} channels",
            f"a multiple of {channels}",
            "Give rtl=lnm.Rtl(neurons=...), or --neurons.",
        )


def in_memory(design: CircuitDesign) -> tuple[Coefficient, ...]:
    """Return the coefficients in the memory of an array.

    They are those with one value per channel, or all of them where the memory can be loaded.
    """
    found, channels = design.model.coefficients, design.model.channels
    if design.rtl.coefficients == "load":
        return found
    if design.rtl.coefficients != "memory":
        return ()
    return tuple(c for c in found if len(c.integers) == channels)


def load_ports(design: CircuitDesign) -> tuple[ModulePort, ...]:
    """Return the port that writes a row of coefficients; empty without one."""
    if design.rtl.coefficients != "load" or not in_memory(design):
        return ()
    return (
        *controls("input", "load"),
        ModulePort("input", "load_channel", channel_bits(design), signed=False),
        ModulePort("input", "load_data", row_width(design), signed=False),
    )


def row_width(design: CircuitDesign) -> int:
    """Return the width of a row of coefficients."""
    return sum(c.bits.width for c in in_memory(design))


def packed_rows(held: Sequence[Coefficient], channels: int) -> list[int]:
    """Return the rows of coefficients as unsigned integers, the first one in the highest bits."""
    rows = [0] * channels
    for c in held:
        mask = (1 << c.bits.width) - 1
        integers = c.integers if len(c.integers) == channels else c.integers * channels
        rows = [row << c.bits.width | k & mask for row, k in zip(rows, integers, strict=True)]
    return rows


def channel_bits(design: CircuitDesign) -> int:
    """Return the width of a channel's number."""
    return max(1, (design.model.channels - 1).bit_length())


def counts_channels(design: CircuitDesign) -> bool:
    """Report whether the array counts channels: the number is not a slice of the neuron's."""
    members = design.rtl.neurons // design.model.channels
    several = bool(in_memory(design)) and design.model.channels > 1
    return several and members & (members - 1) != 0


def coefficient_memory(design: CircuitDesign) -> Module:
    """Return the module that stores a row of coefficients for each channel."""
    held = in_memory(design)
    width = row_width(design)
    layout, updates, high = [], [], width
    for c in held:
        low = high - c.bits.width
        layout.append(f"{c.name} [{high - 1}:{low}], {c.bits}")
        updates.append(f"out_{c.name} <= row[{high - 1}:{low}];")
        high = low
    channels, loadable = design.model.channels, design.rtl.coefficients == "load"
    found = (
        *controls("input", "clk", "ce"),
        *load_ports(design),
        ModulePort("input", "channel", channel_bits(design), signed=False),
        *(ModulePort("output", f"out_{c.name}", c.bits.width, "reg") for c in held),
    )
    view = {
        **design.view,
        "layout": layout,
        "ports": port_lines(found),
        "style": '(* rom_style = "block" *) ' if channels > IN_LOGIC and not loadable else "",
        "loadable": loadable,
        "width": width,
        "channels": channels,
        "rows": [_row(held, k) for k in range(channels)],
        "updates": updates,
    }
    return Module(render("verilog/array.v.j2:coefficients", view), found)


def _row(held: tuple[Coefficient, ...], channel: int) -> str:
    own = [c.integers[channel if len(c.integers) > 1 else 0] for c in held]
    words = ", ".join(literal(k, c.bits.width) for c, k in zip(held, own, strict=True))
    values = ", ".join(repr(float(c.bits.value(k))) for c, k in zip(held, own, strict=True))
    return f"memory[{channel}] = {{{words}}};  // {values}"


# Lines of the array's module: its ports, the delays beside the state memory, the core.


READ = 3
"""Cycles from an input to its neuron's states at the core."""


def array_ports(design: CircuitDesign) -> tuple[ModulePort, ...]:
    """Return the ports of the array."""
    inputs, results = stream_fields(design)
    held = design.coefficients if design.rtl.coefficients == "port" else ()
    return (
        *controls("input", "clk", "rst", "clear"),
        *ports("input", named(held, "in_")),
        *load_ports(design),
        *controls("input", "s_axis_tvalid"),
        *controls("output", "s_axis_tready"),
        ModulePort("input", "s_axis_tdata", data_width(inputs), signed=False),
        *controls("input", "s_axis_tlast"),
        *controls("output", "m_axis_tvalid"),
        *controls("input", "m_axis_tready"),
        ModulePort("output", "m_axis_tdata", data_width(results), signed=False),
        *controls("output", "m_axis_tlast"),
        ModulePort("output", "tlast_error", kind="reg"),
    )


def delay_lines(design: CircuitDesign, latency: int, bits: int) -> list[str]:
    """Return the delays of inputs and flags, and the memory of coefficients."""
    lines: list[str] = []

    def delay(declaration: str, source: str, width: int, cycles: int) -> None:
        name = declaration.split()[-1]
        wires = connected((("clk", "clk"), ("ce", "ce"), ("d", source), ("q", name)))
        lines.append(f"{declaration};")
        lines.append(f"{design.name}_delay #(.WIDTH({width}), .CYCLES({cycles}))")
        lines.append(f"    _{name}_delay ({wires});")

    inputs, _ = stream_fields(design)
    for f in inputs:
        wire = declared("wire", f"in_{f.var.name}", width_of(f.var))
        delay(wire, f"s_axis_tdata{f.slice}", f.width, READ)
    rest = [f"s_axis_tdata{f.rest}" for f in inputs if f.rest]
    if rest:
        lines.append(f"wire unused = &{{1'b0, {', '.join(rest)}}};")
    delay("wire fresh_out", "fresh", 1, READ - 1)
    if design.rtl.through == "core":
        delay("wire restart_out", "restart", 1, latency)
    else:
        delay(f"wire [{bits - 1}:0] neuron_at", "neuron_in", bits, READ)
    held = in_memory(design)
    if held:
        width = channel_bits(design)
        delay(f"wire [{width - 1}:0] channel_out", _channel(design, bits), width, 1)
        lines += [f"{declared('wire', f'in_{c.name}', c.bits.width)};" for c in held]
        wires = connected((f"out_{c.name}", f"in_{c.name}") for c in held)
        lines.append(f"{design.name}_coefficients coefficients (.clk(clk), .ce(ce),")
        if loads := load_ports(design):
            lines.append(f"    {connected((p.name, p.name) for p in loads)},")
        lines += [f"    {line}" for line in textwrap.wrap(f".channel(channel_out), {wires});", 92)]
    return lines


def _channel(design: CircuitDesign, bits: int) -> str:
    """Return the number of the channel of `neuron_in`."""
    members = design.rtl.neurons // design.model.channels
    if design.model.channels == 1:
        return "1'd0"
    if counts_channels(design):
        return "channel"
    return f"neuron_in[{bits - 1}:{members.bit_length() - 1}]"


def state_updates(design: CircuitDesign) -> list[str]:
    """Return the selections between the initial and the stored states."""
    starts = {s.name: s.init for s in design.model.states}
    lines, high = [], sum(width_of(s) or 1 for s in design.states)
    for state in design.states:
        width = width_of(state) or 1
        stored = f"stored[{high - 1}:{high - width}]"
        start = literal(starts[state.name], width)
        lines.append(f"in_{state.name} <= fresh_out ? {start} : {stored};")
        high -= width
    return lines


def core_connections(design: CircuitDesign) -> list[str]:
    """Return the connections of the core, except its controls."""
    pairs = same_names(design.outer_inputs, design.outer_results)
    return textwrap.wrap(connected(pairs), 92)


# The array's module and its times.


@dataclass(frozen=True, slots=True)
class ArrayTimes:
    """Times of an array: latency, interval of two neurons, cycles of a tick.

    `waits` says whether inputs wait for the previous result of the same neuron; `ahead` is how many
    inputs are accepted before the first neuron ends, beside its own.
    """

    latency: int
    interval: int
    tick_cycles: int
    waits: bool
    ahead: int

    def until(self, ticks: int, neurons: int) -> int:
        """Return the cycles at full speed from the first input to that after so many ticks."""
        if not self.ahead:
            return ticks * self.tick_cycles
        return READ + (ticks * neurons - self.ahead) * self.interval


def array_times(design: CircuitDesign, inner: int) -> ArrayTimes:
    """Return the times of the array around a core, or around a sequence, of latency `inner`."""
    latency, neurons = inner + READ, design.rtl.neurons
    if design.rtl.through == "core":
        return ArrayTimes(latency, 1, max(neurons, latency + 1), neurons < latency + 1, 0)
    interval = inner + 1
    ahead = min(READ, neurons - 1)
    return ArrayTimes(
        latency, interval, max(neurons * interval, latency + 1), neurons <= READ, ahead
    )


def check_states(design: CircuitDesign) -> None:
    """Refuse an array of neurons without a state.

    Raises:
        UnsupportedError: The neuron has no state.
    """
    if "array" in design.rtl.forms and not design.states:
        raise UnsupportedError(
            f"verilog: {design.name}",
            "form 'array' stores states, and the neuron has none",
            remedy="Use rtl=lnm.Rtl(forms=('comb', 'core', 'seq')), or --forms comb,core,seq.",
        )


def array_modules(design: CircuitDesign, times: ArrayTimes) -> dict[str, Module]:
    """Return the modules of the array beside those of its core, by their word."""
    ram = {**design.view, "attributes": ram_attributes(design.rtl.neurons)}
    modules = {"ram": Module(render("verilog/leaves.v.j2:ram", ram))}
    if in_memory(design):
        modules["coefficients"] = coefficient_memory(design)
    return modules | {"array": _array(design, times)}


def _array(design: CircuitDesign, times: ArrayTimes) -> Module:
    neurons = design.rtl.neurons
    bits = max(1, (neurons - 1).bit_length())
    members = neurons // design.model.channels
    inputs, results = stream_fields(design)
    held = {c.name for c in in_memory(design)}
    constants = [
        localparam(c, f"in_{c.name}")
        for c in design.model.coefficients
        if design.rtl.coefficients in STORED and c.name not in held
    ]
    found, flight_bits = array_ports(design), neurons.bit_length()
    view = {
        **design.view,
        "neurons": neurons,
        "latency": times.latency,
        "interval": times.interval,
        "pipelined": design.rtl.through == "core",
        "tick_cycles": times.tick_cycles,
        "waits": times.waits,
        "on_ports": design.rtl.coefficients == "port",
        "loadable": design.rtl.coefficients == "load",
        "by_channel": bool(held),
        "layout": [
            *(f"s_axis_tdata  {f.meaning}" for f in inputs),
            *(f"m_axis_tdata  {f.meaning}" for f in results),
        ],
        "ports": port_lines(found),
        "localparams": constants,
        "bits": bits,
        "flight_bits": flight_bits,
        "neuron_in_next": _following("neuron_in", "last_in", neurons, bits),
        "neuron_out_next": _following("neuron_out", "m_axis_tlast", neurons, bits),
        "counts_channels": counts_channels(design),
        "members": members,
        "member_bits": max(1, (members - 1).bit_length()),
        "channel_bits": channel_bits(design),
        "word": sum(width_of(s) or 1 for s in design.states),
        "written": _joined([f"out_{s.name}" for s in design.states]),
        "delays": delay_lines(design, times.latency, bits),
        "state_registers": declarations("reg", named(design.states, "in_")),
        "state_updates": state_updates(design),
        "wires": declarations("wire", design.outer_results),
        "connections": core_connections(design),
        "tdata": _joined([f.filled(f"out_{f.var.name}") for f in reversed(results)]),
    }
    registers = {"_valid": READ}
    registers |= {} if design.rtl.through == "core" else {"_busy": 1}
    registers |= {"_in_flight": flight_bits} if times.waits else {}
    return Module(render("verilog/array.v.j2:array", view), found, registers=registers)


def _joined(parts: list[str]) -> str:
    alone = len(parts) == 1 and parts[0].isidentifier()
    return parts[0] if alone else f"{{{', '.join(parts)}}}"


def _following(name: str, last: str, neurons: int, bits: int) -> str:
    """Return the number of the next neuron; the counter wraps by itself at a power of two."""
    following = f"{name} + {bits}'d1"
    return following if neurons == 1 << bits else f"{last} ? {bits}'d0 : {following}"
