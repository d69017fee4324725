"""Coefficients per channel, and the memory that stores them for an array."""

from __future__ import annotations

from lnm_codegen.backends.fixed import Coefficient
from lnm_codegen.backends.render import render
from lnm_codegen.backends.verilog.expr import literal
from lnm_codegen.backends.verilog.parts import CircuitDesign, port, separated
from lnm_codegen.errors import UnsupportedError

IN_LOGIC = 16
"""Most rows that one LUT4 a bit stores, which is better than a block RAM."""


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
            "'memory'",
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
    """Return the coefficients in the memory of an array: those with one value per channel."""
    if design.rtl.coefficients != "memory":
        return ()
    channels = design.model.channels
    return tuple(c for c in design.model.coefficients if len(c.integers) == channels)


def channel_bits(design: CircuitDesign) -> int:
    """Return the width of a channel's number."""
    return max(1, (design.model.channels - 1).bit_length())


def counts_channels(design: CircuitDesign) -> bool:
    """Report whether the array counts channels: the number is not a slice of the neuron's."""
    members = design.rtl.neurons // design.model.channels
    several = bool(in_memory(design)) and design.model.channels > 1
    return several and members & (members - 1) != 0


def coefficient_memory(design: CircuitDesign) -> str:
    """Return the module that stores a row of coefficients for each channel."""
    held = in_memory(design)
    width = sum(c.bits.width for c in held)
    layout, updates, high = [], [], width
    for c in held:
        low = high - c.bits.width
        layout.append(f"{c.name} [{high - 1}:{low}], {c.bits}")
        updates.append(f"out_{c.name} <= row[{high - 1}:{low}];")
        high = low
    channels = design.model.channels
    view = {
        **design.heading,
        "layout": layout,
        "ports": separated(
            (
                *(port("input", word) for word in ("clk", "ce")),
                f"input  wire [{channel_bits(design) - 1}:0] channel",
                *(port("output", f"out_{c.name}", c.bits.width, "reg") for c in held),
            )
        ),
        "style": '(* rom_style = "block" *) ' if channels > IN_LOGIC else "",
        "width": width,
        "channels": channels,
        "rows": [_row(held, k) for k in range(channels)],
        "updates": updates,
    }
    return render("verilog/array/coefficients.v.j2", view)


def _row(held: tuple[Coefficient, ...], channel: int) -> str:
    words = ", ".join(literal(c.integers[channel], c.bits.width) for c in held)
    values = ", ".join(repr(float(c.bits.value(c.integers[channel]))) for c in held)
    return f"memory[{channel}] = {{{words}}};  // {values}"
