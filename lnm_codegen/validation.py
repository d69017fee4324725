"""Argument validation: each function returns its value, or raises an error that names it.

`where` is the place of the argument, `word` its name: "lif", "tau" give "lif: tau is 0".
"""

from __future__ import annotations

import contextlib
import difflib
import functools
import importlib
import inspect
import math
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from types import SimpleNamespace, UnionType
from typing import (
    Annotated,
    Any,
    Literal,
    TypeAlias,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from lnm_codegen.errors import ModelError, ToolError, shortened

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Accepted:
    """Bounds of a declared argument, or its words: `tau: Annotated[float, Accepted(above=1)]`.

    `require_declared` reads them. Without a bound they accept a finite number, an integer, True or
    False, text, or a value of a Literal, as the type says.
    """

    low: float | None = None
    above: float | None = None
    high: float | None = None
    below: float | None = None
    words: tuple[str, ...] = ()


Number: TypeAlias = Annotated[float, Accepted()]
"""A finite number."""
Flag: TypeAlias = Annotated[bool, Accepted()]
"""True or False."""
Count: TypeAlias = Annotated[int, Accepted(low=1)]
"""An integer of at least 1."""


def require_declared(
    where: str, function: Callable[..., Any], arguments: Mapping[str, Any]
) -> None:
    """Raise ModelError unless the arguments of a function are those that its types accept.

    Only types with `Accepted` count.
    """
    for word, declared in declared_types(function).items():
        if word in arguments:
            require_accepted(where, word, arguments[word], declared)


@dataclass(frozen=True, slots=True)
class DeclaredType:
    """Type of an argument: `Annotated[float, Accepted(above=1)] | None`.

    Attributes:
        kind: The type itself, float.
        marks: The other arguments of `Annotated`.
        optional: None is accepted too.
    """

    kind: Any
    marks: tuple[Any, ...] = ()
    optional: bool = False


def require_accepted(where: str, word: str, value: Any, declared: DeclaredType) -> None:
    """Raise ModelError unless a declared type accepts a value."""
    kind, optional = declared.kind, declared.optional
    for accepted in (mark for mark in declared.marks if isinstance(mark, Accepted)):
        bounds = asdict(accepted)
        words = bounds.pop("words") or (get_args(kind) if get_origin(kind) is Literal else ())
        if optional and value is None:
            return
        if words:
            require_one_of(where, word, value, (*words, *((None,) if optional else ())))
        elif kind is bool:
            require_bool(where, word, value)
        elif kind is str:
            require_type(where, word, value, str, "text")
        elif kind is int:
            low, high = bounds["low"], bounds["high"]
            require_integer(where, word, value, low, high, optional=optional)
        else:
            require_number(where, word, value, **bounds, optional=optional)


@functools.lru_cache(maxsize=512)
def declared_types(function: Callable[..., Any]) -> dict[str, DeclaredType]:
    """Return argument -> its declared type."""
    return {word: declared_type(hint) for word, hint in hints_of(function).items()}


def declared_type(hint: Any) -> DeclaredType:
    """Return a type without `Annotated` and without None."""
    if get_origin(hint) is Annotated:
        inner, *marks = get_args(hint)
        found = declared_type(inner)
        return DeclaredType(found.kind, (*found.marks, *marks), found.optional)
    members = [one for one in get_args(hint) if one is not type(None)]
    if get_origin(hint) in (Union, UnionType) and len(members) == 1:
        found = declared_type(members[0])
        return DeclaredType(found.kind, found.marks, optional=True)
    return DeclaredType(hint)


def hints_of(function: Callable[..., Any]) -> dict[str, Any]:
    """Return argument -> type, for each type that can be evaluated."""
    found: dict[str, Any] = {}
    for word, text in getattr(function, "__annotations__", {}).items():
        one = SimpleNamespace(__annotations__={word: text})
        names = getattr(function, "__globals__", {})
        with contextlib.suppress(Exception):  # a user's annotation may raise anything
            found |= get_type_hints(one, names, include_extras=True)
    return found


def meanings_of(target: Callable[..., Any], title: str) -> tuple[str, dict[str, str]]:
    """Return a docstring's text before a section of this title, and word -> meaning in it."""
    summary, _, text = (inspect.getdoc(target) or "").partition(f"\n\n{title}:\n")
    words = re.split(r"^    (\w+): ", text, flags=re.M)[1:]
    return summary, {k: " ".join(v.split()) for k, v in zip(words[::2], words[1::2], strict=True)}


def did_you_mean(word: object, known: Iterable[str], cutoff: float = 0.6) -> str:
    """Return "Did you mean 'x'?" for the nearest known word, or an empty string.

    The case of letters does not matter. `cutoff` is that of `difflib.get_close_matches`.
    """
    table = {one.casefold(): one for one in known}
    near = difflib.get_close_matches(str(word).casefold(), list(table), n=1, cutoff=cutoff)
    return f"Did you mean {table[near[0]]!r}?" if near else ""


def listed(values: Iterable[object]) -> str:
    """Return values as Python writes them, with commas between; a long list is shortened."""
    return shortened(repr(value) for value in values)


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, such as "1 row" or "2 rows"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def shown(value: object) -> str:
    """Return a value as Python writes it, on one line of at most 120 characters."""
    text = " ".join(line.strip() for line in repr(value).splitlines())
    return text if len(text) <= 120 else f"{text[:117]}..."


def wrong(
    where: str, word: str, value: object, accepted: str | Iterable[str], remedy: str = ""
) -> ModelError:
    """Return the error of an argument whose value is not accepted."""
    return ModelError(where, f"{word} is {shown(value)}", accepted, remedy)


def require_known(where: str, kind: str, name: Any, known: Iterable[str]) -> str:
    """Return `name`, one of the `known` names of a `kind`: "family", "option".

    Raises:
        ModelError: The name is unknown. The message lists the known ones and suggests the nearest.
    """
    known = list(known)
    if not isinstance(name, str) or name not in known:
        raise ModelError(
            where, f"no {kind} {shown(name)}", known or "none", did_you_mean(name, known)
        )
    return name


def require_one_of(where: str, word: str, value: T, accepted: Sequence[Any]) -> T:
    """Return `value`, equal to one of `accepted` and of its type.

    Raises:
        ModelError: The value is not accepted.
    """
    if not any(type(value) is type(one) and value == one for one in accepted):
        words = [one for one in accepted if isinstance(one, str)]
        hint = did_you_mean(value, words) if isinstance(value, str) else ""
        raise wrong(where, word, value, listed(accepted), hint)
    return value


def require_bool(where: str, word: str, value: Any) -> bool:
    """Return `value`, True or False. The word "no" would count as True.

    Raises:
        ModelError: The value is not accepted.
    """
    return bool(require_one_of(where, word, value, (True, False)))


def require_type(where: str, word: str, value: T, kind: type | UnionType, accepted: str) -> T:
    """Return `value`, an instance of `kind`; `accepted` is its name in the message.

    Raises:
        ModelError: The value is not accepted.
    """
    if not isinstance(value, kind):
        raise wrong(where, word, value, accepted)
    return value


def require_integer(
    where: str,
    word: str,
    value: Any,
    low: int = 1,
    high: int | None = None,
    *,
    optional: bool = False,
) -> Any:
    """Return `value`, an integer of at least `low` and at most `high`, or None if `optional`.

    Raises:
        ModelError: The value is not accepted. A bool is not an integer.
    """
    if optional and value is None:
        return None
    if not is_integer(value) or value < low or (high is not None and value > high):
        span = f">= {low}" if high is None else f"from {low} to {high}"
        integer = f"an integer {span}"
        raise wrong(where, word, value, f"{integer} or None" if optional else integer)
    return int(value)


def require_integers(where: str, word: str, values: Any) -> tuple[int, ...]:
    """Return one integer, or a sequence of one or more, as a tuple; each is at least 1.

    Raises:
        ModelError: The value is not accepted.
    """
    many = (values,) if is_integer(values) else values
    is_sequence = isinstance(many, Sequence) and not isinstance(many, str) and len(many) > 0
    if not is_sequence or not all(is_integer(value) and value >= 1 for value in many):
        raise wrong(where, word, values, "one or more integers >= 1")
    return tuple(int(value) for value in many)


def require_number(
    where: str,
    word: str,
    value: Any,
    *,
    low: float | None = None,
    above: float | None = None,
    high: float | None = None,
    below: float | None = None,
    optional: bool = False,
) -> Any:
    """Return `value`, a finite number within the bounds, or None where that is `optional`.

    Args:
        where: Place of the argument.
        word: Name of the argument.
        value: Its value.
        low: Least value, or None.
        above: Bound that the value exceeds, or None.
        high: Largest value, or None.
        below: Bound that the value stays under, or None.
        optional: None is accepted too.

    Raises:
        ModelError: The value is not accepted. A bool is not a number.
    """
    if optional and value is None:
        return None
    bounds = {">=": low, ">": above, "<=": high, "<": below}
    if (
        not is_number(value)
        or (low is not None and value < low)
        or (above is not None and value <= above)
        or (high is not None and value > high)
        or (below is not None and value >= below)
    ):
        spans = " and ".join(f"{sign} {b:g}" for sign, b in bounds.items() if b is not None)
        number = f"a number {spans}" if spans else "a finite number"
        raise wrong(where, word, value, f"{number} or None" if optional else number)
    return value


def require_interval(where: str, word: str, value: Any) -> tuple[float, float]:
    """Return `value`, a pair (low, high) of finite numbers with low < high.

    Raises:
        ModelError: The value is not accepted.
    """
    pair = isinstance(value, Sequence) and len(value) == 2 and all(is_number(v) for v in value)
    if not pair or value[0] >= value[1]:
        raise wrong(where, word, value, "(low, high) with low < high, finite")
    return value[0], value[1]


def require_numbers(where: str, *, optional: Collection[str] = (), **values: Any) -> None:
    """Raise ModelError unless each value is a finite number, or None if its name is `optional`."""
    for word, value in values.items():
        require_number(where, word, value, optional=word in optional)


def require_arguments(
    where: str, signature: inspect.Signature, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> inspect.BoundArguments:
    """Return the arguments by name, or raise ModelError unless the signature takes them."""
    try:
        return signature.bind(*args, **kwargs)
    except TypeError as error:
        known = list(signature.parameters)
        for word in kwargs:
            require_known(where, "argument", word, known)
        raise ModelError(where, str(error), known or "none") from None


def require_package(where: str, module: str, package: str, extra: str) -> None:
    """Import a module of a package that an extra of lnm_codegen installs.

    Raises:
        ToolError: The package is not installed. The remedy is the command that installs it.
    """
    try:
        importlib.import_module(module)
    except ImportError:
        remedy = f"Run pip install 'lnm_codegen[{extra}]'."
        raise ToolError(where, f"{package} is not installed", remedy=remedy) from None


def is_number(value: Any) -> bool:
    """Report whether `value` is a finite int or float, and not a bool."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an int beyond the largest float
        return False


def is_integer(value: Any) -> bool:
    """Report whether `value` is an int and not a bool."""
    return isinstance(value, int) and not isinstance(value, bool)
