"""Additions of a user to a layer of a library: parameters, buffers, modules and attributes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dis import get_instructions
from types import CodeType, FunctionType
from typing import Any

from torch import nn

from lnm_codegen.nn.convert.recipe import Recipe

_PACKAGES = ("norse", "snntorch", "spikingjelly")
_REGISTERS = {"register_buffer", "register_memory", "register_parameter", "setattr"}
_FILLERS = {"append", "appendleft", "extend", "insert", "setdefault", "update"}


def added(old: nn.Module, recipe: Recipe) -> tuple[str, ...]:
    """Return the names of what a user added to an old layer, on the object or in `__init__`.

    A name is the library's if the code of its classes contains it. If the recipe has tensors of
    the layer, another parameter is the user's under any name.
    """
    known = library_names(type(old))
    if recipe.kept.given:
        known -= set(old._parameters) - set(recipe.kept.given)
    names = (*vars(old), *old._parameters, *old._buffers, *old._modules)
    replaced = {name for name in vars(old) if callable(getattr(type(old), name, None))}
    return tuple(name for name in names if name not in known or name in replaced)


def library_names(kind: type) -> set[str]:
    """Return the names to which the library's classes assign from which a class derives."""
    names = set(vars(nn.Module()))
    for base in kind.__mro__:
        if base.__module__.partition(".")[0] in _PACKAGES:
            names |= set(vars(base)).union(*map(assigned_names, vars(base).values()))
    return names


def assigned_names(value: Any) -> set[str]:
    """Return the attributes that a function or a property assigns, or registers by a string."""
    names: set[str] = set()
    for code in _codes(value):
        registers = not _REGISTERS.isdisjoint(code.co_names)
        names |= {i.argval for i in get_instructions(code) if i.opname == "STORE_ATTR"}
        names |= {c for c in code.co_consts if isinstance(c, str) and registers}
    return names


def filled_names(value: Any) -> set[str]:
    """Return the attributes whose elements a function may assign or add, as of a list."""
    names: set[str] = set()
    for code in _codes(value):
        loaded: set[str] = set()  # in this statement
        for one in get_instructions(code):
            if one.opname in ("LOAD_ATTR", "LOAD_METHOD"):
                loaded.add(one.argval)
            if one.opname == "STORE_SUBSCR" or one.argval in _FILLERS:
                names |= loaded
            if one.opname == "POP_TOP" or one.opname.startswith(("STORE_", "RETURN_")):
                loaded = set()
    return names


def _codes(value: Any) -> Iterator[CodeType]:
    """Yield the code of a function or a property, and of the functions within."""
    found = (value.fget, value.fset) if isinstance(value, property) else (value,)
    plain = [getattr(one, "__func__", one) for one in found]  # of a static or class method
    codes = [one.__code__ for one in plain if isinstance(one, FunctionType)]
    while codes:
        code = codes.pop()
        yield code
        codes += [c for c in code.co_consts if isinstance(c, CodeType)]


def clashing(names: Iterable[str], old: nn.Module, new: nn.Module) -> list[str]:
    """Return the names that the new layer has itself, and the replaced methods of the old one."""
    return [n for n in names if hasattr(new, n) or callable(getattr(type(old), n, None))]


def move(names: Iterable[str], old: nn.Module, new: nn.Module) -> None:
    """Give additions to a new layer, the same objects."""
    for name in names:
        if name in old._parameters:
            new.register_parameter(name, old._parameters[name])
        elif name in old._buffers:
            persistent = name not in old._non_persistent_buffers_set
            new.register_buffer(name, old._buffers[name], persistent)
        elif name in old._modules:
            new.add_module(name, old._modules[name])
        else:
            vars(new)[name] = vars(old)[name]
