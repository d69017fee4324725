"""Divisors of averaged tensors, tracked while a network runs.

A value n/q of a tensor with the divisor q is an average of n spikes. The divisor of a mean is the
number of values in it, and that of a pooling the size of its window. Spikes divided by an integer
have this integer. The divisors of successive averages multiply. Any other function keeps the
largest divisor of its arguments.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from functools import reduce
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

Divisor: TypeAlias = "float | Tensor"
"""A number; for windows of different sizes, a tensor of the shape of the pooled image. NaN for an
average over such windows."""


class Averages(TorchFunctionMode):
    """Records the divisors of the tensors of a run."""

    def __init__(self) -> None:
        super().__init__()
        self._found = WeakTensorKeyDictionary()

    def of(self, x: Tensor) -> Divisor:
        """Return the divisor of a tensor, 1 without an average."""
        found: Divisor = self._found[x] if x in self._found else 1.0
        return found

    def begin(self, x: Tensor, *, spiking: bool) -> None:
        """Give a tensor the divisor 1: spikes of a neuron layer, or numbers of another layer."""
        if spiking:
            self._found[x] = 1.0
        elif x in self._found:
            del self._found[x]

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Call a function of PyTorch and record the divisors of its results."""
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        given = (*args, *kwargs.values())
        known = [self._found[t] for t in _tensors(given) if t in self._found]
        own: Divisor = 1.0
        if isinstance(out, Tensor) and out.numel():
            own = _divisor(getattr(func, "__name__", ""), bool(known), out, *args, **kwargs)
        if known or _largest(own) != 1:
            divisor = _product(max(known, key=_largest, default=1.0), own)
            for tensor in _tensors((out,)):
                if tensor.is_floating_point():
                    self._found[tensor] = divisor
        return out


def _tensors(values: Iterable[Any]) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, tuple | list):
            yield from (v for v in value if isinstance(v, Tensor))


def _largest(divisor: Divisor) -> float:
    return float(divisor.max()) if isinstance(divisor, Tensor) else divisor


def _product(divisor: Divisor, own: Divisor) -> Divisor:
    if isinstance(divisor, Tensor) and isinstance(own, Tensor):
        return math.nan
    return divisor * own


def _divisor(name: str, spiking: bool, out: Tensor, *args: Any, **kwargs: Any) -> Divisor:
    """Return the divisor by which a function of this name multiplies that of its argument."""
    if name == "mean":
        return next(_tensors((*args, *kwargs.values()))).numel() / out.numel()
    if name in ("div", "div_", "true_divide") and spiking:
        by = args[-1]
        return float(by) if isinstance(by, int) and by > 0 else 1.0
    if "avg_pool" not in name:
        return 1.0
    windows = _adaptive_windows if name.startswith("adaptive") else _windows
    return windows(out, int(name[-2]), *args, **kwargs)


def _adaptive_windows(out: Tensor, axes: int, input: Tensor, *_: Any, **__: Any) -> Divisor:
    """Return the sizes of the windows of an adaptive pooling."""
    ends = zip(out.shape[-axes:], input.shape[-axes:], strict=True)
    return _areas([[-(-(k + 1) * n // m) - k * n // m for k in range(m)] for m, n in ends])


def _windows(
    out: Tensor, axes: int, input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0,
    ceil_mode: bool = False,  # noqa: ARG001 (the size of `out` has it)
    count_include_pad: bool = True, divisor_override: int | None = None,
) -> Divisor:  # fmt: skip
    """Return the numbers by which an average pooling divides the sums of its windows."""
    if divisor_override:
        return float(divisor_override)
    shapes = (out.shape[-axes:], input.shape[-axes:])
    options = (torch.broadcast_to(torch.tensor(o), (axes,)).tolist()
               for o in (kernel_size, stride or kernel_size, padding))  # fmt: skip
    lengths = []
    for m, n, size, by, pad in zip(*shapes, *options, strict=True):
        spans = [(k * by - pad, min(k * by - pad + size, n + pad)) for k in range(m)]
        if not count_include_pad:
            spans = [(max(low, 0), min(high, n)) for low, high in spans]
        lengths.append([high - low for low, high in spans])
    return _areas(lengths)


def _areas(lengths: Sequence[Sequence[int]]) -> Divisor:
    """Return the areas of windows from their lengths along each axis; a number if all are equal."""
    axes = [torch.tensor(along, dtype=torch.float64) for along in lengths]
    areas = reduce(lambda area, along: area.unsqueeze(-1) * along, axes)
    return float(areas.max()) if bool((areas == areas.max()).all()) else areas
