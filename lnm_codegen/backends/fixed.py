"""Fixed-point backends: a neuron in fixed point with its values, and the options of a circuit."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, TypeAlias

from lnm_codegen.ir.fixed import nodes as fx
from lnm_codegen.ir.interpret import Array
from lnm_codegen.ir.types import Bits
from lnm_codegen.validation import Accepted, require_declared, wrong


@dataclass(frozen=True, slots=True)
class Coefficient:
    """A prepared parameter: one integer, or one for each channel.

    Attributes:
        name: Name of the port, such as `theta_3`.
        bits: Format.
        integers: Values in the circuit.
        reals: Values before rounding.
        formula: Its value in declared parameters and other coefficients, such as `1 / tau`; empty
            for a declared parameter.
    """

    name: str
    bits: Bits
    integers: tuple[int, ...]
    reals: tuple[float, ...]
    formula: str = ""


@dataclass(frozen=True, slots=True)
class FixedState:
    """A state: its format and its initial integer."""

    name: str
    bits: Bits
    init: int


@dataclass(frozen=True, slots=True)
class FixedModel:
    """A neuron in fixed point, with the values of its parameters.

    Attributes:
        rtl: Options of a circuit.
        stimulus: Inputs of an array's testbench: input -> integers (sequences, ticks, neurons),
            each sequence from the initial states. None: random inputs.
    """

    name: str
    family: str
    program: fx.Program
    states: tuple[FixedState, ...]
    coefficients: tuple[Coefficient, ...]
    equations: tuple[str, ...]
    rtl: Rtl
    stimulus: Mapping[str, Array] | None = field(default=None, compare=False, repr=False)

    @property
    def channels(self) -> int:
        """Number of values of a coefficient per channel; 1 if there is none."""
        return max((len(c.integers) for c in self.coefficients), default=1)


# `lnm.Rtl`: options of a circuit beside its arithmetic.


FORMS = ("comb", "core", "seq", "array")
"""One step a cycle with the state inside; pipelined; one multiplier; neurons in a memory."""

MOST_NEURONS = 1 << 16
Neurons: TypeAlias = Annotated[int, Accepted(low=1, high=MOST_NEURONS)]
ThroughName: TypeAlias = Annotated[Literal["core", "seq"], Accepted()]
CoefficientsName: TypeAlias = Annotated[Literal["constant", "port", "memory", "load"], Accepted()]
MultiplierName: TypeAlias = Annotated[Literal["generic", "ecp5"], Accepted()]
ShiftAdd: TypeAlias = Annotated[int, Accepted(low=0, high=32)]
Vectors: TypeAlias = Annotated[int, Accepted(low=1, high=1_000_000)]


@dataclass(frozen=True, slots=True)
class Rtl:
    """Options by which a neuron becomes a circuit.

    Args:
        forms: Modules to write: "comb", "core", "seq", "array".
        neurons: Neurons of the array, 1 to 65536.
        coefficients: "constant" (in the source), "port" (inputs of every module), "memory" (of the
            array, one row a channel; the other forms have ports) or "load" (that memory with a
            port that writes a row; it has all coefficients).
        multiplier: "generic", or "ecp5" to instantiate its MULT18X18D with the output register.
        shift_add: A product with a constant of at most this many signed digits (canonical) becomes
            shifts and additions; 0 keeps every multiplier.
        vectors: Golden vectors of each testbench; the array has whole ticks of them.
        through: The module that the neurons of the array pass through: "core" (a neuron a cycle) or
            "seq" (one multiplier).

    Raises:
        ModelError: A value that is not accepted.
    """

    forms: tuple[str, ...] = FORMS
    neurons: Neurons = 256
    coefficients: CoefficientsName = "constant"
    multiplier: MultiplierName = "generic"
    shift_add: ShiftAdd = 2
    vectors: Vectors = 2000
    through: ThroughName = "core"

    def __post_init__(self) -> None:
        """Validate every field, and sort the forms."""
        forms: Any = self.forms
        is_group = isinstance(forms, Collection) and not isinstance(forms, str)
        if not is_group or not forms or any(f not in FORMS for f in forms):
            raise wrong("Rtl", "forms", forms, f"some of {', '.join(FORMS)}")
        object.__setattr__(self, "forms", tuple(f for f in FORMS if f in forms))
        values = {word: getattr(self, word) for word in Rtl.__slots__}
        require_declared("Rtl", Rtl.__init__, values)
