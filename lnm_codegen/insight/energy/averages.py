"""Divisors of averaged tensors, tracked while a network runs.

A value n/q of a tensor with the divisor q is an average of n spikes. The divisor of a mean is the
number of values in it, and that of a pooling the size of its window. Spikes divided by an integer
have this integer. The divisors of successive averages multiply.

Any other function keeps the divisor of its arguments. If their divisors differ,

* a function that moves values, such as `cat`, moves the divisors with them;
* a sum n/q + m/r has the divisor with which it stands for n + m spikes;
* a product of tensors with one divisor each keeps the largest;
* the result of another function has the divisor NaN, so that it counts as numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import reduce
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

Divisor: TypeAlias = "float | Tensor"
"""A number, or a tensor with the divisor of each value. NaN is the divisor of numbers."""

_JOINS = {"cat", "concat", "concatenate", "stack", "hstack", "vstack", "dstack", "column_stack"}
_MOVES = _JOINS | {
    "view", "reshape", "flatten", "unflatten", "view_as", "reshape_as", "ravel", "contiguous",
    "permute", "transpose", "swapaxes", "swapdims", "movedim", "moveaxis", "t", "__get__",
    "squeeze", "unsqueeze", "expand", "expand_as", "broadcast_to", "repeat", "tile",
    "repeat_interleave", "flip", "roll", "__getitem__", "narrow", "select", "index_select",
    "gather", "take_along_dim", "split", "chunk", "tensor_split", "unbind", "clone", "detach",
    "to", "float", "double", "cpu", "cuda", "relu", "dropout",
}  # fmt: skip
"""Functions that move values and do not change them; `__get__` reads an attribute such as `T`."""
_SUMS = {"add", "sub", "subtract", "__rsub__", "rsub"}
_SCALINGS = {"mul", "multiply", "div", "true_divide"}
_PRODUCTS = _SCALINGS | {"matmul", "mm", "bmm", "einsum"}


_CLOSE = 1e-3
"""Tolerance of n: a mean over 10 steps is rounded."""


def spikes_in(x: Tensor, divisors: Sequence[Divisor]) -> Tensor | None:
    """Return the spikes of each value by the first divisor that fits; None: they are numbers."""
    for divisor in divisors:
        tolerance = 0.0 if isinstance(divisor, float) and divisor == 1 else _CLOSE
        scaled = x.abs() * divisor
        near = scaled.round()
        if bool(((scaled - near).abs() <= tolerance).all()):
            return near
    return None


class Averages(TorchFunctionMode):
    """Records the divisors of the tensors of a run; `time_steps` returns its T until then."""

    def __init__(self, time_steps: Callable[[], int]) -> None:
        super().__init__()
        self._found = WeakTensorKeyDictionary()
        self._time_steps = time_steps

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
        kwargs, name = dict(kwargs or {}), _name(func)
        named = {word: value for word, value in kwargs.items() if word != "out"}
        if name == "__setitem__":
            self._assign(*args)
            return func(*args)
        written = list(_tensors([kwargs.get("out")] if "out" in kwargs else args[:1]))
        is_in_place = "out" in kwargs or name != getattr(func, "__name__", "")
        before = args
        if is_in_place and any(t in self._found for t in _tensors(args)):
            before = tuple(map(self._copy, args))  # `func` may overwrite its arguments
        out = func(*args, **kwargs)
        results = list(_tensors((out,)))
        if not results:
            return out
        sources = before[1:] if name == "copy" else before
        given = [t for t in _tensors((*sources, *named.values())) if t.is_floating_point()]
        is_tracked = any(t in self._found for t in given)
        own: Divisor = 1.0
        if isinstance(out, Tensor) and out.numel():
            own = _divisor(name, is_tracked, out, before, named)
        joined: Any = 1.0
        if is_tracked or _largest(own) != 1:
            joined = self._joined(func, out, given, before, named)
        elif not is_in_place or not any(t in self._found for t in written):
            return out
        each = joined if isinstance(joined, tuple | list) else [joined] * len(results)
        for tensor, divisor in zip(results, each, strict=True):
            if tensor.is_floating_point():
                self._found[tensor] = divisor * own
                if is_in_place and tensor._base is not None:
                    self._write_view(tensor, tensor._base)
        return out

    def _copy(self, value: Any) -> Any:
        """Return a copy of the tensors of an argument, with their divisors."""
        if isinstance(value, tuple | list):
            return type(value)(self._copy(v) for v in value)
        if not isinstance(value, Tensor):
            return value
        copied = value.clone()
        if value in self._found:
            self._found[copied] = self._found[value]
        return copied

    def _assign(self, to: Tensor, index: Any, value: Any) -> None:
        """Record the divisors of `to[index] = value`, before it."""
        if not isinstance(value, Tensor) or not (to in self._found or value in self._found):
            return
        old, new = self._settled(to), self._settled(value)
        if isinstance(old, Tensor) or isinstance(new, Tensor) or old != new:
            whole = torch.zeros_like(to).add(old)
            whole[index] = torch.zeros_like(value).add(new)
            old = float(whole.flatten()[0]) if bool((whole == whole.flatten()[0]).all()) else whole
        self._found[to] = old

    def _write_view(self, view: Tensor, base: Tensor) -> None:
        """Record in a base the divisors of a view of it that a function has overwritten."""
        old, new = self.of(base), self.of(view)
        if isinstance(old, Tensor) or isinstance(new, Tensor) or old != new:
            whole = torch.zeros_like(base).add(old)
            if whole.stride() != base.stride():
                whole = whole.new_full((), math.nan).expand_as(base)
            else:
                offset = view.storage_offset() - base.storage_offset()
                whole.as_strided(view.shape, view.stride(), offset).copy_(
                    torch.zeros_like(view).add(new)
                )
            old = whole
        self._found[base] = old

    def _joined(
        self, func: Any, out: Any, given: list[Tensor], args: tuple[Any, ...], kwargs: Any
    ) -> Any:
        """Return the divisor that the results of a function have from its arguments."""
        name = _name(func)
        takes_all = name in _JOINS or name in _SUMS
        parts = [t for t in given if takes_all or t in self._found]
        divisors = [self.of(t) for t in parts]
        if not divisors:
            return 1.0
        if not any(isinstance(d, Tensor) or d != divisors[0] for d in divisors):
            return divisors[0]
        divisors = [self._settled(t) for t in parts]
        if name in _SUMS and "alpha" not in kwargs:
            spikes: Any = sum(t.abs() * d for t, d in zip(given, divisors, strict=True))
            return torch.where(spikes == 0, 1.0, spikes / out.abs())
        if name in _MOVES or _is_average(name):
            return self._moved(func, args, kwargs)
        if name in _PRODUCTS and not any(isinstance(d, Tensor) for d in divisors):
            return float(torch.tensor(divisors).max())  # NaN if one is NaN
        return divisors[0] if name in _SCALINGS and len(divisors) == 1 else math.nan

    def _moved(self, func: Any, args: tuple[Any, ...], kwargs: Any) -> Any:
        """Return the divisors moved as the values are; NaN for an average of different ones."""

        def replaced(value: Any, power: int) -> Any:
            if isinstance(value, tuple | list):
                found = [replaced(v, power) for v in value]
                return found if isinstance(value, list) else tuple(found)
            if not isinstance(value, Tensor) or not value.is_floating_point():
                return value
            return torch.zeros_like(value).add(self._settled(value)) ** power

        def applied(power: int) -> Any:
            named = {word: replaced(value, power) for word, value in kwargs.items()}
            return func(*replaced(args, power), **named)

        moved = applied(1)
        if _is_average(_name(func)) and not torch.allclose(applied(2), moved**2):
            return math.nan
        return moved

    def _settled(self, x: Tensor) -> Divisor:
        """Return the divisor of a tensor, T for a mean over time that a network wrote as a sum."""
        divisor = self.of(x)
        if isinstance(divisor, Tensor) or divisor != 1 or spikes_in(x, [1.0]) is not None:
            return divisor
        steps = float(self._time_steps())
        return divisor if spikes_in(x, [steps]) is None else steps


def _name(func: Any) -> str:
    """Return the name of a function, that of the function out of place if it works in place."""
    name: str = getattr(func, "__name__", "")
    return name if name.endswith("__") else name.removesuffix("_")


def _is_average(name: str) -> bool:
    return name == "mean" or "avg_pool" in name


def _tensors(values: Iterable[Any]) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, tuple | list):
            yield from (v for v in value if isinstance(v, Tensor))


def _largest(divisor: Divisor) -> float:
    return float(divisor.max()) if isinstance(divisor, Tensor) else divisor


def _divisor(
    name: str, spiking: bool, out: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Divisor:
    """Return the divisor by which a function of this name multiplies that of its argument."""
    if name == "mean":
        return next(_tensors((*args, *kwargs.values()))).numel() / out.numel()
    if name in ("div", "true_divide") and spiking:
        by = kwargs.get("other", args[-1])
        return float(by) if isinstance(by, int) and by > 0 else 1.0
    if "avg_pool" not in name:
        return 1.0
    windows = _adaptive_windows if name.startswith("adaptive") else _windows
    found = windows(out, int(name[-2]), *args, **kwargs)
    return found.to(out).expand(out.shape) if isinstance(found, Tensor) else found


def _adaptive_windows(out: Tensor, axes: int, /, input: Tensor, *_: Any, **__: Any) -> Divisor:
    """Return the sizes of the windows of an adaptive pooling."""
    ends = zip(out.shape[-axes:], input.shape[-axes:], strict=True)
    return _areas([[-(-(k + 1) * n // m) - k * n // m for k in range(m)] for m, n in ends])


def _windows(
    out: Tensor, axes: int, /, input: Tensor, kernel_size: Any,
    stride: Any = None, padding: Any = 0,
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
