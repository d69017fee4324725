"""Interface of the fixed-point backends: a neuron in fixed point with its values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from lnm_codegen.backends.rtl import Rtl
from lnm_codegen.ir.fixed import nodes as fx
from lnm_codegen.ir.fixed.interpret import Array
from lnm_codegen.ir.types import Bits


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
