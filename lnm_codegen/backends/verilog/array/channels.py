"""Coefficients per channel: who has which, and the memory that holds them for an array."""

from __future__ import annotations

from dataclasses import dataclass

from lnm_codegen.backends.integer_c.model import Coefficient
from lnm_codegen.backends.render import render
from lnm_codegen.backends.verilog.expr import literal
from lnm_codegen.backends.verilog.parts import Design, port, separated
from lnm_codegen.errors import UnsupportedError

IN_LOGIC = 16
"""So many rows are one LUT4 a bit, and better so than in a block RAM."""


def check_channels(design: Design) -> None:
    """Refuse channels that the circuit would not tell apart.

    Raises:
        UnsupportedError: Several channels and coefficients that are constants, or for an array on
            ports; neurons that are no multiple of the channels.
    """
    channels, rtl = design.model.channels, design.rtl
    if channels == 1:
        return
    array = "array" in rtl.forms
    if rtl.coefficients == "constant" or (array and rtl.coefficients == "port"):
        raise UnsupportedError(
            f"verilog: {design.name}",
            (
                f"{channels} channels have coefficients of their own, which "
                f"coefficients={rtl.coefficients!r} cannot tell apart"
            ),
            remedy="Use rtl=lnm.Rtl(coefficients='memory').",
        )
    if array and rtl.neurons % channels:
        raise UnsupportedError(
            f"verilog: {design.name}",
            f"neurons is {rtl.neurons}, which {channels} channels do not divide",
            f"a multiple of {channels}",
            "Give rtl=lnm.Rtl(neurons=...).",
        )


def in_memory(design: Design) -> tuple[Coefficient, ...]:
    """Return the coefficients that the memory of an array holds: all those with a row a channel."""
    if design.rtl.coefficients != "memory":
        return ()
    channels = design.model.channels
    return tuple(c for c in design.model.coefficients if len(c.integers) == channels)


def channel_bits(design: Design) -> int:
    """Return the bits of a channel's number."""
    return max(1, (design.model.channels - 1).bit_length())


def counts_channels(design: Design) -> bool:
    """Say whether a channel's number has to be counted: it is no slice of the neuron's."""
    members = design.rtl.neurons // design.model.channels
    several = bool(in_memory(design)) and design.model.channels > 1
    return several and members & (members - 1) != 0


@dataclass(frozen=True, slots=True)
class _View:
    family: str
    name: str
    layout: tuple[str, ...]
    ports: tuple[str, ...]
    style: str
    shape: str
    last: int
    rows: tuple[str, ...]
    updates: tuple[str, ...]


def coefficient_memory(design: Design) -> str:
    """Return the module that holds a row of coefficients for each channel."""
    held = in_memory(design)
    width = sum(c.bits.width for c in held)
    layout, updates, high = [], [], width
    for c in held:
        low = high - c.bits.width
        layout.append(f"{c.name} [{high - 1}:{low}], {c.bits}")
        updates.append(f"out_{c.name} <= row[{high - 1}:{low}];")
        high = low
    view = _View(
        family=design.model.family,
        name=design.name,
        layout=tuple(layout),
        ports=separated(
            (
                port("input ", "clk", None),
                port("input ", "ce", None),
                f"input  wire [{channel_bits(design) - 1}:0] channel",
                *(port("output", f"out_{c.name}", c.bits.width, "reg ") for c in held),
            )
        ),
        style='(* rom_style = "block" *) ' if design.model.channels > IN_LOGIC else "",
        shape=f"[{width - 1}:0]",
        last=design.model.channels - 1,
        rows=tuple(_row(held, k) for k in range(design.model.channels)),
        updates=tuple(updates),
    )
    return render("verilog/array/coefficients.v.j2", view)


def _row(held: tuple[Coefficient, ...], channel: int) -> str:
    words = ", ".join(literal(c.integers[channel], c.bits.width) for c in held)
    values = ", ".join(repr(float(c.bits.value(c.integers[channel]))) for c in held)
    return f"memory[{channel}] = {{{words}}};  // {values}"
