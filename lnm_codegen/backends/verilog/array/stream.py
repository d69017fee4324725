"""Layout of a stream's data: each number in its own bytes, the first in the lowest."""

from __future__ import annotations

from dataclasses import dataclass

from lnm_codegen.backends.verilog.expr import width_of
from lnm_codegen.backends.verilog.parts import CircuitDesign
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
