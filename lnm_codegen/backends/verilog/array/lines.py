"""Lines of the array's module: its ports, the delays beside the state memory, the core.

Users' names have the prefix `in_` or `out_` in this module. No other signal begins with these.
"""

from __future__ import annotations

import textwrap

from lnm_codegen.backends.verilog.array.channels import channel_bits, counts_channels, in_memory
from lnm_codegen.backends.verilog.array.stream import data_width, stream_fields
from lnm_codegen.backends.verilog.expr import declared, literal, width_of
from lnm_codegen.backends.verilog.parts import (
    CircuitDesign,
    connected,
    named,
    port,
    ports,
    same_names,
)

READ = 3
"""Cycles from an input to its neuron's states at the core."""


def array_ports(design: CircuitDesign) -> tuple[str, ...]:
    """Return the ports of the array."""
    inputs, results = stream_fields(design)
    held = design.coefficients if design.rtl.coefficients == "port" else ()
    return (
        *(port("input", word) for word in ("clk", "rst", "clear")),
        *ports("input", named(held, "in_")),
        port("input", "s_axis_tvalid"),
        port("output", "s_axis_tready"),
        f"input  wire [{data_width(inputs) - 1}:0] s_axis_tdata",
        port("input", "s_axis_tlast"),
        port("output", "m_axis_tvalid"),
        port("input", "m_axis_tready"),
        f"output wire [{data_width(results) - 1}:0] m_axis_tdata",
        port("output", "m_axis_tlast"),
        port("output", "tlast_error", kind="reg"),
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
    delay("wire restart_out", "restart", 1, latency)
    held = in_memory(design)
    if held:
        width = channel_bits(design)
        delay(f"wire [{width - 1}:0] channel_out", _channel(design, bits), width, 1)
        lines += [f"{declared('wire', f'in_{c.name}', c.bits.width)};" for c in held]
        wires = connected((f"out_{c.name}", f"in_{c.name}") for c in held)
        lines.append(f"{design.name}_coefficients coefficients (.clk(clk), .ce(ce),")
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
