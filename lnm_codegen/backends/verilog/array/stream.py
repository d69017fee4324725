"""How numbers lie in the data of a stream: each in bytes of its own, the first in the lowest."""

from __future__ import annotations

from dataclasses import dataclass

from lnm_codegen.backends.verilog.expr import width_of
from lnm_codegen.ir.fixed import nodes as fx
from lnm_codegen.ir.types import Bits


@dataclass(frozen=True, slots=True)
class Field:
    """A number in the data of a stream: its bits are low to low + width - 1."""

    var: fx.Var
    low: int
    width: int

    @property
    def padded(self) -> int:
        """Bits of its bytes."""
        return 8 * _bytes(self.width)

    @property
    def meaning(self) -> str:
        """What it is, for a comment."""
        format_ = self.var.type if isinstance(self.var.type, Bits) else "a bit"
        return f"{self.var.name} {self.slice}, {format_}"

    @property
    def slice(self) -> str:
        """Its bits, as they are written behind a name."""
        return _bits(self.low, self.width)

    @property
    def rest(self) -> str:
        """The bits behind it that fill its last byte; "" where there are none."""
        left = self.padded - self.width
        return _bits(self.low + self.width, left) if left else ""

    def filled(self, name: str) -> str:
        """Return an identifier brought to whole bytes: copies of the sign, zeros for a bit."""
        left = self.padded - self.width
        if not left:
            return name
        if not isinstance(self.var.type, Bits):
            return f"{left}'d0, {name}"
        return f"{{{left}{{{name}[{self.width - 1}]}}}}, {name}"

    def packed(self, integer: int) -> int:
        """Return an integer as it stands in the data."""
        return (integer & ((1 << self.padded) - 1)) << self.low


def fields(variables: tuple[fx.Var, ...]) -> tuple[Field, ...]:
    """Return where each number lies."""
    found: list[Field] = []
    low = 0
    for var in variables:
        found.append(Field(var, low, width_of(var) or 1))
        low += found[-1].padded
    return tuple(found)


def data_width(placed: tuple[Field, ...]) -> int:
    """Return the bits of a word of the stream."""
    return sum(field.padded for field in placed)


def _bytes(width: int) -> int:
    return (width + 7) // 8


def _bits(low: int, width: int) -> str:
    return f"[{low}]" if width == 1 else f"[{low + width - 1}:{low}]"
