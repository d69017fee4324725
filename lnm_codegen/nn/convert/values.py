"""Numbers and tensors of a layer that is converted, as parameters of a neuron."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from lnm_codegen.errors import UnsupportedError
from lnm_codegen.language.symbols import Declared, Granularity, param
from lnm_codegen.validation import is_number


def number(where: str, name: str, value: Any) -> float:
    """Return a finite number, or the element of a tensor without a gradient, or refuse it.

    Raises:
        UnsupportedError: Anything else.
    """
    if isinstance(value, Tensor):
        if value.numel() != 1 or value.requires_grad:
            what = "a tensor that requires a gradient" if value.requires_grad else "a tensor"
            problem = f"{name} is {what} of shape {tuple(value.shape)}"
            raise UnsupportedError(where, problem, "a number")
        value = value.item()
    if not is_number(value) or not math.isfinite(value):
        raise UnsupportedError(where, f"{name} is {value!r}", "a finite number")
    return float(value)


@dataclass(frozen=True)
class Kept:
    """Tensors of a layer that become parameters of a neuron, by name.

    Attributes:
        given: The tensors as the library has them.
        values: The same as (), (C,) or `shape`.
        per: Granularity of each.
        shape: Shape of the parameters per neuron, that of a sample or one that broadcasts to it;
            None if there are none.
        channels: C where a parameter is per channel, else None.
    """

    given: Mapping[str, Tensor]
    values: Mapping[str, Tensor] = field(repr=False)
    per: Mapping[str, Granularity]
    shape: tuple[int, ...] | None
    channels: int | None

    def learns(self, name: str) -> bool:
        """Report whether a tensor has a gradient."""
        given = self.given[name]
        return isinstance(given, nn.Parameter) or given.requires_grad

    def symbol(self, name: str) -> Declared:
        """Declare the parameter of that name."""
        value = self.values[name]
        init = float(value.detach().reshape(-1)[0])
        return param(name, init=init, learnable=self.learns(name), per=self.per[name])

    def is_only(self, name: str, value: float) -> bool:
        """Report whether a tensor is a constant with this value everywhere."""
        return not self.learns(name) and bool((self.given[name] == value).all())


def kept(where: str, tensors: Mapping[str, Any]) -> Kept:
    """Return tensors as parameters of a layer; a number counts as a tensor without axes.

    A value for the last axes of (N, *) is per neuron, one of shape (C, 1, ...) per channel. Values
    per neuron may differ in their first axes of length 1.

    Raises:
        UnsupportedError: A tensor that is neither, or a result of other tensors under autograd; a
            value that is not finite; or shapes that contradict each other.
    """
    given = {
        name: value if isinstance(value, Tensor) else torch.as_tensor(value, dtype=torch.float64)
        for name, value in tensors.items()
    }
    values: dict[str, Tensor] = {}
    per: dict[str, Granularity] = {}
    shapes: dict[tuple[int, ...], tuple[int, ...]] = {}  # without first axes of length 1 -> with
    channels: set[int] = set()
    for name, tensor in given.items():
        own = tuple(tensor.shape)
        while own[:1] == (1,):
            own = own[1:]
        if not tensor.is_floating_point():
            tensor = tensor.to(torch.get_default_dtype())
        if not bool(tensor.isfinite().all()):
            raise UnsupportedError(where, f"{name} is not finite")
        if not given[name].is_leaf:
            raise UnsupportedError(where, f"{name} is computed from a tensor with a gradient")
        if tensor.numel() == 1:
            own, per[name] = (), "layer"
        elif len(own) > 1 and set(own[1:]) == {1}:
            own, per[name] = own[:1], "channel"
            channels.add(own[0])
        else:
            per[name] = "neuron"
            shapes[own] = max(shapes.get(own, ()), tuple(tensor.shape), key=len)
        values[name] = tensor.reshape(own)
    first = {shape[0] for shape in shapes.values()} | channels
    if len(shapes) > 1 or len(first) > 1 or any(1 in shape for shape in shapes):
        found = ", ".join(f"{name} {tuple(t.shape)}" for name, t in given.items() if t.dim())
        problem = f"parameters of shape {found}"
        raise UnsupportedError(where, problem, "(), (C, 1, 1), or the shape of one sample")
    shape = next(iter(shapes.values()), None)
    values |= {
        name: values[name].reshape(shape) for name in given if shape and per[name] == "neuron"
    }
    return Kept(given, values, per, shape, None if shape else next(iter(channels), None))
