"""Spans of the integers between two stages of a network."""

from __future__ import annotations

from dataclasses import dataclass

from lnm_codegen.ir.fixed.bounds import Span
from lnm_codegen.ir.types import Bits


@dataclass(frozen=True, slots=True)
class ValueSpan:
    """Integers from `low` to `high`; the integer k encodes k / 2**frac."""

    low: int
    high: int
    frac: int = 0

    @property
    def magnitude(self) -> int:
        """The largest absolute integer."""
        return max(abs(self.low), abs(self.high))

    @property
    def are_spikes(self) -> bool:
        """Whether 0 and 1 are the only integers."""
        return (self.low, self.high, self.frac) == (0, 1, 0)

    @property
    def width(self) -> int:
        """Least number of bits of two's complement."""
        return width_of((self.low, self.high))


SPIKES = ValueSpan(0, 1)


def width_of(span: Span) -> int:
    """Return the least number of bits of two's complement that holds every integer of a span."""
    return max((-1 - span[0]).bit_length() if span[0] < 0 else 0, max(span[1], 0).bit_length()) + 1


def values_of_bits(bits: Bits) -> ValueSpan:
    """Return all integers of a format."""
    return ValueSpan(bits.low, bits.high, bits.frac)
