"""Types of IR values.

REAL is the float type a backend or `interpret` chooses at the end; BOOL a condition; `Fixed` a
number of the fixed-point level, which `quantize` makes.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from fractions import Fraction
from math import floor

from lnm_codegen.errors import ModelError


class Type(Enum):
    """The type of a scalar value."""

    REAL = "real"
    BOOL = "bool"


REAL, BOOL = Type.REAL, Type.BOOL


class Rounding(Enum):
    """How bits below the last fraction bit are dropped; the name in ap_fixed beside each."""

    HALF_UP = "half_up"  # AP_RND: to the nearest, ties towards plus infinity
    TRUNCATE = "truncate"  # AP_TRN: towards minus infinity
    CONVERGENT = "convergent"  # AP_RND_CONV: to the nearest, ties to even


MOST_BITS = 63
"""The widest exact intermediate that the integer models hold."""


@dataclass(frozen=True, slots=True)
class Fixed:
    """Two's complement of `width` bits, `frac` of them below the point: Qm.n, n = frac.

    m = width - frac counts the sign. The value of an integer i is i / 2**frac; what does not fit
    saturates (AP_SAT).

    Args:
        width: 2 to 32 bits.
        frac: 0 to width - 1 fraction bits.
        rounding: "half_up" (AP_RND), "truncate" (AP_TRN) or "convergent" (AP_RND_CONV).

    Raises:
        ModelError: A number outside these.
    """

    width: int
    frac: int
    rounding: Rounding = Rounding.HALF_UP

    def __init__(self, width: int, frac: int, rounding: Rounding | str = "half_up") -> None:
        for word, value in (("width", width), ("frac", frac)):
            if isinstance(value, bool) or not isinstance(value, int):
                raise ModelError("Fixed", f"{word} is {value!r}", "an integer")
        if not 2 <= width <= 32:
            raise ModelError("Fixed", f"width is {width}", "2 to 32 bits")
        if not 0 <= frac < width:
            raise ModelError(
                "Fixed",
                f"frac is {frac}",
                f"0 to {width - 1} of {width} bits, as the sign takes one",
            )
        try:
            mode = Rounding(rounding)
        except ValueError:
            accepted = ", ".join(repr(r.value) for r in Rounding)
            raise ModelError("Fixed", f"rounding is {rounding!r}", accepted) from None
        object.__setattr__(self, "width", width)
        object.__setattr__(self, "frac", frac)
        object.__setattr__(self, "rounding", mode)

    def __str__(self) -> str:
        """Return the format's name, Q4.12."""
        return f"Q{self.width - self.frac}.{self.frac}"

    @property
    def bits(self) -> Bits:
        """The format without its rounding."""
        return Bits(self.width, self.frac)


@dataclass(frozen=True, slots=True)
class Bits:
    """The shape of an integer in a fixed-point kernel: its width, and where its point is.

    Unlike `Fixed` it may be as wide as an exact product, and it says nothing of rounding.
    """

    width: int
    frac: int

    def __str__(self) -> str:
        """Return the format's name, Q4.12."""
        return f"Q{self.width - self.frac}.{self.frac}"

    @property
    def low(self) -> int:
        """The least integer."""
        return -(1 << (self.width - 1))

    @property
    def high(self) -> int:
        """The greatest integer."""
        return (1 << (self.width - 1)) - 1

    @property
    def interval(self) -> tuple[Fraction, Fraction]:
        """The least and the greatest value."""
        return self.value(self.low), self.value(self.high)

    def value(self, integer: int) -> Fraction:
        """Return what an integer stands for."""
        return Fraction(integer, 1 << self.frac)

    def nearest(self, value: Fraction) -> int:
        """Return the integer nearest to a value, ties up; it may not fit."""
        return floor(value * (1 << self.frac) + Fraction(1, 2))

    def holds(self, integer: int) -> bool:
        """Say whether an integer fits."""
        return self.low <= integer <= self.high
