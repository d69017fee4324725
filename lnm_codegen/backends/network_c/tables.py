"""Arrays of the generated C: types of integers, constants, and bytes of memory."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

import numpy as np

from lnm_codegen.ir.fixed.nodes import Span
from lnm_codegen.ir.network.nodes import Integers, width_of


@dataclass(frozen=True, slots=True)
class CArray:
    """A static array: constant if it has lines of numbers, else memory."""

    name: str
    type: str
    size: int
    note: str = ""
    lines: tuple[str, ...] = ()

    @property
    def bytes(self) -> int:
        """Bytes of the array."""
        return self.size * (int(self.type[3:-2]) // 8)


def integer_type(span: Span) -> str:
    """Return the smallest signed type of C that holds every integer of a span."""
    width = width_of(span)
    return f"int{next(size for size in (8, 16, 32, 64) if width <= size)}_t"


def literal(value: int) -> str:
    """Return an integer as C writes it; the least one of a type is no literal."""
    if -(1 << 31) < value < 1 << 31:
        return str(value)
    return "(-2147483647 - 1)" if value == -(1 << 31) else f"INT64_C({value})"


def constants(name: str, array: Integers, note: str = "") -> CArray:
    """Return a constant array of the smallest type."""
    kind = integer_type((int(array.min()), int(array.max())))
    text = ", ".join(literal(int(k)) for k in np.asarray(array).reshape(-1))
    return CArray(name, kind, array.size, note, tuple(textwrap.wrap(text, 108)))


def memory(name: str, span: Span, size: int, note: str = "") -> CArray:
    """Return an array of the smallest type that holds every integer of a span."""
    return CArray(name, integer_type(span), size, note)
