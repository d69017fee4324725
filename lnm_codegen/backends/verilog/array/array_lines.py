"""The lines of the array's module: its ports, what travels beside the states, the core."""

from __future__ import annotations

import textwrap

from lnm_codegen.backends.verilog.array.channels import channel_bits, counts_channels, in_memory
from lnm_codegen.backends.verilog.array.stream import data_width, fields
from lnm_codegen.backends.verilog.expr import declared, literal, width_of
from lnm_codegen.backends.verilog.parts import Design, connected, localparam, port, ports

READ = 3
"""Cycles from an input to its neuron's states at the core."""


def layout(design: Design) -> tuple[str, ...]:
    """Return what stands where in the data of the streams, for a comment."""
    taken, given = fields(design.inputs), fields((*design.states, *design.outputs))
    lines = [f"s_axis_tdata  {f.meaning}" for f in taken]
    lines += [f"m_axis_tdata  {f.meaning}" for f in given]
    return tuple(lines)


def array_ports(design: Design) -> tuple[str, ...]:
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


def travelling(design: Design, latency: int, bits: int) -> tuple[str, ...]:
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
    delay("restart_out", "restart", None, latency)
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
        lines += [f"    {line}" for line in textwrap.wrap(f".channel(channel_out), {wires});", 92)]
    return tuple(lines)


def _channel(design: Design, bits: int) -> str:
    """Return the number of the channel of `neuron_in`."""
    members = design.rtl.neurons // design.model.channels
    if design.model.channels == 1:
        return "1'd0"
    if counts_channels(design):
        return "channel"
    return f"neuron_in[{bits - 1}:{members.bit_length() - 1}]"


def state_updates(design: Design) -> tuple[str, ...]:
    """Return the choice between the initial states and those that were stored."""
    starts = {s.name: s.init for s in design.model.states}
    lines, high = [], sum(width_of(s) or 1 for s in design.states)
    for state in design.states:
        width = width_of(state) or 1
        read = f"stored[{high - 1}:{high - width}]"
        start = literal(starts[state.name], width)
        lines.append(f"in_{state.name} <= fresh_out ? {start} : {read};")
        high -= width
    return tuple(lines)


def core_connections(design: Design) -> tuple[str, ...]:
    """Return what the core is connected to, but for its control."""
    single = constant_in_array(design)
    given = (*design.outputs, *design.states)
    pairs = [(f"in_{v.name}", f"in_{v.name}") for v in (*design.states, *design.inputs)]
    for v in design.coefficients:
        pairs.append((f"in_{v.name}", localparam(v.name) if v.name in single else f"in_{v.name}"))
    text = connected((*pairs, *((f"out_{v.name}", f"out_{v.name}") for v in given)))
    return tuple(textwrap.wrap(text, 92))


def constant_in_array(design: Design) -> frozenset[str]:
    """Return the coefficients that are constants of the array, while the core has ports."""
    if design.rtl.coefficients != "memory":
        return frozenset()
    held = {c.name for c in in_memory(design)}
    return frozenset(c.name for c in design.model.coefficients) - held
