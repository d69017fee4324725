"""Refusals on symbols: truth values, functions of numbers, arrays, tensors.

A symbol has no value while a neuron is defined. Python, NumPy and PyTorch ask for one through the
methods of `Symbolic`, which raise an error that names the function of the language. PyTorch is not
imported: it calls `__torch_function__` itself.
"""

from __future__ import annotations

import math
import operator
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from typing import Any

import numpy as np
import sympy
from sympy import Expr, Rel
from sympy.logic.boolalg import Boolean

from lnm_codegen.errors import LnmError, ModelError
from lnm_codegen.ir.nodes import Fn
from lnm_codegen.validation import shown

FUNCTIONS = (
    *(f.value for f in Fn),
    "abs", "min", "max", "clip", "where", "poly", "stop_gradient",
)  # fmt: skip
"""Functions of the language, by their name in `lnm`."""

_CALLS = {word: f"lnm.{word}(a)" for word in FUNCTIONS} | {
    "min": "lnm.min(a, b)",
    "max": "lnm.max(a, b)",
    "clip": "lnm.clip(a, low, high)",
    "where": "lnm.where(condition, a, b)",
    "poly": "lnm.poly(z, theta)",
}
_STEP = "lnm.where(a >= 0, 1, 0)"
_INSTEAD = _CALLS | {
    "absolute": _CALLS["abs"], "fabs": _CALLS["abs"],
    "maximum": _CALLS["max"], "fmax": _CALLS["max"], "amax": _CALLS["max"],
    "minimum": _CALLS["min"], "fmin": _CALLS["min"], "amin": _CALLS["min"],
    "clamp": _CALLS["clip"], "relu": "lnm.max(a, 0)", "expit": _CALLS["sigmoid"],
    "piecewise": _CALLS["where"], "ite": _CALLS["where"], "select": _CALLS["where"],
    "heaviside": _STEP, "sign": "lnm.where(a > 0, 1, lnm.where(a < 0, -1, 0))",
    "tan": "lnm.sin(a)/lnm.cos(a)", "polyval": _CALLS["poly"],
    "detach": _CALLS["stop_gradient"],
    "pow": "a**b", "power": "a**b", "float_power": "a**b", "square": "a**2",
}  # fmt: skip
_OPERATORS: dict[str, Callable[..., Any]] = {
    "add": operator.add, "subtract": operator.sub, "multiply": operator.mul,
    "divide": operator.truediv, "true_divide": operator.truediv, "power": operator.pow,
    "less": operator.lt, "less_equal": operator.le,
    "greater": operator.gt, "greater_equal": operator.ge,
    "equal": operator.eq, "not_equal": operator.ne,
}  # fmt: skip
"""NumPy's name of an operator between one of its numbers and a symbol -> the operator."""
_NO_TRUTH = "no truth value, because symbols have no values while a neuron is defined"
_TO_A_CALL = "Values per channel or neuron belong to a call of a layer: layer(x, state=...)."
_TO_A_LAYER = (
    "Values per channel or neuron belong to a layer: copy them into its parameter, or give them to "
    "lnm.emit(..., spec=..., values=...), in fixed point."
)
EQUALITY = "Write sympy.Eq(a, b) for a == b and sympy.Ne(a, b) for a != b"
SPIKES_WHERE = "the neuron spikes where fire is >= 0"
OPERANDS = "numbers and expressions of declared states, inputs, parameters and spikes"


class Text(str):
    """Text that is its own `repr`."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def instead_of(function: str) -> str:
    """Return "Use lnm.max(a, b)." for the name of another library's function, or an empty string.

    The case of letters does not matter: SymPy's `Max`, NumPy's `maximum`, PyTorch's `relu_`.
    """
    call = _INSTEAD.get(function.strip("_").lower())
    return f"Use {call}." if call else ""


def undecided(condition: object) -> ModelError:
    """Return the error of a condition that Python asked to be true or false."""
    return ModelError(
        shown(condition),
        _NO_TRUTH,
        remedy=(
            f"In place of if, max, min and a < b < c use {_CALLS['where']}, {_CALLS['max']},"
            f" {_CALLS['min']} or {_CALLS['clip']}; in place of and, or, not use & | ~."
        ),
    )


def valueless(expression: object) -> ModelError:
    """Return the error of an expression that Python asked to be a number."""
    calls = ", ".join(f"lnm.{word}" for word in FUNCTIONS if word not in ("where", "poly"))
    return ModelError(
        shown(expression),
        "not a number, because symbols have no values while a neuron is defined",
        remedy=f"In place of float, int, round and functions of math use {calls}.",
    )


def foreign(function: str) -> ModelError:
    """Return the error of another library's function that received an expression."""
    return ModelError(
        function,
        "a function of numbers received an expression",
        ", ".join(f"lnm.{word}" for word in FUNCTIONS),
        instead_of(function.rpartition(".")[2]),
    )


class MethodError(ModelError, AttributeError):
    """A method that expressions lack. SymPy asks for attributes, and expects AttributeError."""


def no_method(expression: object, name: str) -> MethodError:
    """Return the error of a method of tensors or arrays, `v.tanh()`."""
    return MethodError(
        f"({expression}).{name}" if " " in str(expression) else f"{expression}.{name}",
        "expressions have no such method",
        ", ".join(f"lnm.{word}" for word in FUNCTIONS),
        instead_of(name),
    )


def no_number(condition: object, where: str = "expression") -> ModelError:
    """Return the error of a condition, True or False where an expression wants a number."""
    problem = f"{shown(condition)} is a condition, not a number"
    return ModelError(where, problem, remedy=f"Use {_CALLS['where']}.")


def no_margin(condition: Any, where: str) -> ModelError:
    """Return the error of a condition as `fire`, which wants z: the neuron spikes where z >= 0."""
    problem = f"{shown(condition)} is a condition, not a number"
    difference = "v - 1 for v > 1"
    if isinstance(condition, Rel) and condition.rel_op in ("<", "<=", ">", ">="):
        difference = str(condition.gts - condition.lts)
    return ModelError(where, problem, remedy=f"Write {difference}: {SPIKES_WHERE}.")


def is_condition(value: Any) -> bool:
    """Report whether `value` is True, False or a comparison; a spike is a number too."""
    return isinstance(value, bool | np.bool_ | Boolean) and not isinstance(value, Expr)


def frozen(value: Any, where: str = "expression") -> ModelError:
    """Return the error of an array or a tensor in an expression."""
    shape = tuple(getattr(value, "shape", ()))
    kind = f"{type(value).__name__} of shape {shape}"
    return ModelError(
        where,
        f"{kind} would become a constant, which no training changes",
        OPERANDS,
        "Declare it with lnm.param(name, init=...); for constants write value.tolist().",
    )


def is_array(value: Any) -> bool:
    """Report whether `value` is an array or a tensor; a number of NumPy is neither."""
    return hasattr(type(value), "__array__") and not isinstance(value, np.generic)


def as_numbers(value: Any) -> Any:
    """Return the numbers of an array, a tensor or a number of NumPy; else `value` itself."""
    return value.tolist() if is_array(value) or isinstance(value, np.generic) else value


def as_number(value: Any) -> Any:
    """Return the number of an array or a tensor of one element; else as `as_numbers`."""
    if is_array(value) and math.prod(getattr(value, "shape", (0,))) == 1:
        return value.item()
    return as_numbers(value)


def per_channel(init: Any, size: int | None, is_state: bool) -> str:
    """Return the remedy of numbers in place of one, or of vectors in place of one; else ""."""
    axes = 0
    while isinstance(init := as_numbers(init), list | tuple) and init:
        init, axes = init[0], axes + 1
    if axes == 0 or (axes == 1 and size is not None) or not isinstance(init, int | float):
        return ""
    return _TO_A_CALL if is_state else _TO_A_LAYER


def no_array(value: Any, where: str = "expression") -> Any:
    """Return `value`; raise ModelError for an array or a tensor, of any shape."""
    if is_array(value):
        raise frozen(value, where)
    return value


def operand(value: Any, where: str = "expression") -> Any:
    """Return `value`, an operand of an expression, or the number in a NumPy array without axes.

    NumPy itself turns its numbers into such arrays.

    Raises:
        ModelError: Any other array, a tensor, a condition, text, None or a collection.
    """
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value.item()
    if is_condition(value):
        raise no_number(value, where)
    if isinstance(value, str | bytes | list | tuple | dict | set | None):
        raise ModelError(where, f"{shown(value)} is a {type(value).__name__}", OPERANDS)
    return no_array(value, where)


class Symbolic:
    """Base of symbols and of their comparisons: raises the errors above where a value is needed.

    SymPy's own code, which may ask too, gets SymPy's answers: true, or TypeError.
    """

    __slots__ = ()

    def __bool__(self) -> bool:
        if not _asked_by_sympy():
            raise undecided(self)
        inherited = getattr(super(), "__bool__", None)
        return True if inherited is None else bool(inherited())

    def __getattr__(self, name: str) -> Any:
        if instead_of(name):
            raise no_method(self, name)
        return object.__getattribute__(self, name)  # raises AttributeError

    def __float__(self) -> float:
        raise self._no_number(_asked_by_sympy())

    def __int__(self) -> int:
        raise self._no_number(_asked_by_sympy())

    def __complex__(self) -> complex:
        raise self._no_number(_asked_by_sympy())

    def __round__(self, digits: int | None = None) -> Any:
        raise self._no_number(_asked_by_sympy())

    def _no_number(self, asked_by_sympy: bool) -> Exception:
        error = valueless(self)
        return TypeError(str(error)) if asked_by_sympy else error

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        """Apply an operator of NumPy to numbers and symbols; refuse its other functions."""
        operate = _OPERATORS.get(ufunc.__name__)
        if operate is not None and method == "__call__":
            return operate(*(as_numbers(operand(value)) for value in inputs))
        for value in inputs:
            no_array(value)
        raise foreign(f"numpy.{ufunc.__name__}")

    def __array_function__(self, function: Any, types: Any, args: Any, options: Any) -> Any:
        """Refuse a function of NumPy."""
        raise foreign(f"numpy.{function.__name__}")

    @classmethod
    def __torch_function__(
        cls, function: Any, types: Any, args: Any = (), options: Any = None
    ) -> Any:
        """Refuse an operator between a tensor and a symbol, and every function of PyTorch."""
        for value in args:
            no_array(value)
        raise foreign(f"torch.{function.__name__}")


def in_sympy(frame: Any) -> bool:
    """Report whether a frame of the call stack runs code of SymPy."""
    return str(frame.f_globals.get("__name__", "")).startswith("sympy.")


def _asked_by_sympy() -> bool:
    """Report whether SymPy called the method that calls this."""
    return in_sympy(sys._getframe(2))


# Calls of a user's function that builds expressions.
#
# Compound expressions such as `v + 1` are SymPy's own objects. The errors that Python, NumPy and
# PyTorch raise over them are translated here, and tensors that enter them are noticed.


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
