"""Traced values: stand-ins for tensors that record what a function computes as an expression.

PyTorch's functions, methods and operators reach `OPERATIONS`; an operation in place changes the
value itself, as it changes a tensor. Everything else is an error at the user's line.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NoReturn

import numpy as np
import torch

from lnm_codegen.errors import ModelError
from lnm_codegen.language.misuse import is_array
from lnm_codegen.nn.trace.conversion import conversions
from lnm_codegen.nn.trace.graph import MAX_SIZE, TraceNode, applied_to
from lnm_codegen.nn.trace.operations import OPERATIONS, SELF, TracedCondition, Value, number
from lnm_codegen.nn.trace.place import refusal, user_line
from lnm_codegen.validation import did_you_mean

_ACCEPTED = f"+ - * / **, comparisons, and {', '.join(sorted(OPERATIONS))}"
_WHERE = "Use torch.where(condition, a, b), and & | ~ to join conditions."
_VALUE = ("item", "tolist", "numpy", "__float__", "__int__", "__index__", "__complex__")
_PYTHONS = {"matmul": "@", "mod": "%", "floordiv": "//", "getitem": "[]", "setitem": "[] ="}


def unwrapped(value: Any) -> Any:
    """Return the node of a traced value, or a number.

    Raises:
        ModelError: An array or a tensor, which a function cannot have made of its arguments.
    """
    if isinstance(value, Traced):
        return value.node
    if isinstance(value, TracedVector):
        value.refuse()
    if isinstance(value, np.ndarray | torch.Tensor) or is_array(value):
        kind = f"{type(value).__name__} of shape {tuple(value.shape)}"
        raise refusal(
            f"the function uses a {kind} that is none of its arguments",
            "numbers and the arguments of the function",
            "Pass it in params.",
        )
    return value.item() if isinstance(value, np.generic) else value


def expression(value: Any) -> Any:
    """Return the expression of a traced value or a number."""
    return number(value.value if isinstance(value, Traced) else unwrapped(value))


def applied(name: str, *args: Any, **kwargs: Any) -> Any:
    """Return the traced result of an operation of `OPERATIONS`.

    Raises:
        ModelError: An unknown operation, or arguments that have no counterpart.
    """
    base = name.strip("_") if name.startswith("__") else name.removesuffix("_")
    operation = OPERATIONS.get(base)
    if operation is None:
        sign = _PYTHONS.get(base)
        what = f"the operator {sign}" if sign else f"torch.{name}"
        raise refusal(
            f"{what} has no counterpart in the language", _ACCEPTED, did_you_mean(base, OPERATIONS)
        )
    operands = [unwrapped(a) for a in args]
    options = {k: unwrapped(a) for k, a in kwargs.items()}
    options.pop("inplace", None)
    try:
        inspect.signature(operation).bind(*operands, **options)
    except TypeError as error:
        problem = f"torch.{name} with these arguments has no counterpart in the language: {error}"
        raise refusal(problem, _ACCEPTED) from None
    try:
        result = Traced(applied_to(operation, *operands, **options))
    except ModelError as error:
        raise ModelError(user_line(), str(error).rstrip(".")) from error
    _require_small(result.node)
    first = args[0] if args else kwargs.get("input")
    in_place = (name.endswith("_") and not name.startswith("__")) or kwargs.get("inplace")
    if in_place and isinstance(first, Traced):
        return _changed(first, name, result.node)
    found = without_gradient(result)
    if not isinstance(first, Traced):
        return found
    if base in SELF and result.value is first.value:
        return first
    if base == "detach" or (base == "double" and result.value is first.value):
        found.shares = first.shares = base
    return found


def _changed(value: Traced, name: str, node: TraceNode) -> Traced:
    """Return a traced value after an operation in place."""
    where = "where gradients are disabled" if not torch.is_grad_enabled() else ""
    if value.shares:
        where = f"on a tensor that may share its memory with another, by torch.{value.shares}"
    if where:
        problem = f"torch.{name}, an operation in place, {where}"
        raise refusal(problem, remedy="Write it without the in-place form.")
    value.node = node
    return value


def without_gradient(result: Traced) -> Traced:
    """Return a traced value, detached where gradients are disabled, as in `torch.no_grad()`."""
    if torch.is_grad_enabled() or isinstance(result.value, TracedCondition):
        return result
    return Traced(applied_to(OPERATIONS["detach"], result.node))


def _require_small(node: TraceNode) -> None:
    """Raise ModelError where a value has too many operations: a loop reads it more than once."""
    if node.size > MAX_SIZE:
        raise refusal(
            f"the expression of this value has more than {MAX_SIZE} operations; a value that is"
            " read twice counts twice",
            remedy="Use fewer operations, or write the neuron with lnm.substeps.",
        )


def _operator(name: str) -> Callable[..., Any]:
    return lambda a, b: applied(name, a, b)


def _reflected(name: str) -> Callable[..., Any]:
    return lambda a, b: applied(name, b, a)


def _in_place(name: str) -> Callable[..., Any]:
    return lambda a, b: applied(f"{name}_", a, b)


def _unsupported(sign: str) -> Callable[..., Any]:
    def refuse(*_: Any) -> NoReturn:
        problem = f"the operator {sign} has no counterpart in the language"
        raise refusal(problem, _ACCEPTED)

    return refuse


def _no_value(what: str) -> Callable[..., Any]:
    def refuse(*_: Any) -> NoReturn:
        problem = f"{what} needs the value of a traced tensor, which has none"
        raise refusal(problem, "functions and operators of PyTorch")

    return refuse


class Traced:
    """A tensor of one neuron at one time step; operations in place set its `node`.

    `shares` names the operation that may have made another tensor of the same memory, or is empty.
    """

    __slots__ = ("node", "shares")

    def __init__(self, node: TraceNode) -> None:
        self.node, self.shares = node, ""

    @property
    def value(self) -> Value:
        """The expression, or the condition of a tensor of bool."""
        return self.node.value

    @classmethod
    def __torch_function__(
        cls, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Apply the operation of a function or a method of PyTorch."""
        return applied(function.__name__, *args, **(kwargs or {}))

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        """Apply an operator between a number of NumPy and a traced value."""
        name = {"power": "pow"}.get(ufunc.__name__, ufunc.__name__)
        if method == "__call__" and len(inputs) == 2 and name in OPERATIONS:
            return applied(name, *inputs)
        problem = f"numpy.{ufunc.__name__} received a traced tensor"
        raise refusal(problem, "functions of PyTorch", f"Write torch.{ufunc.__name__}.")

    def __getattr__(self, name: str) -> Any:
        """Return a method of tensors."""
        if name.startswith("__"):
            raise AttributeError(name)
        if name in ("to", "type_as", "type"):
            return partial(_converted, self)
        if name in _VALUE:
            return partial(_no_value(f"{name}()"), self)
        if name.removesuffix("_") in OPERATIONS or callable(getattr(torch.Tensor, name, None)):
            return partial(applied, name, self)
        if name == "dtype":
            return torch.bool if isinstance(self.value, TracedCondition) else torch.float32
        if name == "device":
            return torch.device("cpu")
        problem = f"a traced tensor has no {name!r}: it is one neuron at one time step"
        raise refusal(problem, _ACCEPTED)

    def where(self, condition: Any, other: Any) -> Any:
        """Return this value where the condition holds, else the other one."""
        return applied("where", condition, self, other)

    def __bool__(self) -> bool:
        raise refusal(
            f"Python's if, and, or, not, max or min needs the value of {self!r}, which has none",
            "operations of PyTorch",
            _WHERE,
        )

    def __repr__(self) -> str:
        is_condition = isinstance(self.value, TracedCondition)
        return "a traced condition" if is_condition else f"the traced tensor {self.value}"

    def __hash__(self) -> int:
        return id(self)

    def __iter__(self) -> Iterator[Any]:
        raise refusal("iteration over a traced tensor, which is one number", _ACCEPTED)

    def __neg__(self) -> Any:
        return applied("neg", self)

    def __pos__(self) -> Any:
        return self

    def __abs__(self) -> Any:
        return applied("abs", self)

    def __invert__(self) -> Any:
        return applied("logical_not", self)

    __add__, __radd__, __iadd__ = _operator("add"), _reflected("add"), _in_place("add")
    __sub__, __rsub__, __isub__ = _operator("sub"), _reflected("sub"), _in_place("sub")
    __mul__, __rmul__, __imul__ = _operator("mul"), _reflected("mul"), _in_place("mul")
    __truediv__, __rtruediv__ = _operator("div"), _reflected("div")
    __itruediv__ = _in_place("div")
    __pow__, __rpow__, __ipow__ = _operator("pow"), _reflected("pow"), _in_place("pow")
    __and__, __rand__ = _operator("logical_and"), _reflected("logical_and")
    __or__, __ror__ = _operator("logical_or"), _reflected("logical_or")
    __xor__, __rxor__ = _operator("logical_xor"), _reflected("logical_xor")
    __lt__, __le__, __gt__, __ge__ = map(_operator, ("lt", "le", "gt", "ge"))
    __eq__, __ne__ = _operator("eq"), _operator("ne")
    __mod__ = __rmod__ = _unsupported("%")
    __floordiv__ = __rfloordiv__ = _unsupported("//")
    __matmul__ = __rmatmul__ = _unsupported("@")
    __getitem__ = __setitem__ = _unsupported("[]")
    __float__, __int__, __complex__ = map(_no_value, ("float()", "int()", "complex()"))
    __index__, __len__, __round__ = map(_no_value, ("an index", "len()", "round()"))


def _converted(value: Traced, *args: Any, **kwargs: Any) -> Any:
    """Apply `.to(...)`, `.type(...)` or `.type_as(...)`."""
    given = [a.dtype if isinstance(a, Traced) else a for a in args]
    options = {k: a.dtype if isinstance(a, Traced) else a for k, a in kwargs.items()}
    for name in conversions(given, options):
        value = applied(name, value)
    return value


class TracedVector:
    """A vector parameter of a traced function: `theta[2]`, `len(theta)`, iteration."""

    def __init__(self, name: str, elements: tuple[Traced, ...]) -> None:
        self._name = name
        self._elements = elements

    def __getitem__(self, index: Any) -> Any:
        """Return an element, or a tuple of them for a slice."""
        try:
            return self._elements[index]
        except (IndexError, TypeError):
            accepted = f"an integer from 0 to {len(self._elements) - 1}, or a slice"
            raise refusal(f"{self._name}[{index!r}] is not an element", accepted) from None

    def __len__(self) -> int:
        return len(self._elements)

    def __iter__(self) -> Iterator[Traced]:
        return iter(self._elements)

    def refuse(self, *_: Any) -> NoReturn:
        """Raise the error of an operation on the vector."""
        last = len(self._elements) - 1
        accepted = f"its elements, {self._name}[0] to {self._name}[{last}]"
        raise refusal(f"an operation on the whole vector {self._name!r}", accepted, "Index it.")

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = (
        refuse
    )
    __pow__ = __rpow__ = __neg__ = __lt__ = __le__ = __gt__ = __ge__ = __matmul__ = refuse

    @classmethod
    def __torch_function__(
        cls, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Refuse a function of PyTorch."""
        next(a for a in args if isinstance(a, cls)).refuse()
