"""Recipe of a layer: the neuron, the class of its layer, and what it keeps of the old one."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from lnm_codegen.errors import UnsupportedError
from lnm_codegen.language.functions import ExprLike, stop_gradient
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.language.symbols import Declared, spike
from lnm_codegen.nn.convert.values import Kept, kept, number
from lnm_codegen.nn.layer import NeuronLayer
from lnm_codegen.options import StepMode

NOTHING: Kept = kept("nothing", {})
"""No tensor."""

TRACE = (
    "Write its step as a function of tensors, and put lnm.nn.NeuronLayer(lnm.trace(step, ...)) in "
    "its place."
)
"""Remedy for a neuron that no family has."""


@dataclass(frozen=True)
class Protocol:
    """Form of a layer's calls.

    Attributes:
        layer: `NeuronLayer`, or a subclass with the calls of a library.
        step_mode: "m" or "s".
        carry_state: The layer keeps its states between calls in multi-step mode.
        attributes: Attributes of the subclass.
        buffers: Old buffers that no neuron reads and a state_dict has.
    """

    layer: type[NeuronLayer] = NeuronLayer
    step_mode: StepMode = "m"
    carry_state: bool = False
    attributes: Mapping[str, Any] = field(default_factory=dict)
    buffers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Recipe:
    """A neuron with the dynamics of an old layer.

    Attributes:
        neuron: The neuron.
        protocol: Form of the calls.
        kept: Old tensors that are parameters of the neuron.
        reason: Why the neuron is an approximation, or empty.
    """

    neuron: Neuron
    protocol: Protocol
    kept: Kept = NOTHING
    reason: str = ""


def name_of(old: nn.Module) -> str:
    """Return the class name of a layer."""
    return type(old).__name__


def kind_of(old: nn.Module, known: Collection[str]) -> str:
    """Return the name of a layer's class, or of the known class that it derives from, or ""."""
    return next((kind.__name__ for kind in type(old).__mro__ if kind.__name__ in known), "")


def number_of(old: Any, name: str) -> float:
    """Return a number that is an attribute of a layer."""
    return number(name_of(old), name, getattr(old, name))


def optional_number(old: Any, name: str) -> float | None:
    """Return a number that is an attribute of a layer, or None."""
    return None if getattr(old, name) is None else number_of(old, name)


def require(old: nn.Module, condition: Any, problem: str, remedy: str = "") -> None:
    """Raise UnsupportedError unless a condition holds."""
    if not condition:
        raise UnsupportedError(name_of(old), problem, remedy=remedy)


def symbol_of(neuron: Neuron, name: str) -> Declared:
    """Return the declared symbol of that name."""
    return next(s for s in neuron.symbols if s.name == name)


def with_step_end(
    neuron: Neuron, v_reset: float | None, detach: bool, scale: ExprLike = 1
) -> Neuron:
    """Return the neuron with a second output, v after the reset.

        v_seq = v/scale - s*v_threshold/scale, or s*v_reset + (1 - s)*v/scale

    `s` is the spike; with `detach`, a constant to the derivative.
    """
    v, threshold = symbol_of(neuron, "v"), symbol_of(neuron, "v_threshold")
    s: Any = stop_gradient(spike) if detach else spike
    h = v / scale
    after = h - s * (threshold / scale) if v_reset is None else s * v_reset + (1 - s) * h
    return neuron.with_outputs(v_seq=after)
