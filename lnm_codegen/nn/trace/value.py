"""Traced values: stand-ins for tensors that record what a function computes as an expression.

PyTorch's functions, methods and operators reach `OPERATIONS`; an operation in place changes the
value itself, as it changes a tensor. Everything else is an error at the user's line.
"""

from __future__ import annotations

import inspect
import itertools
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch

from lnm_codegen.errors import ModelError
from lnm_codegen.language.misuse import is_array
from lnm_codegen.language.symbols import is_spike
from lnm_codegen.nn.trace.operations import OPERATIONS, SELF, TracedCondition, Value, number
from lnm_codegen.validation import did_you_mean, shown

# Place of an error: the line of the user's file that runs while a function is traced.


LIBRARIES = ("lnm_codegen", "math", "norse", "numpy", "snntorch", "spikingjelly", "torch")
"""Packages whose functions a traced function may call. Their lines are no place of an error."""
_HERE = str(Path(__file__).parent)


def is_library(module: Any) -> bool:
    """Report whether the name of a module is that of a library."""
    return str(module).partition(".")[0] in LIBRARIES


def user_line() -> str:
    """Return "file.py:12", the innermost line outside the libraries on the call stack."""
    frame = sys._getframe(1)
    while frame.f_back is not None:
        file = frame.f_code.co_filename
        if not (file.startswith(_HERE) or is_library(frame.f_globals.get("__name__", ""))):
            break
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


def refusal(problem: str, accepted: str = "", remedy: str = "") -> ModelError:
    """Return the error of an operation, at the user's line."""
    return ModelError(user_line(), problem, accepted, remedy)


# Graph of a traced function, and the charge that it contains.
#
# A function that returns outputs and states reads every state at step t-1. It mostly computes the
# charged states first, and everything else from these. Such nodes of the graph become the charge of
# the neuron, so that it has the phases of a neuron that was written with `lnm.Neuron`.


MOST = 20_000
"""Largest number of combinations of nodes that are tried as charged states."""
MAX_SIZE = 80_000
"""Largest number of operations of a value, each counted as often as it is read."""


@dataclass(frozen=True, slots=True, eq=False)
class TraceNode:
    """A value of the function, and the operation that made it; a symbol or a number has none.

    `size` counts the operations of its expression, each as often as it is read.
    """

    value: Value
    make: Callable[..., Value] | None = None
    operands: tuple[Any, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    size: int = 1

    def parts(self) -> Iterator[TraceNode]:
        """Yield the nodes that the operation reads."""
        for part in (*self.operands, *self.options.values()):
            if isinstance(part, TraceNode):
                yield part


def applied_to(make: Callable[..., Value], *operands: Any, **options: Any) -> TraceNode:
    """Return the node of an operation on nodes and numbers."""
    value = make(*map(_value, operands), **{k: _value(o) for k, o in options.items()})
    parts = [p for p in (*operands, *options.values()) if isinstance(p, TraceNode)]
    return TraceNode(value, make, operands, options, 1 + sum(p.size for p in parts))


def _value(part: Any) -> Any:
    return part.value if isinstance(part, TraceNode) else part


def replayed(node: TraceNode, table: dict[TraceNode, Value]) -> Any:
    """Return the value of a node with the values of `table`, to which it adds those it computes."""
    if node not in table:
        if node.make is None:
            return node.value
        operands = [replayed(p, table) if isinstance(p, TraceNode) else p for p in node.operands]
        options = {
            k: replayed(p, table) if isinstance(p, TraceNode) else p
            for k, p in node.options.items()
        }
        table[node] = node.make(*operands, **options)
    return table[node]


def charged(
    states: Sequence[TraceNode], after: Sequence[TraceNode], roots: Sequence[TraceNode]
) -> list[Any]:
    """Return a node for each state that holds its charged value, or None for no charge.

    No root depends on a state of step t-1 but through these nodes. Where several fit, each is the
    last one before the new state. Without a fit every state has None.

    Args:
        states: Nodes of the states of step t-1.
        after: Nodes of their new values, in the same order.
        roots: All results of the function: outputs, new states, arguments of spikes.
    """
    spiking = _Spiking()
    choices = [[*(n for n in _above(root) if _is_charge(n, spiking)), None] for root in after]
    combinations: Iterator[tuple[Any, ...]] = itertools.product(*choices)
    for nodes in itertools.islice(combinations, MOST):
        chosen = [n for n in nodes if n is not None]
        if len(set(chosen)) == len(chosen) and not _leaks(roots, {*chosen}, {*states}):
            return list(nodes)
    return [None] * len(states)


class _Spiking:
    """Memo of the nodes that read a spike."""

    def __init__(self) -> None:
        self._known: dict[TraceNode, bool] = {}

    def __call__(self, node: TraceNode) -> bool:
        if node not in self._known:
            own = node.make is None and is_spike(node.value)
            self._known[node] = own or any([self(p) for p in node.parts()])
        return self._known[node]


def _is_charge(node: TraceNode, spiking: Callable[[TraceNode], bool]) -> bool:
    return (
        node.make is not None and not isinstance(node.value, TracedCondition) and not spiking(node)
    )


def _above(root: TraceNode) -> list[TraceNode]:
    """Return the nodes that a root depends on, itself first, each before those that it reads."""
    found: dict[TraceNode, None] = {}

    def visit(node: TraceNode) -> None:
        if node not in found:
            for part in node.parts():
                visit(part)
            found[node] = None

    visit(root)
    return list(reversed(found))


def _leaks(
    roots: Sequence[TraceNode], cut: Collection[TraceNode], states: Collection[TraceNode]
) -> bool:
    """Report whether a root reads a state on a path that avoids the nodes of the cut."""
    seen: set[TraceNode] = set()
    stack = list(roots)
    while stack:
        node = stack.pop()
        if node in seen or node in cut:
            continue
        seen.add(node)
        if node in states:
            return True
        stack.extend(node.parts())
    return False


# Conversions of tensors, `.to(...)`, `.type(...)` and `.type_as(...)`, as operations by name.


def conversions(args: Sequence[Any], options: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the operations of a call; a tensor among the arguments is given by its dtype.

    Raises:
        ModelError: A type of integers or of complex numbers.
    """
    flags = [a for a in args if isinstance(a, bool)]  # non_blocking, copy
    copies = options.get("copy", flags[1:] == [True])
    kinds = [a for a in (*args, *options.values()) if not isinstance(a, bool)]
    return (_type_of(kinds), "clone") if copies else (_type_of(kinds),)


def _type_of(kinds: Sequence[Any]) -> str:
    dtype = next((kind for kind in kinds if isinstance(kind, torch.dtype)), None)
    if dtype is torch.bool:
        return "bool"
    if dtype is None:
        names = (str(kind) for kind in kinds if not isinstance(kind, torch.device))
        is_device = not any("torch." in name for name in names)  # "torch.FloatTensor" is a type
        return "contiguous" if is_device else "float"
    if not dtype.is_floating_point:
        raise refusal(f"a conversion to {shown(dtype)}", "floating point or torch.bool")
    return "float" if dtype is torch.float32 else "double"


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
