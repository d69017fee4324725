"""Types of IR values.

REAL is the float type that a backend or `interpret` selects, BOOL a condition. `Bits`, `Fixed` and
`FixedSpec` are the formats of the fixed-point IR.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction
from math import floor

from lnm_codegen.errors import ModelError
from lnm_codegen.options import RoundingName
from lnm_codegen.validation import require_integer, require_one_of, wrong


class Type(Enum):
    """Type of a scalar value."""

    REAL = "real"
    BOOL = "bool"


REAL, BOOL = Type.REAL, Type.BOOL


class Rounding(Enum):
    """Rounding of the bits below the last fraction bit; the comments give the ap_fixed name."""

    HALF_UP = "half_up"  # AP_RND: to the nearest, ties towards plus infinity
    TRUNCATE = "truncate"  # AP_TRN: towards minus infinity
    CONVERGENT = "convergent"  # AP_RND_CONV: to the nearest, ties to even


MOST_BITS = 63
"""The widest exact intermediate that the integer models hold."""


@dataclass(frozen=True, slots=True)
class Bits:
    """Width and position of the binary point of an integer in a fixed-point kernel, such as Q4.12.

    Unlike a `Fixed`, it may be as wide as an exact product and has no rounding.
    """

    width: int
    frac: int

    def __str__(self) -> str:
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

    @property
    def limits(self) -> str:
        """The least and the greatest value as text, such as -8 to 7.99976.

        Each has the fewest digits, at least six, that read as a number that fits.
        """
        return " to ".join(self._text(end) for end in self.interval)

    def _text(self, value: Fraction) -> str:
        texts = (f"{float(value):.{digits}g}" for digits in range(6, 18))
        fitting = (text for text in texts if self.holds(self.nearest(Fraction(text))))
        return next(fitting, str(value))

    def value(self, integer: int) -> Fraction:
        """Return the value that an integer represents."""
        return Fraction(integer, 1 << self.frac)

    def nearest(self, value: Fraction) -> int:
        """Return the integer nearest to a value, ties up; it may exceed the width."""
        return floor(value * (1 << self.frac) + Fraction(1, 2))

    def holds(self, integer: int) -> bool:
        """Report whether an integer fits."""
        return self.low <= integer <= self.high


@dataclass(frozen=True, slots=True)
class Fixed:
    """Two's complement of `width` bits, `frac` of them below the point: Qm.n, n = frac.

    m = width - frac includes the sign. An integer i represents i / 2**frac. A value that does not
    fit saturates (AP_SAT).

    Args:
        width: 2 to 32 bits. The factors of a product have at most 62 bits together, so that one
            format for all nodes of a neuron with a product has at most 31.
        frac: 0 to width - 1 fraction bits.
        rounding: "half_up" (AP_RND), "truncate" (AP_TRN) or "convergent" (AP_RND_CONV).

    Raises:
        ModelError: Any other value.
    """

    width: int
    frac: int
    rounding: Rounding = Rounding.HALF_UP

    def __init__(
        self, width: int, frac: int, rounding: Rounding | RoundingName = "half_up"
    ) -> None:
        require_integer("Fixed", "width", width, 2, 32)
        require_integer("Fixed", "frac", frac, 0, width - 1)
        word = rounding.value if isinstance(rounding, Rounding) else rounding
        require_one_of("Fixed", "rounding", word, [r.value for r in Rounding])
        object.__setattr__(self, "width", width)
        object.__setattr__(self, "frac", frac)
        object.__setattr__(self, "rounding", Rounding(word))

    def __str__(self) -> str:
        return str(self.bits)

    @property
    def bits(self) -> Bits:
        """The format without its rounding."""
        return Bits(self.width, self.frac)


@dataclass(frozen=True, slots=True)
class FixedSpec:
    """Formats by the names of nodes: states, inputs, prepared parameters and Lets.

    A state has one format before and after the step. Conditions, spikes and values that only
    comparisons read are exact and have no format here. `print(lnm.quantize(neuron, spec))` shows
    the names.

    Args:
        default: Format of every other node. A constant has the format of the node that reads it; in
            a partial result, such as `h_1` of `h`, that of `h`; in an exact node, the default.
        nodes: Name -> format.

    Raises:
        ModelError: A format is not a `Fixed`, or a node has two.
    """

    default: Fixed
    nodes: tuple[tuple[str, Fixed], ...] = ()

    def __init__(
        self,
        default: Fixed,
        nodes: Mapping[str, Fixed] | tuple[tuple[str, Fixed], ...] = (),
    ) -> None:
        named = tuple(nodes.items()) if isinstance(nodes, Mapping) else tuple(nodes)
        for word, value in (("default", default), *named):
            if not isinstance(value, Fixed):
                raise wrong("FixedSpec", word, value, "a format, such as lnm.Fixed(16, 12)")
        names = [name for name, _ in named]
        for name in names:
            if names.count(name) > 1:
                raise ModelError("FixedSpec", f"{name!r} has two formats", "one for each node")
        object.__setattr__(self, "default", default)
        object.__setattr__(self, "nodes", named)

    def __getitem__(self, name: str) -> Fixed:
        return dict(self.nodes).get(name, self.default)


def spec_of(spec: Fixed | FixedSpec, where: str) -> FixedSpec:
    """Return a `Fixed` or a `FixedSpec` as a `FixedSpec`; anything else is a ModelError."""
    if isinstance(spec, Fixed):
        return FixedSpec(spec)
    if not isinstance(spec, FixedSpec):
        raise wrong(where, "spec", spec, "lnm.Fixed(16, 12) or an lnm.FixedSpec")
    return spec
