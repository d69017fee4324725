"""Parameters of a layer: shapes, and values by granularity.

The leading axes of a parameter are () per layer, (C,) per channel, and the shape of one sample's
neurons, (C, *), per neuron. A vector has its size as the last axis.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy

from lnm_codegen.errors import ModelError, ShapeError
from lnm_codegen.ir.declarations import Param, finest
from lnm_codegen.language.neuron import Neuron


class _Layer(Protocol):
    """A layer, or any module whose attributes are the parameters of its neuron."""

    neuron: Neuron


class _Module(_Layer, Protocol):
    """A layer whose tensors may be stored or computed."""

    _parameters: dict[str, Any]
    _buffers: dict[str, Any]


@dataclass(frozen=True)
class ParameterSets:
    """Parameter values of a layer: one set for the layer, for each channel or for each neuron.

    There is one set per element of the finest granularity; coarser parameters are repeated.

    Attributes:
        shape: (), (C,) or the shape of one sample's neurons. The number of sets R is its product.
        values: Parameter -> (R,) or (R, size), detached, on the CPU.
    """

    shape: tuple[int, ...]
    values: dict[str, Tensor]

    def __len__(self) -> int:
        return math.prod(self.shape)

    @property
    def per(self) -> str:
        """Granularity of the sets: "layer", "channel" or "neuron"."""
        return {0: "layer", 1: "channel"}.get(len(self.shape), "neuron")

    def evenly_spaced_indices(self, most: int) -> list[int]:
        """Return the indices of at most `most` sets, evenly spaced."""
        if len(self) <= most:
            return list(range(len(self)))
        return sorted({round(k) for k in torch.linspace(0, len(self) - 1, most).tolist()})

    def of(self, index: int) -> dict[str, Any]:
        """Return the values of one set as floats and lists of floats."""
        return {name: value[index].double().tolist() for name, value in self.values.items()}

    def place(self, index: int) -> str:
        """Return where a set is used: "layer", "channel 3", "neuron (3, 0, 1)"."""
        if not self.shape:
            return "layer"
        at = [int(k) for k in torch.unravel_index(torch.tensor(index), self.shape)]
        return f"{self.per} {at[0] if len(at) == 1 else tuple(at)}"


def parameter_sets(layer: _Layer) -> ParameterSets:
    """Return the parameter values of a layer, repeated to its finest granularity."""
    shape, given, values = finest_axes(layer), values_of(layer), {}
    for param in layer.neuron.params:
        value = broadcastable(param, given[param.name].detach().cpu(), len(shape))
        size = () if param.size is None else (param.size,)
        values[param.name] = value.expand((*shape, *size)).reshape(-1, *size)
    return ParameterSets(shape, values)


def values_of(layer: _Layer) -> dict[str, Tensor]:
    """Return the parameters of a layer by name, in their order: learnable ones and constants.

    Raises:
        ModelError: A parameter is lazy, and has no values yet.
    """
    found = {p.name: getattr(layer, p.name) for p in layer.neuron.params}
    for name, value in found.items():
        if is_lazy(value):
            problem = f"parameter {name!r} of the layer is lazy, and has no values yet"
            remedy = "Give channels= or shape= to the layer, or call it once."
            raise ModelError(layer.neuron.name, problem, remedy=remedy)
    return found


def finest_axes(layer: _Layer) -> tuple[int, ...]:
    """Return the leading axes of a layer's finest parameter."""
    pairs = zip(layer.neuron.params, values_of(layer).values(), strict=True)
    found = (leading_axes(param, value) for param, value in pairs)
    return max(found, key=len, default=())


def needed_sizes(neuron: Neuron, sample: tuple[int, ...]) -> dict[str, Any]:
    """Return `channels` or `shape` of a layer where its parameters need it, for a sample's shape.

    Such a layer takes samples of other shapes too, as far as its parameters do.
    """
    per = finest(p.per for p in neuron.params)
    if per == "neuron":
        return {"shape": sample}
    return {"channels": sample[0]} if per == "channel" else {}


def leading_axes(param: Param, value: Tensor) -> tuple[int, ...]:
    """Return the axes of a parameter's value without the size of a vector."""
    return tuple(value.shape if param.size is None else value.shape[:-1])


def broadcastable(param: Param, value: Tensor, axes: int) -> Tensor:
    """Insert axes of size 1 after the leading axes; the value then broadcasts to `axes` of them."""
    own = leading_axes(param, value)
    ones = (1,) * (axes - len(own)) if own else ()
    return value.reshape((*own, *ones, *value.shape[len(own) :]))


def declared_axes(
    param: Param, channels: int | None, shape: tuple[int, ...] | None
) -> tuple[int, ...] | None:
    """Return the leading axes of a parameter, or None until the first input shows them."""
    if param.per == "layer":
        return ()
    if param.per == "channel":
        return (channels,) if channels is not None else None if shape is None else shape[:1]
    return shape


def axes_in(param: Param, shape: torch.Size) -> tuple[int, ...] | None:
    """Return the leading axes that an input (T, N, C, *) gives to a parameter; None without C."""
    if param.per == "layer":
        return ()
    return tuple(shape[2:]) if param.per == "neuron" else tuple(shape[2:3]) or None


def whole_shape(param: Param, axes: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of a parameter with these leading axes."""
    return axes if param.size is None else (*axes, param.size)


def initial_values(known: Sequence[tuple[Param, tuple[int, ...]]]) -> list[Tensor]:
    """Return the initial values of parameters with known leading axes.

    Parameters with equal `sample` and axes take different parts of one draw.

    Raises:
        ShapeError: `init` or `draw` gives another shape.
    """
    drawn: dict[Any, dict[int, Any]] = {}
    starts = []
    for param, axes in known:
        shape = whole_shape(param, axes)
        if param.draw is not None:
            joint = (param.draw.sample, axes)
            if param.draw.part not in drawn.get(joint, {}):
                drawn[joint] = dict(enumerate(param.draw.sample(torch.default_generator, axes)))
            start = torch.as_tensor(drawn[joint].pop(param.draw.part))
        elif callable(param.init):
            start = torch.as_tensor(param.init(torch.default_generator, shape))
        else:
            start = torch.tensor(param.init, dtype=torch.float64).expand(shape)
        if start.shape != shape:
            problem = f"the init of {param.name!r} returned shape {tuple(start.shape)}"
            raise ShapeError("NeuronLayer", problem, str(shape))
        starts.append(start)
    return starts


def require_drawable(params: Sequence[Param]) -> None:
    """Raise ModelError if one draw initialises parameters of different granularity."""
    for one, other in itertools.combinations(params, 2):
        if one.draw is None or other.draw is None or one.per == other.per:
            continue
        if one.draw.sample == other.draw.sample and one.draw.part != other.draw.part:
            problem = f"{one.name!r} per {one.per} and {other.name!r} per {other.per}"
            raise ModelError(
                "NeuronLayer",
                f"{problem} are initialised by one random draw",
                "one granularity for both",
                "Change per, or give initial values that are not drawn.",
            )


def require_own(where: str, layer: _Module, names: Iterable[str]) -> None:
    """Raise ModelError if a named tensor is not a parameter or buffer of the layer itself.

    `torch.nn.utils.parametrize`, `weight_norm` and `prune` replace a parameter by a value that they
    compute at each access. A number written into that value is lost.
    """
    for name in names:
        if name not in layer._parameters and name not in layer._buffers:
            raise ModelError(
                where,
                f"{name!r} of {layer.neuron.name} is computed, as by torch.nn.utils.parametrize,"
                " so it cannot be set",
                "one of the layer's own parameters and buffers",
                "Remove the parametrization first.",
            )


def parameter_of(neuron: Neuron, params: Sequence[Tensor], name: str, axes: int) -> Tensor:
    """Return the parameter of that name, which broadcasts to (N, *), * having `axes` axes."""
    pairs = zip(neuron.params, params, strict=True)
    return next(broadcastable(p, value, axes) for p, value in pairs if p.name == name)
