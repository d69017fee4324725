"""Attributes of a module before a trace of its forward, to find and undo what the trace changed."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class Attributes:
    """Attributes of a module as they are, with the contents of lists, dicts, sets and tensors."""

    def __init__(self, module: nn.Module) -> None:
        self._now = vars(module)
        self._before = dict(self._now)
        self._contents = [(v, _copied(v)) for v in self._before.values()]

    def restore(self) -> bool:
        """Undo changes of the attributes and of their contents; report whether there were any."""
        changed = not _same(self._now, self._before)
        if changed:
            _fill(self._now, self._before)
        for value, before in self._contents:
            if not _same(value, before):
                _fill(value, before)
                changed = True
        return changed


def _copied(value: Any) -> Any:
    """Return a copy of the contents that a forward may change in place; else the value itself."""
    if isinstance(value, Tensor) and not value.is_meta:
        return value.detach().clone()
    return value.copy() if type(value) in (list, dict, set) else value


def _same(value: Any, before: Any) -> bool:
    """Report whether contents are those of before: the same objects, or equal numbers."""
    if isinstance(before, dict):
        return value.keys() == before.keys() and all(value[k] is v for k, v in before.items())
    if isinstance(before, list):
        return len(value) == len(before) and all(a is b for a, b in zip(value, before, strict=True))
    if isinstance(before, Tensor):
        return torch.equal(value, before)
    return value is before or value == before


def _fill(value: Any, before: Any) -> None:
    """Give a container or a tensor its contents of before."""
    if isinstance(before, Tensor):
        with torch.no_grad():
            value.copy_(before)
        return
    value.clear()
    (value.extend if isinstance(before, list) else value.update)(before)
