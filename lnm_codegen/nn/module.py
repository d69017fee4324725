"""Module whose parameters and buffers are the parameters of a neuron.

A parameter per channel or per neuron whose size is not given is lazy, as in `nn.LazyLinear`: the
first input, or a state_dict, gives it its shape, and then its initial value.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter, is_lazy

from lnm_codegen.errors import ModelError, ShapeError, UnsupportedError
from lnm_codegen.ir.declarations import Param
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.nn.arguments import require_axes
from lnm_codegen.nn.parameters import (
    axes_in,
    declared_axes,
    initial_values,
    leading_axes,
    require_drawable,
    require_own,
    whole_shape,
)
from lnm_codegen.options import StepMode
from lnm_codegen.validation import wrong

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
