"""Replacement of modules wherever the attributes of a module have them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn


def replace_in(module: nn.Module, new: Mapping[int, nn.Module]) -> None:
    """Replace submodules, also in lists, tuples and dicts, which may contain each other.

    Args:
        module: Changed in place. Lists and dicts stay the same objects.
        new: Id of an old module -> the module in its place.
    """
    seen: set[int] = set()

    def replaced(value: Any) -> Any:
        if isinstance(value, nn.Module):
            return new.get(id(value), value)
        if isinstance(value, tuple):
            items = [replaced(item) for item in value]
            if all(a is b for a, b in zip(items, value, strict=True)):
                return value
            return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
        if not isinstance(value, list | dict) or id(value) in seen:
            return value
        seen.add(id(value))
        for key, item in [*(value.items() if isinstance(value, dict) else enumerate(value))]:
            other = replaced(item)
            if other is not item:
                value[key] = other
        return value

    replaced(vars(module))
