"""Numbers and tensors that a function reads from outside of its arguments and its text.

They would become constants of the neuron, which no training changes and no layer saves.
"""

from __future__ import annotations

import builtins
import dis
import functools
import inspect
import numbers
from collections.abc import Callable, Iterator, Mapping
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import torch

from lnm_codegen.errors import ModelError
from lnm_codegen.language.misuse import is_array
from lnm_codegen.nn.trace.place import is_library
from lnm_codegen.validation import shown

_MISSING = object()
_FREE = (bool, str, ModuleType, FunctionType, BuiltinFunctionType, type, type(None), torch.dtype)


def require_no_captures(function: Callable[..., Any]) -> None:
    """Raise ModelError if a function, or one that it calls, has captured a number or a tensor.

    Modules, functions, classes, text, None, True and False are no such values. Functions of
    libraries, such as surrogates, may have numbers.

    Raises:
        ModelError: A captured value, with its name and the line that reads it.
    """
    if isinstance(function, functools.partial):
        given = [*map(str, range(len(function.args))), *function.keywords]
        problem = f"a functools.partial that fixes the arguments {', '.join(given)}"
        raise ModelError("trace", problem, "a function", "Pass them in params.")
    if isinstance(function, MethodType):
        problem = f"a method, which reads an object of class {type(function.__self__).__name__}"
        raise ModelError("trace", problem, "a function", "Pass what it reads in params.")
    if not isinstance(function, FunctionType):
        raise ModelError("trace", f"f is {shown(function)}", "a function of Python")
    _require(function, set())


def _require(function: FunctionType, seen: set[FunctionType]) -> None:
    if function in seen:
        return
    seen.add(function)
    for name, value, line in _read(function):
        problem = _problem(value)
        if problem:
            where = f"{function.__code__.co_filename}:{line}"
            accepted = "numbers in the text of the function, and its arguments"
            raise ModelError(
                where,
                f"{name} is {problem}",
                accepted,
                f"Pass {name.rpartition('.')[2]!r} in params.",
            )
        if isinstance(value, FunctionType) and not is_library(value.__module__):
            _require(value, seen)


def _problem(value: Any) -> str:
    """Return "a captured ..." for a value that would become a constant, or an empty string."""
    if isinstance(value, torch.Tensor) or is_array(value):
        return f"a captured {type(value).__name__} of shape {tuple(value.shape)}"
    if isinstance(value, _FREE):
        return ""
    if isinstance(value, numbers.Number):
        return f"a captured number, {shown(value)}"
    if isinstance(value, torch.nn.Module):
        owned = next(iter([*value.parameters(), *value.buffers()]), None)
        return "" if owned is None else "a captured module with parameters"
    if isinstance(value, list | tuple | set | dict):
        items = value.values() if isinstance(value, dict) else value
        return "a captured collection of values" if any(map(_problem, items)) else ""
    if isinstance(value, MethodType) and isinstance(value.__self__, type):
        return ""  # Function.apply
    if callable(value) and is_library(type(value).__module__):
        return ""
    return f"a captured object of class {type(value).__name__}"


def _read(function: FunctionType) -> Iterator[tuple[str, Any, int]]:
    """Yield name, value and line of everything that a function reads from outside of it."""
    closure = inspect.getclosurevars(function).nonlocals
    scopes: Mapping[str, Any] = {**vars(builtins), **function.__globals__}
    for code in _codes(function.__code__):
        chain, value, line = "", _MISSING, 0
        for step in dis.get_instructions(code):
            name = str(step.argval)
            if step.opname in ("LOAD_ATTR", "LOAD_METHOD") and value is not _MISSING:
                member = _member(value, name)
                chain, value = chain if member is value else f"{chain}.{name}", member
                continue
            if value is not _MISSING:
                yield chain, value, line
            found = scopes if step.opname in ("LOAD_GLOBAL", "LOAD_NAME") else {}
            found = closure if step.opname in ("LOAD_DEREF", "LOAD_CLASSDEREF") else found
            line = (step.positions and step.positions.lineno) or line
            chain, value = name, found.get(name, _MISSING)


def _member(value: Any, name: str) -> Any:
    """Return an attribute that may be a captured value: of a user's module, or a class."""
    if isinstance(value, ModuleType):
        return _MISSING if is_library(value.__name__) else getattr(value, name, _MISSING)
    if isinstance(value, type):
        member = getattr(value, name, _MISSING)
        return member if isinstance(member, numbers.Number) or is_array(member) else _MISSING
    return value  # the object itself is what is captured


def _codes(code: CodeType) -> Iterator[CodeType]:
    """Yield the code of a function and of the functions inside it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)
