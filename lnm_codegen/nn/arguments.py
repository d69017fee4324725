"""What a call of a layer may be given, and what it means: shapes, types, initial states."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._C._functorch import is_functorch_wrapped_tensor
from torch._subclasses.fake_tensor import FakeTensor

from lnm_codegen.errors import ShapeError, UnsupportedError
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.validation import did_you_mean

TYPES = {
    torch.float32: "float32", torch.float64: "float64", torch.bfloat16: "bfloat16",
    torch.float16: "float16",
}  # fmt: skip
"""What sequences may be."""

REAL = {t: torch.float64 if t is torch.float64 else torch.float32 for t in TYPES}
"""The type of arithmetic, states and parameters by that of sequences."""


def given_states(neuron: Neuron, given: Any) -> dict[str, Any]:
    """Return the `state` argument of a call as a dict, or raise ShapeError."""
    if given is not None and not isinstance(given, Mapping):
        names = ", ".join(s.name for s in neuron.states)
        raise ShapeError(
            neuron.name, f"state is a {type(given).__name__}; expected a dict by name, of {names}"
        )
    return dict(given or {})


def parameters_of(
    neuron: Neuron, shapes: Sequence[tuple[int, ...]], values: Sequence[Tensor], x: Tensor
) -> list[Tensor]:
    """Return the parameters in the type of the arithmetic, or raise ShapeError.

    The kernels read them through bare addresses, so that shape and device must be right.
    """
    real, device = REAL[x.dtype], x.device
    for k, value in enumerate(values):
        if value.shape != shapes[k] or value.device != device:
            raise ShapeError(
                neuron.name,
                (
                    f"parameter {neuron.params[k].name!r} is {tuple(value.shape)} on {value.device}; "
                    f"expected {shapes[k]} on {device}, where the input is"
                ),
            )
    return [value if value.dtype is real else value.to(real) for value in values]


def check_inputs(neuron: Neuron, inputs: tuple[Tensor, ...], step_mode: str) -> tuple[Tensor, ...]:
    """Return the inputs of a call, or raise ShapeError."""
    x, axes = inputs[0] if inputs else None, 2 if step_mode == "m" else 1
    if len(inputs) == len(neuron.inputs) == 1 and isinstance(x, Tensor):
        if x.dim() >= axes and x.dtype in TYPES:
            return inputs  # what nearly every call is
    name = neuron.name
    expected = "(T, N, *)" if axes == 2 else "(N, *)"
    if len(inputs) != len(neuron.inputs):
        names = ", ".join(s.name for s in neuron.inputs)
        raise ShapeError(name, f"{len(inputs)} inputs given; the model takes {names or 'none'}")
    for symbol, x in zip(neuron.inputs, inputs, strict=True):
        if not isinstance(x, Tensor):
            raise ShapeError(
                name, f"input {symbol.name!r} is a {type(x).__name__}; expected a tensor"
            )
        if x.dim() < axes:
            raise ShapeError(
                name,
                (
                    f"input {symbol.name!r} has shape {tuple(x.shape)}; expected {expected} with at "
                    f"least {axes} axes"
                ),
            )
        if x.shape != inputs[0].shape or x.dtype != inputs[0].dtype:
            raise ShapeError(
                name,
                (
                    f"input {symbol.name!r} is {tuple(x.shape)} {x.dtype}, the first "
                    f"{tuple(inputs[0].shape)} {inputs[0].dtype}; expected the same"
                ),
            )
        if x.device != inputs[0].device:
            raise ShapeError(
                name,
                (
                    f"input {symbol.name!r} is on {x.device}, the first on {inputs[0].device}; "
                    "expected one device"
                ),
            )
        if x.dtype not in TYPES:
            raise ShapeError(
                name, f"input {symbol.name!r} is {x.dtype}", TYPES.values(), "Use x.float()."
            )
    return inputs


def refuse_strangers(
    neuron: Neuron,
    reader: str,
    tensors: Sequence[Tensor],
    remedy: str = "Use backend='torch'.",
) -> None:
    """Raise UnsupportedError where a tensor has no plain memory that `reader` could read."""
    for tensor in tensors:
        if is_functorch_wrapped_tensor(tensor):
            what = "torch.func transforms (vmap, grad, jvp) do not reach"
        elif isinstance(tensor, FakeTensor) or tensor.layout is not torch.strided:
            what = f"a {type(tensor).__name__} of layout {tensor.layout} does not fit"
        else:
            continue
        raise UnsupportedError(neuron.name, f"{what} into {reader}", remedy=remedy)


def check_rows(neuron: Neuron, made_for: dict[str, tuple[int, ...]], shape: torch.Size) -> None:
    """Raise ShapeError where (T, N, C, *) is not what the parameters' rows were made for."""
    for param in neuron.params:
        rows = made_for[param.name]
        if param.per == "layer":
            continue
        if param.per == "channel":
            seen = shape[2:3]
            found = f"{shape[2] if len(seen) else 'no'} channels (axis 2 of (T, N, C, *))"
        else:
            seen = shape[2:]
            found = f"neurons {tuple(seen)} in a sample (T, N, *)"
        if tuple(seen) != rows:
            raise ShapeError(
                neuron.name,
                (
                    f"x_seq has shape {tuple(shape)}, {found}; parameter {param.name!r}, per "
                    f"{param.per}, was made for {rows}"
                ),
            )


def start_states(
    neuron: Neuron, x: Tensor, given: dict[str, Any], *, kept: Mapping[str, Tensor]
) -> list[Tensor]:
    """Return the initial states, (N, *), or (1,) where one number serves every neuron."""
    name = neuron.name
    states = {s.name: s for s in neuron.states}
    for word in given:
        if word not in states:
            raise ShapeError(
                f"{name}: no state {word!r}. Declared: {', '.join(states) or 'none'}."
                f"{did_you_mean(word, states)}"
            )
    start = []
    for word, symbol in states.items():
        value = given.get(word, symbol.decl.init)  # type: ignore[union-attr]
        if callable(value):
            value = value(torch.default_generator, tuple(x.shape[1:]))
        try:
            value = torch.as_tensor(value, dtype=REAL[x.dtype], device=x.device)
        except (TypeError, ValueError, RuntimeError):
            raise ShapeError(
                name, f"state {word!r} is {value!r}; expected a number or a tensor"
            ) from None
        is_kept = value is kept.get(word)
        if is_kept and value.shape != x.shape[1:]:
            raise ShapeError(
                name,
                f"state {word!r} has shape {tuple(value.shape)}; expected {tuple(x.shape[1:])}",
                remedy="Call reset() before a new batch size.",
            )
        if value.dim() == 0 and not value.requires_grad:
            value = value.reshape(1)
        elif value.shape != x.shape[1:]:
            try:
                value = value.expand(x.shape[1:])
            except RuntimeError:
                raise ShapeError(
                    name,
                    f"state {word!r} has shape {tuple(value.shape)}; expected {tuple(x.shape[1:])}",
                ) from None
        start.append(value)
    return start
