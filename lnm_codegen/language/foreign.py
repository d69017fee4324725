"""Calls of a user's function that builds expressions.

Compound expressions such as `v + 1` are SymPy's own objects. The errors that Python, NumPy and
PyTorch raise over them are translated here, and tensors that enter them are noticed.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from typing import Any

import sympy

from lnm_codegen.errors import LnmError, ModelError
from lnm_codegen.language.misuse import (
    FUNCTIONS,
    Text,
    foreign,
    frozen,
    in_sympy,
    instead_of,
    no_method,
    no_number,
    undecided,
    valueless,
)

_CONDITIONS = (
    "bool", "StrictGreaterThan", "GreaterThan", "StrictLessThan", "LessThan", "Equality",
    "Unequality", "And", "Or", "Not",
)  # fmt: skip


def _condition(match: re.Match[str]) -> ModelError | None:
    """Return the error of an operator between an expression and a condition, else None."""
    kinds = match.groups()
    conditions = [kind for kind in kinds if kind in _CONDITIONS]
    return no_number(Text(conditions[0])) if conditions and any(map(_is_sympy, kinds)) else None


_MESSAGES: tuple[tuple[str, Callable[[re.Match[str]], ModelError | None]], ...] = (
    (r"cannot determine truth value of Relational:? ?(.*)", lambda m: undecided(Text(m[1]))),
    (
        r"^Cannot (convert (expression|symbols|complex) to (float|int)|round symbolic expression)",
        lambda m: valueless(Text("an expression")),
    ),
    (
        r"ufunc does not support argument \d+ of type (?P<type>\w+) which has no callable (\w+)",
        lambda m: foreign(f"numpy.{m[2]}"),
    ),
    (
        r"^(\w+)\(\): argument .* must be Tensor, not (?P<type>\w+)",
        lambda m: foreign(f"torch.{m[1]}"),
    ),
    (
        r"^(\w+)\(\) received an invalid combination of arguments - got \(.*?(?P<type>[A-Z]\w+)",
        lambda m: foreign(f"torch.{m[1]}"),
    ),
    (r"^unsupported operand type\(s\) for [^:]*: '(\w+)' and '(\w+)'", _condition),
)
"""Message of a TypeError -> the error in its place. The group `type` is a class of SymPy."""


@contextmanager
def building(where: str = "") -> Iterator[None]:
    """Run a user's function that builds expressions, within the `with` statement.

    Args:
        where: Place of the function, which begins the errors, or empty.

    Raises:
        ModelError: The function asks for the value of an expression, gives one to a function of
            math, NumPy or PyTorch, calls a method of tensors, or puts a tensor or a condition into
            one.
    """
    watch = _watch()
    try:
        with watch or nullcontext():
            yield
    except (TypeError, AttributeError) as error:
        found = watch.found if watch and watch.found else _translated(error)
        if found is None:
            raise
        raise (found.within(where) if where else found) from error
    if watch and watch.found:  # the function caught the TypeError
        raise watch.found


def _translated(error: TypeError | AttributeError) -> LnmError | None:
    """Return the error of this package for one over an expression, or None for any other."""
    if isinstance(error, AttributeError):
        name = error.name or ""
        lacks = isinstance(error.obj, sympy.Basic) and instead_of(name)
        return no_method(error.obj, name) if lacks else None
    message = " ".join(str(error).split())
    for pattern, make in _MESSAGES:
        match = re.search(pattern, message)
        if match and _is_sympy(match.groupdict().get("type", "Symbol")):
            return make(match)
    return None


def _is_sympy(name: str) -> bool:
    """Report whether a class of that name may be an expression."""
    own = ("Where", "Declared", "Bound")
    return hasattr(sympy, name) or name in own or name in FUNCTIONS


def _watch() -> Any:
    """Return a new `_Watch`, or None where PyTorch is not loaded, so that no tensor exists."""
    torch = sys.modules.get("torch")
    return _watch_class(torch)() if hasattr(torch, "overrides") else None


@cache
def _watch_class(torch: Any) -> Any:
    class Watch(torch.overrides.TorchFunctionMode):  # type: ignore[misc]
        """Context that refuses to turn a tensor into a number for SymPy.

        SymPy swallows the exception; the operator then raises TypeError. So the error stays in
        `found`.
        """

        def __init__(self) -> None:
            super().__init__()
            self.found: ModelError | None = None

        def __torch_function__(
            self, function: Any, types: Any, args: Any = (), options: Any = None
        ) -> Any:
            """Call the function, unless SymPy converts a tensor."""
            if function is torch.Tensor.__float__ and in_sympy(sys._getframe(1)):
                self.found = self.found or frozen(args[0])
                raise TypeError(str(self.found))
            return function(*args, **(options or {}))

    return Watch
