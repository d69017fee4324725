"""How the neurons of a call lie in memory: any dense layout is taken as it is.

A kernel sees a step as `neurons` numbers side by side, in the order of memory, samples of `sample`
neurons. Neuron m has row m / inner % channels of a parameter per channel, row m % sample of one per
neuron. That holds for every dense layout whose outermost axis is the batch: contiguous (N, C, *),
channels last, and others. Time may have any stride, 0 (one frame shown again and again) among them.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor

from lnm_codegen.ir.declarations import Param


class Layout(NamedTuple):
    """The sizes that kernels take, and what tensors of this layout look like.

    Attributes:
        time_steps, neurons, sample, channels, inner: See `lnm_codegen.backends.plan.SIZES`.
        shape: (T, N, *).
        strides: Of one step.
        order: Axes of a sample, outermost first, where they are not in order.
    """

    time_steps: int
    neurons: int
    sample: int
    channels: int
    inner: int
    shape: torch.Size
    strides: tuple[int, ...]
    order: tuple[int, ...] | None

    @property
    def sizes(self) -> tuple[int, int, int, int, int]:
        """What every call of a kernel begins with."""
        return self[:5]

    def empty_sequence(self, dtype: torch.dtype, device: torch.device) -> Tensor:
        """Return an uninitialised (T, N, *)."""
        strides = (self.neurons, *self.strides)
        return torch.empty_strided(self.shape, strides, dtype=dtype, device=device)

    def empty_step(self, dtype: torch.dtype, device: torch.device) -> Tensor:
        """Return an uninitialised (N, *)."""
        return torch.empty_strided(self.shape[1:], self.strides, dtype=dtype, device=device)

    def sequence(self, x: Tensor) -> Tensor:
        """Return a (T, N, *) whose steps have this layout: `x`, or a copy."""
        if x.is_neg():
            x = x.resolve_neg()
        if _matches(self, x.shape[1:], x.stride()[1:]):
            return x
        return self.empty_sequence(x.dtype, x.device).copy_(x)

    def step(self, value: Tensor) -> Tensor:
        """Return an (N, *) of this layout: `value`, or a copy; one number stays one."""
        if value.is_neg():
            value = value.resolve_neg()
        if value.shape != self.shape[1:] or _matches(self, value.shape, value.stride()):
            return value
        return self.empty_step(value.dtype, value.device).copy_(value)

    def in_memory_order(
        self, params: Sequence[Param], values: Sequence[Tensor]
    ) -> Sequence[Tensor]:
        """Return the parameters, the rows of those per neuron in the order of memory."""
        if self.order is None:
            return values
        return [
            v.permute(*self.order, *range(len(self.order), v.dim())) if p.per == "neuron" else v
            for p, v in zip(params, values, strict=True)
        ]

    def from_memory_order(
        self, params: Sequence[Param], grads: Sequence[Tensor | None]
    ) -> Sequence[Tensor | None]:
        """Return gradients of parameters in that order with their axes in place."""
        order = self.order
        if order is None:
            return grads
        back = tuple(order.index(k) for k in range(len(order)))
        return [
            g.permute(*back, *range(len(back), g.dim())).contiguous()
            if p.per == "neuron" and g is not None
            else g
            for p, g in zip(params, grads, strict=True)
        ]


def readable(params: Sequence[Param], x: Tensor) -> tuple[Tensor, Layout]:
    """Return the first input, copied only where its steps have gaps, and its layout."""
    rows = any(p.per != "layer" for p in params)
    if x.is_neg():
        x = x.resolve_neg()
    layout = layout_of(x, rows)
    if layout is None:
        x = x.contiguous()
        layout = layout_of(x, rows)
        assert layout is not None
    return x, layout


def arranged(
    params: Sequence[Param], tensors: Sequence[Tensor], inputs: int, states: int
) -> tuple[Layout, list[Tensor]]:
    """Return the layout of a call and its tensors in it; what fits is not copied.

    Args:
        params: Declarations of the parameters.
        tensors: Inputs (T, N, *), initial states (N, *) or (1,), parameters.
        inputs: How many of them are inputs.
        states: How many are states.
    """
    x, layout = readable(params, tensors[0])
    own = inputs + states
    values = layout.in_memory_order(params, tensors[own:])
    return layout, [
        x,
        *(layout.sequence(other) for other in tensors[1:inputs]),
        *(layout.step(value) for value in tensors[inputs:own]),
        *(p if p.is_contiguous() else p.contiguous() for p in values),
    ]


def is_rewritable(x: Tensor, read: Tensor, layout: Layout) -> bool:
    """Say whether an output may overwrite the input: it was read in place, step after step."""
    return read is x and (layout.time_steps < 2 or x.stride(0) == layout.neurons)


def layout_of(x: Tensor, rows: bool) -> Layout | None:
    """Return the layout of (T, N, *), or None where a step must be copied first.

    Args:
        x: The first input.
        rows: Whether parameters differ between neurons, so that their rows must be found.
    """
    shape = x.shape
    neurons = prod(shape[1:])
    order = None
    if x.is_contiguous():
        strides = _contiguous(shape[1:])
    else:
        strides = x.stride()[1:]
        axes = _dense_order(shape[1:], strides)
        if axes is None or (rows and shape[1] > 1 and axes[0] != 0):
            return None
        ranked = sorted(range(1, len(strides)), key=lambda k: -strides[k])
        if ranked != list(range(1, len(strides))):
            order = tuple(k - 1 for k in ranked)
    if not rows:
        return Layout(shape[0], neurons, 1, 1, max(neurons, 1), shape, strides, None)
    sample = prod(shape[2:])
    channels = shape[2] if len(shape) > 2 else 1
    inner = strides[1] if channels > 1 else max(sample, 1)
    return Layout(shape[0], neurons, sample, channels, inner, shape, strides, order)


def _contiguous(shape: Sequence[int]) -> tuple[int, ...]:
    strides, step = [], 1
    for size in reversed(shape):
        strides.append(step)
        step *= max(size, 1)
    return tuple(reversed(strides))


def _dense_order(shape: Sequence[int], strides: Sequence[int]) -> list[int] | None:
    """Return the axes longer than 1, outermost first; None where memory has gaps or overlaps."""
    axes = sorted((k for k in range(len(shape)) if shape[k] != 1), key=lambda k: -strides[k])
    expected = 1
    for k in reversed(axes):
        if strides[k] != expected:
            return None
        expected *= shape[k]
    return axes


def _matches(layout: Layout, shape: Sequence[int], strides: Sequence[int]) -> bool:
    """Say whether a step of these strides has the layout; the stride of one number is no matter."""
    pairs = zip(shape, strides, layout.strides, strict=True)
    return strides == layout.strides or all(n == 1 or a == b for n, a, b in pairs)
