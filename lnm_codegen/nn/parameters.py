"""Parameters of a layer: shapes, values by granularity, and the module that has them.

The leading axes of a parameter are () per layer, (C,) per channel, and the shape of one sample's
neurons, (C, *), per neuron. A vector has its size as the last axis.
"""

from __future__ import annotations

import itertools
import math
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter, is_lazy

from lnm_codegen.errors import ModelError, ShapeError, UnsupportedError
from lnm_codegen.ir.declarations import Param, finest
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.nn.arguments import require_axes
from lnm_codegen.options import StepMode
from lnm_codegen.validation import wrong


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


# Module whose parameters and buffers are the parameters of a neuron.
#
# A parameter per channel or per neuron whose size is not given is lazy, as in `nn.LazyLinear`: the
# first input, or a state_dict, gives it its shape, and then its initial value.


_LOCK = threading.Lock()
"""Held while lazy parameters get their sizes, which several threads may find at once."""

LAZY = "call the layer once first: its parameters are lazy"
"""Reason why a graph of `torch.compile` ends at a first call."""


class NeuronModule(nn.Module):
    """Parameters of a neuron as attributes: an `nn.Parameter` if learnable, else a buffer."""

    neuron: Neuron
    step_mode: StepMode = "m"
    _names: tuple[str, ...] = ()

    def _declare(self, channels: int | None, shape: tuple[int, ...] | None, **like: Any) -> None:
        """Add the parameters of the neuron, after every other attribute; `like`: dtype, device."""
        params = self.neuron.params
        require_drawable(params)
        self._names = tuple(p.name for p in params)
        self._places = tuple((p.name, p.learnable) for p in params)
        self._axes = [declared_axes(p, channels, shape) for p in params]
        self._has_axes = any(p.per != "layer" for p in params)
        self._measure()
        for param, axes in zip(params, self._axes, strict=True):
            _register(self, param, axes, **like)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Set every parameter and constant to its initial value; draw the random ones anew.

        A lazy parameter stays lazy.

        Raises:
            ModelError: A parameter is computed, as by `torch.nn.utils.parametrize`. Nothing
                changes then.
        """
        require_own("reset_parameters", self, self._names)
        pairs = zip(self.neuron.params, self._axes, strict=True)
        known = [(param, axes) for param, axes in pairs if axes is not None]
        for (param, _), start in zip(known, initial_values(known), strict=True):
            getattr(self, param.name).copy_(start)

    def __setattr__(self, name: str, value: Any) -> None:
        """Set the values of a parameter or constant in place, or any other attribute.

        A parameter takes a number, or numbers of its shape. An `nn.Parameter` replaces it, and a
        tensor replaces a constant, as in every module.

        Raises:
            ModelError: The value is no number and no numbers of this shape; or the parameter is
                lazy, or computed, as by `torch.nn.utils.parametrize`.
        """
        if name in self._names and self._takes_numbers(name, value):
            self._fill(name, value)
        else:
            super().__setattr__(name, value)

    def _takes_numbers(self, name: str, value: Any) -> bool:
        """Report whether an assignment to a parameter fills it, and does not replace it."""
        if value is None or isinstance(value, nn.Parameter):
            return False
        if not isinstance(value, Tensor):
            return True
        if (buffer := self._buffers.get(name)) is not None and is_lazy(buffer):
            return True
        return name in self._parameters and not value.requires_grad

    def _fill(self, name: str, value: Any) -> None:
        require_own(self.neuron.name, self, [name])
        own: Tensor = getattr(self, name)
        where, shape = f"{self.neuron.name}.{name}", "()" if is_lazy(own) else str(tuple(own.shape))
        accepted = "a number" if shape == "()" else f"a number, or numbers of shape {shape}"
        if is_lazy(own):
            remedy = "Call the layer once first, or give it channels= or shape=."
            raise ModelError(where, "the parameter is lazy: it has no shape yet", remedy=remedy)
        try:
            numbers = torch.as_tensor(value)
            is_real = not numbers.is_complex() and numbers.dtype is not torch.bool
        except (TypeError, ValueError, RuntimeError):
            is_real = False
        if not is_real:
            raise wrong(where, "it", value, accepted)
        if not isinstance(value, Tensor):  # in PyTorch's default type, 0.1 would be rounded twice
            numbers = torch.as_tensor(value, dtype=torch.float64)
        if not bool(torch.isfinite(numbers).all()):
            raise wrong(where, "it", value, f"{accepted}, finite")
        if numbers.numel() == 1:
            numbers = numbers.reshape(())
        elif numbers.shape != own.shape:
            raise ShapeError(where, f"numbers of shape {tuple(numbers.shape)}", accepted)
        with torch.no_grad():
            own.copy_(numbers)

    def _measure(self) -> None:
        pairs = list(zip(self.neuron.params, self._axes, strict=True))
        self._shapes = [() if axes is None else whole_shape(p, axes) for p, axes in pairs]
        self._is_lazy = None in self._axes

    def _values(self) -> list[Tensor]:
        """Return the parameters in order. Their dicts are faster to read than attributes."""
        learned, constants = self._parameters, self._buffers
        try:
            return [learned[n] if own else constants[n] for n, own in self._places]  # type: ignore[misc]
        except KeyError:  # `parametrize` and others move a parameter
            return [getattr(self, n) for n in self._names]

    def _require_axes(self, shape: torch.Size) -> None:
        """Give lazy parameters the axes of an input (T, N, C, *), or raise ShapeError."""
        axes = self._axes
        if self._is_lazy:
            pairs = zip(self.neuron.params, axes, strict=True)
            axes = [axes_in(p, shape) if own is None else own for p, own in pairs]
        require_axes(self.neuron, axes, shape, self.step_mode)
        if self._is_lazy:  # a refused input fixes no size
            self._materialise(axes)
            # Another thread may have been first.
            require_axes(self.neuron, self._axes, shape, self.step_mode)

    def _require_no_transform(self) -> None:
        if torch._C._are_functorch_transforms_active():
            problem = "a transform of torch.func is the first to call the layer, which is lazy"
            raise UnsupportedError(self.neuron.name, problem, remedy="Call the layer once first.")

    def _require_sizable(self, device: torch.device) -> None:
        """Raise an error if a call on a device cannot give lazy parameters their sizes."""
        self._require_no_transform()
        for name, value in zip(self._names, self._values(), strict=True):
            if value.device != device:
                problem = f"parameter {name!r} is on {value.device}"
                raise ShapeError(self.neuron.name, problem, f"{device}, the device of the input")

    @torch.compiler.disable(reason=LAZY)  # type: ignore[untyped-decorator, no-untyped-call]
    def _materialise(self, axes: Sequence[tuple[int, ...] | None]) -> None:
        """Give lazy parameters the shape and the initial value that follow from known axes.

        Raises:
            UnsupportedError: A transform of `torch.func` is active, in which they would end.
        """
        self._require_no_transform()
        # Values made in inference mode could not train; leaving that mode turns gradients on.
        with _LOCK, torch.inference_mode(False), torch.no_grad():
            triples = zip(self.neuron.params, self._axes, axes, strict=True)
            found = [(p, new) for p, own, new in triples if own is None and new is not None]
            for (param, known), start in zip(found, initial_values(found), strict=True):
                value = getattr(self, param.name)
                value.materialize(whole_shape(param, known))
                value.copy_(start)
                self._axes[self.neuron.params.index(param)] = known
            self._measure()

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        """Save the parameters as `nn.Module` does; lazy ones, which have no values, as they are."""
        super()._save_to_state_dict(destination, prefix, keep_vars or self._is_lazy)
        if self._is_lazy and not keep_vars:
            for key in [prefix + name for name in self._names]:
                value = destination[key]
                destination[key] = value if is_lazy(value) else value.detach()

    def _load_from_state_dict(
        self, state_dict: Any, prefix: str, local_metadata: Any, strict: bool,
        missing_keys: list[str], unexpected_keys: list[str], error_msgs: list[str],
    ) -> None:  # fmt: skip
        """Load the parameters as `nn.Module` does.

        Lazy ones first take the shape of the loaded value. Constants may be missing.
        """
        if self._is_lazy:
            loaded = [state_dict.get(prefix + n) for n in self._names]
            self._materialise(
                [
                    _axes_of(p, v) if isinstance(v, Tensor) and not is_lazy(v) else None
                    for p, v in zip(self.neuron.params, loaded, strict=True)
                ]
            )
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )
        buffers = self._buffers.items()  # a constant that the user trains must not be missing
        kept = {prefix + n for n, v in buffers if v is not None and not v.requires_grad}
        constants = {prefix + p.name for p in self.neuron.params if not p.learnable}
        missing_keys[:] = [key for key in missing_keys if key not in constants & kept]


def _axes_of(param: Param, value: Tensor) -> tuple[int, ...] | None:
    """Return the leading axes of a loaded value, or None where it has no value of `param`."""
    if param.size is not None and value.shape[-1:] != (param.size,):
        return None
    axes = leading_axes(param, value)
    return None if param.per == "channel" and len(axes) != 1 else axes


def _register(
    module: nn.Module, param: Param, axes: tuple[int, ...] | None, dtype: Any, device: Any
) -> None:
    """Add a parameter to a module, without values, or raise ModelError if the name is taken."""
    if hasattr(module, param.name):
        raise ModelError(
            "NeuronLayer",
            f"parameter {param.name!r} has the name of an attribute of the layer",
            remedy="Rename it in the model.",
        )
    like: dict[str, Any] = {"dtype": dtype, "device": device}
    value = None if axes is None else torch.empty(whole_shape(param, axes), **like)
    if param.learnable:
        learned = nn.Parameter(value) if value is not None else UninitializedParameter(**like)
        module.register_parameter(param.name, learned)  # type: ignore[arg-type]
    else:
        module.register_buffer(param.name, UninitializedBuffer(**like) if value is None else value)
