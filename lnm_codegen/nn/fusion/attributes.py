"""Attributes of a module before a trace of its forward, to find and undo what the trace changed."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Iterator, MutableMapping, MutableSequence, MutableSet
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

_CONTAINERS = (MutableMapping, MutableSequence, MutableSet, deque)


class Attributes:
    """Attributes of a module as they are, with the contents of containers and tensors in them."""

    def __init__(self, module: nn.Module) -> None:
        own = {id(buffer) for buffer in module._buffers.values()}
        self._contents = [(value, _copied(value)) for value in _mutable(vars(module), own)]

    def restore(self) -> bool:
        """Undo changes of the attributes and of their contents; report whether there were any."""
        changed = [pair for pair in self._contents if not _same(*pair)]
        for value, before in changed:
            _fill(value, before)
        return bool(changed)


def _mutable(value: Any, seen: set[int]) -> Iterator[Any]:
    """Yield the containers and tensors in a value that are not in `seen`; no parameters."""
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, Tensor):
        if not value.is_meta and not isinstance(value, nn.Parameter):
            yield value
    elif isinstance(value, (*_CONTAINERS, tuple)):
        if not isinstance(value, tuple):
            yield value
        items = value.values() if isinstance(value, MutableMapping) else value
        yield from chain.from_iterable(_mutable(item, seen) for item in items)


def _copied(value: Any) -> Any:
    return value.detach().clone() if isinstance(value, Tensor) else copy.copy(value)


def _same(value: Any, before: Any) -> bool:
    """Report whether contents are those of before: the same objects, or equal numbers."""
    if isinstance(before, Tensor):
        same = value.shape == before.shape
        return same and bool(((value == before) | (value.isnan() & before.isnan())).all())
    if isinstance(before, MutableMapping):
        return value.keys() == before.keys() and all(value[k] is v for k, v in before.items())
    if isinstance(before, MutableSet):
        return bool(value == before)
    return len(value) == len(before) and all(a is b for a, b in zip(value, before, strict=True))


def _fill(value: Any, before: Any) -> None:
    """Give a container or a tensor its contents of before."""
    if isinstance(before, Tensor):
        with torch.no_grad():
            value.copy_(before)
        return
    value.clear()
    if isinstance(before, MutableMapping):
        value.update(before)
    elif isinstance(before, MutableSet):
        value |= before
    else:
        value.extend(before)
