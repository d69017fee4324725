"""Declarations of a neuron: its states, inputs, parameters and spikes, as plain data.

`language/symbols.py` makes SymPy symbols of them. The IR and the backends know only this module.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

Init: TypeAlias = "float | tuple[float, ...] | Callable[[Any, tuple[int, ...]], Any]"
Granularity: TypeAlias = Literal["layer", "channel", "neuron"]


@dataclass(frozen=True, slots=True)
class Draw:
    """Random initial values of a parameter in a layer: one part of a joint draw.

    Attributes:
        sample: Function (generator, axes) -> a tensor for each part. `axes` are the leading axes of
            the parameters, (), (C,) or (C, *); a vector has its size after them. The parameters of
            a layer with equal samples and different parts come from one call.
        part: Index of the part.
    """

    sample: Callable[[Any, tuple[int, ...]], Sequence[Any]]
    part: int = 0


@dataclass(frozen=True, slots=True)
class State:
    """A state of one neuron, carried from step to step. `init` is a number or a function.

    `param` is the name of the parameter that is the initial value, or empty; `init` is then the
    parameter's `init`.
    """

    name: str
    init: Init = 0.0
    param: str = ""

    def with_init(self, init: Init) -> State:
        """Return this state with another initial value."""
        return replace(self, init=init)


@dataclass(frozen=True, slots=True)
class Input:
    """An input of one neuron, new at every step.

    `read` is False for one that no expression reads: it sets T and the shape of a layer.
    """

    name: str
    read: bool = True


@dataclass(frozen=True, slots=True)
class Param:
    """A parameter: a scalar (`size` None) or a vector, learnable or not.

    `per` is its granularity: one value per layer, per channel or per neuron. A layer begins with
    the values of `draw` where that is given; everything else uses `init`.
    """

    name: str
    size: int | None = None
    init: Init = 0.0
    learnable: bool = True
    per: Granularity = "layer"
    draw: Draw | None = None

    @property
    def element_names(self) -> tuple[str, ...]:
        """Identifiers of the scalars: `tau`, or `theta_0`, `theta_1`, ..."""
        if self.size is None:
            return (self.name,)
        return tuple(f"{self.name}_{k}" for k in range(self.size))

    def with_per(self, per: Granularity) -> Param:
        """Return this parameter at another granularity."""
        return replace(self, per=per)

    def with_init(self, init: Init) -> Param:
        """Return this parameter with another initial value, which is not drawn."""
        return replace(self, init=init, draw=None)


@dataclass(frozen=True, slots=True)
class Prologue:
    """Normalisation of the first input before the step: x = scale*(raw - mean) + shift.

    Attributes:
        raw: Name of the input that is normalised.
        mean: Name of the parameter that is subtracted, one value per channel, as the next two.
        scale: Name of the factor; its gradient is the sum of e*(raw - mean), e that of x.
        shift: Name of the summand; its gradient is the sum of e.
    """

    raw: str
    mean: str
    scale: str
    shift: str


@dataclass(frozen=True, slots=True)
class SpikeDeclaration:
    """A named spike: 1 where its fire expression is >= 0, else 0."""

    name: str


@dataclass(frozen=True, slots=True)
class BoundValue:
    """A name for the value of an expression."""

    name: str


Declaration: TypeAlias = State | Input | Param | SpikeDeclaration | BoundValue
