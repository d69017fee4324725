"""What a backend of the fixed-point level receives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from lnm_codegen.backends.base import Source
from lnm_codegen.backends.verilog.rtl import Rtl
from lnm_codegen.ir.fixed import nodes as fx
from lnm_codegen.ir.fixed.interpret import Array
from lnm_codegen.ir.types import Bits


@dataclass(frozen=True, slots=True)
class Coefficient:
    """A prepared parameter: one integer, or one for each channel.

    Attributes:
        name: As the kernel's port has it, such as `theta_3`.
        bits: Its format.
        integers: What the circuit holds.
        reals: What they were rounded from.
    """

    name: str
    bits: Bits
    integers: tuple[int, ...]
    reals: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class FixedState:
    """A state: its format, and the integer it begins with."""

    name: str
    bits: Bits
    init: int


@dataclass(frozen=True, slots=True)
class FixedModel:
    """A neuron in fixed point, with the values of its parameters.

    Attributes:
        rtl: For circuits alone.
        stimulus: Of the testbench of an array: input -> integers (sequences, ticks, neurons),
            each sequence from the initial states. Where it is None, inputs are drawn.
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
        """How many values the coefficients with several have; 1 where none has."""
        return max((len(c.integers) for c in self.coefficients), default=1)


class FixedBackend(Protocol):
    """A target of the fixed-point level."""

    @property
    def name(self) -> str:
        """The word that users have for it."""
        ...

    def emit(self, model: FixedModel) -> Source:
        """Return the source of `model`.

        Raises:
            UnsupportedError: The target cannot express it.
        """
        ...
