"""Memory layout of the neurons of a call: any dense layout is read in place.

A kernel sees a time step as `neurons` adjacent elements, in samples of `sample` neurons. Neuron m
has element m / inner % channels of a parameter per channel, element m % sample of one per neuron.
This holds for every dense layout whose outermost axis is the batch: contiguous (N, C, *), channels
last and others. Time may have any stride; stride 0 repeats one frame.

A further input arrives expanded to (T, N, *), with stride 0 on the axes along which it repeats. A
step of its memory has `count` numbers, and neuron m reads number m / inner % count (`sharing`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from math import prod
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lnm_codegen.ir.declarations import Param
from lnm_codegen.nn.memory import empty


class Layout(NamedTuple):
    """Sizes that kernels take (`backends.plan.SIZES`), and the shape and strides of tensors."""

    time_steps: int
    neurons: int
    sample: int
    channels: int
    inner: int
    shape: torch.Size  # (T, N, *)
    strides: tuple[int, ...]  # of one time step
    order: tuple[int, ...] | None  # axes of a sample, outermost first, unless they are in order
    step_shape: torch.Size  # (N, *)

    @property
    def sizes(self) -> tuple[int, int, int, int, int]:
        """First arguments of every kernel."""
        return self[:5]

    def empty_sequence(self, like: Tensor) -> Tensor:
        """Return an uninitialised (T, N, *) of the type and on the device of `like`."""
        return empty(like, self.shape, (self.neurons, *self.strides))

    def empty_rows(self, like: Tensor, rows: int, dtype: torch.dtype | None = None) -> Tensor:
        """Return an uninitialised (rows, N, *) on the device of `like`, by default of its type."""
        return empty(like, (rows, *self.step_shape), (self.neurons, *self.strides), dtype)

    def empty_step(self, dtype: torch.dtype, device: torch.device) -> Tensor:
        """Return an uninitialised (N, *)."""
        return torch.empty_strided(self.step_shape, self.strides, dtype=dtype, device=device)

    def sequence(self, x: Tensor) -> Tensor:
        """Return `x`, (T, N, *), or a copy whose steps have this layout."""
        if x.is_neg():
            x = x.resolve_neg()
        if x.stride()[1:] == self.strides:
            return x  # the usual case
        if _matches(self.strides, x.shape[1:], x.stride()[1:]):
            return x
        return self.empty_sequence(x).copy_(x)

    def rows(self, x: Tensor) -> Tensor:
        """Return `x`, (rows, N, *), or a copy whose rows have this layout and are adjacent."""
        if x.stride() == (self.neurons, *self.strides):
            return x
        return self.empty_rows(x, x.shape[0]).copy_(x)

    def further(self, x: Tensor) -> Tensor:
        """Return `x`, (T, N, *) with stride 0 where it repeats, or a copy that has a `sharing`.

        The copy repeats along time where `x` does, and along axes outside those that `x` varies on.
        """
        if x.is_neg():
            x = x.resolve_neg()
        shared = self._shared(x)
        if _matches(shared.strides, x.shape[1:], x.stride()[1:]):
            return x
        strides = (shared.numbers or self.neurons, *shared.strides)
        copy: Tensor = _Copy.apply(x, strides, (x.stride(0), *shared.strides))  # type: ignore[no-untyped-call]
        return copy

    def sharing(self, x: Tensor) -> tuple[int, int]:
        """Return `inner` and `count` of a result of `further`; (0, 0) if neurons share nothing."""
        if x.stride()[1:] == self.strides:
            return 0, 0  # the usual case
        shared = self._shared(x)
        return shared.inner, shared.numbers

    def _shared(self, x: Tensor) -> _Shared:
        return _shared(self.step_shape, self.strides, x.stride()[1:])

    def step(self, value: Tensor) -> Tensor:
        """Return `value`, (N, *) or one number, or a copy that has this layout."""
        if value.is_neg():
            value = value.resolve_neg()
        if value.shape != self.step_shape or _matches(self.strides, value.shape, value.stride()):
            return value
        return self.empty_step(value.dtype, value.device).copy_(value)

    def in_memory_order(
        self, params: Sequence[Param], values: Sequence[Tensor]
    ) -> Sequence[Tensor]:
        """Return parameters; those per neuron have their axes in the order of memory."""
        if self.order is None:
            return values
        return [
            v.permute(*self.order, *range(len(self.order), v.dim())) if p.per == "neuron" else v
            for p, v in zip(params, values, strict=True)
        ]

    def from_memory_order(
        self, params: Sequence[Param], grads: Sequence[Tensor | None]
    ) -> Sequence[Tensor | None]:
        """Undo `in_memory_order` for gradients of parameters."""
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


def rearranged(layout: Layout, tensors: Sequence[Tensor], inputs: int, states: int) -> list[Tensor]:
    """Return the tensors of `arranged` in that layout. A hook of saved tensors may change it."""
    return [layout.sequence(tensors[0]), *_others(layout, tensors, inputs, states)]


def readable(params: Sequence[Param], x: Tensor) -> tuple[Tensor, Layout]:
    """Return the first input, copied where its steps have gaps, and its layout.

    For a traced tensor, whose sizes are symbols; `arranged` is for the others.
    """
    return _readable(params, x, _layout)


def arranged(
    params: Sequence[Param], tensors: Sequence[Tensor], inputs: int, states: int
) -> tuple[Layout, list[Tensor]]:
    """Return the layout of a call, and its tensors in that layout, copied where necessary.

    The tensors are inputs (T, N, *), initial states (N, *) or (1,), and parameters.
    """
    x, layout = _readable(params, tensors[0], _known_layout)
    if layout.order is not None:
        own = inputs + states
        tensors = [*tensors[:own], *layout.in_memory_order(params, tensors[own:])]
    return layout, [x, *_others(layout, tensors, inputs, states)]


def _others(layout: Layout, tensors: Sequence[Tensor], inputs: int, states: int) -> list[Tensor]:
    """Return the tensors after the first input; parameters are in the order of memory."""
    own = inputs + states
    return [
        *[layout.further(other) for other in tensors[1:inputs]],
        *[layout.step(value) for value in tensors[inputs:own]],
        *[
            p if p.is_contiguous() and not p.is_neg() else p.resolve_neg().contiguous()
            for p in tensors[own:]
        ],
    ]


def _readable(
    params: Sequence[Param], x: Tensor, find: Callable[..., Layout | None]
) -> tuple[Tensor, Layout]:
    if x.is_neg():
        x = x.resolve_neg()
    indexed = is_indexed(params)
    layout = find(x.shape, x.stride(), x.is_contiguous(), indexed)
    if layout is None:
        x = x.contiguous()
        layout = find(x.shape, x.stride(), True, indexed)
        assert layout is not None
    return x, layout


def is_indexed(params: Sequence[Param]) -> bool:
    """Report whether a parameter is per channel or per neuron."""
    for param in params:  # a loop is faster than any()
        if param.per != "layer":
            return True
    return False


def is_rewritable(x: Tensor, read: Tensor, layout: Layout) -> bool:
    """Report whether an output may overwrite the input, which was read in place."""
    return read is x and (layout.time_steps < 2 or x.stride(0) == layout.neurons)


def layout_of(x: Tensor, indexed: bool) -> Layout | None:
    """Return the layout of (T, N, *), or None where a step must be copied first.

    `indexed` is True if a parameter is per channel or per neuron.
    """
    return _layout(x.shape, x.stride(), x.is_contiguous(), indexed)


def _layout(
    shape: torch.Size, strides: tuple[int, ...], contiguous: bool, indexed: bool
) -> Layout | None:
    neurons = prod(shape[1:])
    order = None
    if contiguous:
        strides = _contiguous(shape[1:])
    else:
        strides = strides[1:]
        axes = _dense_order(shape[1:], strides)
        if axes is None or (indexed and shape[1] > 1 and axes[0] != 0):
            return None
        ranked = sorted(range(1, len(strides)), key=lambda k: -strides[k])
        if ranked != list(range(1, len(strides))):
            order = tuple(k - 1 for k in ranked)
    if not indexed:
        return Layout(shape[0], neurons, 1, 1, max(neurons, 1), shape, strides, None, shape[1:])
    sample = prod(shape[2:])
    channels = shape[2] if len(shape) > 2 else 1
    inner = strides[1] if channels > 1 else max(sample, 1)
    return Layout(shape[0], neurons, sample, channels, inner, shape, strides, order, shape[1:])


_known_layout = lru_cache(maxsize=1024)(_layout)


class _Shared(NamedTuple):
    """Numbers that neurons share: neuron m has number m / inner % numbers; 0, 0 if they do not."""

    inner: int
    numbers: int
    strides: tuple[int, ...]  # of a step that the kernels can read


class _Copy(torch.autograd.Function):
    """Copy of a further input, expanded to its shape; the gradient passes unchanged.

    `strides` are those of the copy. It has length 1 on the axes that have stride 0 in `own`.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, strides: tuple[int, ...], own: tuple[int, ...]) -> Tensor:
        varying = x[tuple(slice(None if stride else 1) for stride in own)]
        return empty(x, varying.shape, strides).copy_(varying).expand(x.shape)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return grad, None, None


@lru_cache(maxsize=1024)
def _shared(shape: torch.Size, strides: tuple[int, ...], given: tuple[int, ...]) -> _Shared:
    """Return how neurons share the numbers of a step.

    The input varies on the axes of stride > 0 in `given`. Axes of the layout between them in memory
    count as varying.
    """
    axes = sorted((k for k, n in enumerate(shape) if n != 1), key=lambda k: -strides[k])
    varying = [place for place, k in enumerate(axes) if given[k]]
    block = axes[varying[0] : varying[-1] + 1] if varying else []
    if len(block) == len(axes) > 0:
        return _Shared(0, 0, strides)
    inner = strides[block[-1]] if block else max(prod(shape), 1)
    own = (strides[k] // inner if k in block else 0 for k in range(len(shape)))
    return _Shared(inner, prod(shape[k] for k in block), tuple(own))


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


def _matches(expected: tuple[int, ...], shape: Sequence[int], strides: Sequence[int]) -> bool:
    """Report whether a step has the strides `expected`, where axes of length 1 may have any."""
    pairs = zip(shape, strides, expected, strict=True)
    return strides == expected or all(n == 1 or a == b for n, a, b in pairs)
