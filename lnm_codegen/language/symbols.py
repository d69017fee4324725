"""Symbols of expressions: SymPy symbols with a declaration of a state, input, parameter or spike.

Two declarations are never equal, whatever their names, so several neurons may be built side by
side. Spikes alone are equal by name. A family (see `family.py`) collects declarations in order.
"""

from __future__ import annotations

import itertools
import keyword
import math
import numbers
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, cast, get_args, overload

import sympy
from sympy.logic.boolalg import Boolean

from lnm_codegen.errors import ModelError
from lnm_codegen.ir.declarations import (
    Declaration,
    Draw,
    Input,
    Param,
    SpikeDeclaration,
    State,
    require_draw,
)
from lnm_codegen.ir.declarations import Granularity as Granularity
from lnm_codegen.ir.declarations import Init as Init
from lnm_codegen.language.misuse import Symbolic, as_number, as_numbers, operand, per_channel
from lnm_codegen.validation import require_bool, require_integer, require_one_of, shown, wrong

# Names of declarations. Every target refuses further names, which its language reserves.


def require_name(kind: str, name: Any) -> str:
    """Return `name`, an identifier that a `kind` may have: "state", "input".

    Raises:
        ModelError: Not an identifier, a keyword of Python, the name of the default spike, or a name
            of the forms that kernels use: `_x`, `grad_x`, `sum_x`, `x_next`.
    """
    where = f"{kind} {shown(name)}"
    if not isinstance(name, str) or not name.isascii() or not name.isidentifier():
        raise ModelError(
            where, "not an identifier", "letters, digits and '_', not beginning with a digit"
        )
    problem = ""
    if keyword.iskeyword(name):
        problem = "the word is a keyword of Python"
    elif name == "spike":
        problem = "the default spike has this name"
    elif name.startswith(("_", "grad_", "sum_")) or name.endswith("_next"):
        problem = "generated code makes names of the forms _x, grad_x, sum_x and x_next"
    if problem:
        raise ModelError(where, problem, remedy="Choose another name.")
    return name


# Types of expressions for type checkers, because SymPy ships none.
#
# At run time `Expression` and `Condition` are SymPy's classes. Checkers see the operators below;
# every other attribute is SymPy's, of type Any.


if TYPE_CHECKING:

    class Condition:
        """A comparison of expressions, or several joined by `&`, `|`, `~`."""

        def __and__(self, other: Condition) -> Condition: ...
        def __or__(self, other: Condition) -> Condition: ...
        def __invert__(self) -> Condition: ...

    class Expression:
        """An expression of declared symbols and numbers."""

        def __add__(self, other: ExprLike) -> Expression: ...
        def __radd__(self, other: ExprLike) -> Expression: ...
        def __sub__(self, other: ExprLike) -> Expression: ...
        def __rsub__(self, other: ExprLike) -> Expression: ...
        def __mul__(self, other: ExprLike) -> Expression: ...
        def __rmul__(self, other: ExprLike) -> Expression: ...
        def __truediv__(self, other: ExprLike) -> Expression: ...
        def __rtruediv__(self, other: ExprLike) -> Expression: ...
        def __pow__(self, other: ExprLike) -> Expression: ...
        def __rpow__(self, other: ExprLike) -> Expression: ...
        def __neg__(self) -> Expression: ...
        def __pos__(self) -> Expression: ...
        def __lt__(self, other: ExprLike) -> Condition: ...
        def __le__(self, other: ExprLike) -> Condition: ...
        def __gt__(self, other: ExprLike) -> Condition: ...
        def __ge__(self, other: ExprLike) -> Condition: ...
        def __getattr__(self, name: str) -> Any: ...

    class Symbol(Expression):
        """A SymPy symbol."""

        name: str

else:
    Condition, Expression, Symbol = Boolean, sympy.Expr, sympy.Symbol

ExprLike: TypeAlias = "Expression | int | float | Fraction"
"""An expression or a number."""


class Numbers(Protocol):
    """An array or a tensor."""

    def tolist(self) -> Any:
        """Return its numbers as Python's."""


Unary: TypeAlias = "Callable[[ExprLike], Expression]"
"""A function of one expression."""


# Comparisons of declared symbols: SymPy's, with a truth value that raises an error of ours.
#
# SymPy raises TypeError for `if v > 0`, and takes `if (v > 0) & (x > 0)` for true. The classes here
# have the names of SymPy's, compare equal to them, and are rebuilt as SymPy's. `lnm.where` stores
# SymPy's own, so no neuron contains them.


class _Undecided(Symbolic):
    """Base of the classes: a condition that `if`, `and`, `or`, `not` and chains refuse."""

    __slots__ = ()
    args: Any

    @property
    def func(self) -> Any:
        """SymPy's class, which rebuilds the condition."""
        return next(kind for kind in type(self).__mro__ if kind in _CLASSES)

    def __eq__(self, other: object) -> bool:
        return bool(plain(self) == plain(other))

    __hash__: Any = sympy.Basic.__hash__

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.func, self.args

    def __and__(self, other: Any) -> Any:
        return undecidable(sympy.And(self, other))

    def __or__(self, other: Any) -> Any:
        return undecidable(sympy.Or(self, other))

    __rand__, __ror__ = __and__, __or__

    def __invert__(self) -> Any:
        return undecidable(sympy.Not(self))


class StrictGreaterThan(_Undecided, sympy.StrictGreaterThan):
    """a > b."""

    __slots__ = ()


class GreaterThan(_Undecided, sympy.GreaterThan):
    """a >= b."""

    __slots__ = ()


class StrictLessThan(_Undecided, sympy.StrictLessThan):
    """a < b."""

    __slots__ = ()


class LessThan(_Undecided, sympy.LessThan):
    """a <= b."""

    __slots__ = ()


class And(_Undecided, sympy.And):
    """Conditions joined by &."""

    __slots__ = ()


class Or(_Undecided, sympy.Or):
    """Conditions joined by |."""

    __slots__ = ()


_CLASSES: dict[Any, Any] = {
    sympy.StrictGreaterThan: StrictGreaterThan,
    sympy.GreaterThan: GreaterThan,
    sympy.StrictLessThan: StrictLessThan,
    sympy.LessThan: LessThan,
    sympy.And: And,
    sympy.Or: Or,
}


def undecidable(condition: Any) -> Any:
    """Return a condition of SymPy as one whose truth value raises; anything else as it is."""
    kind = _CLASSES.get(type(condition))
    return condition if kind is None else _rebuilt(kind, condition.args)


def _rebuilt(kind: Any, args: Iterable[Any]) -> Any:
    """Return a condition of that class; SymPy would join the arguments of And and Or again."""
    if not issubclass(kind, sympy.And | sympy.Or):
        return kind(*args, evaluate=False)
    node = sympy.Basic.__new__(kind, *args)
    node._argset = frozenset(node.args)
    return node


def plain(condition: Any) -> Any:
    """Return a condition with SymPy's own classes throughout; anything else as it is."""
    if not isinstance(condition, Boolean) or not condition.args:
        return condition
    args = [plain(arg) for arg in condition.args]
    same = all(new is old for new, old in zip(args, condition.args, strict=True))
    if same and not isinstance(condition, _Undecided):
        return condition
    return _rebuilt(condition.func, args)


def _arithmetic(name: str) -> Callable[[Any, Any], Any]:
    """Return SymPy's operator of that name, which then refuses arrays and tensors."""
    method = getattr(sympy.Symbol, name)

    def operate(symbol: Declared, other: Any) -> Any:
        return method(symbol, operand(other))

    return operate


def _comparison(name: str) -> Callable[[Any, Any], Any]:
    """Return the operator of a comparison whose truth value raises an error of this package."""
    method = _arithmetic(name)
    return lambda symbol, other: undecidable(method(symbol, other))


class Declared(Symbolic, Symbol):
    """A SymPy symbol with its declaration and its place in the order of declarations.

    `start` is the parameter that is the initial value of a state, or None.

    It has no value: it refuses Python's truth values, equality with a number, the functions of
    math, NumPy and PyTorch, and arrays and tensors.
    """

    __slots__ = ("decl", "order", "start")
    decl: Declaration
    order: int
    start: Declared | None

    def __new__(
        cls, name: str, decl: Declaration, order: int, start: Declared | None = None
    ) -> Declared:
        """Make a symbol that differs from every symbol of another order."""
        symbol = sympy.Symbol.__xnew__(cls, name)
        symbol.decl = decl
        symbol.order = order
        symbol.start = start
        return symbol  # type: ignore[no-any-return]

    def __getnewargs_ex__(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments of `__new__`, for pickle and copy."""
        return (self.name, self.decl, self.order, self.start), {}

    def _hashable_content(self) -> tuple[Any, ...]:
        return (self.name, self.order, repr(self.decl))

    if not TYPE_CHECKING:  # which sees the operators of `Expression`
        __add__, __radd__ = _arithmetic("__add__"), _arithmetic("__radd__")
        __sub__, __rsub__ = _arithmetic("__sub__"), _arithmetic("__rsub__")
        __mul__, __rmul__ = _arithmetic("__mul__"), _arithmetic("__rmul__")
        __truediv__, __rtruediv__ = _arithmetic("__truediv__"), _arithmetic("__rtruediv__")
        __pow__, __rpow__ = _arithmetic("__pow__"), _arithmetic("__rpow__")
        __lt__, __le__ = _comparison("__lt__"), _comparison("__le__")
        __gt__, __ge__ = _comparison("__gt__"), _comparison("__ge__")


Start: TypeAlias = "Init | Sequence[float] | Numbers"
Assignments: TypeAlias = tuple[tuple[Declared, sympy.Expr], ...]
Named: TypeAlias = tuple[tuple[str, sympy.Expr], ...]


def _refused(operator: str) -> Callable[..., Any]:
    def refuse(vector: Vector, *_: Any) -> Any:
        name = vector.decl.name
        raise ModelError(
            name,
            f"{operator} takes no vector parameter",
            f"its elements, {name}[0] to {name}[{len(vector) - 1}], or lnm.poly(z, {name})",
            "Index it.",
        )

    return refuse


class Vector(Sequence[Declared]):
    """A vector parameter in expressions: `theta[2]`, `len(theta)`, `lnm.poly(v, theta)`."""

    def __init__(self, decl: Param, elements: tuple[Declared, ...]) -> None:
        self.decl = decl
        self._elements = elements

    @overload
    def __getitem__(self, index: int) -> Declared: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Declared, ...]: ...
    def __getitem__(self, index: Any) -> Any:
        """Return the element, or a tuple for a slice."""
        accepted = f"an integer from 0 to {len(self) - 1}"
        where = f"{self.decl.name}[{shown(index)}]"
        try:
            return self._elements[index]
        except IndexError:
            raise ModelError(where, "index out of range", accepted) from None
        except TypeError:
            raise ModelError(where, "not an index", f"{accepted}, or a slice") from None

    __add__ = __radd__ = _refused("'+'")
    __sub__ = __rsub__ = __neg__ = _refused("'-'")
    __mul__ = __rmul__ = _refused("'*'")
    __truediv__ = __rtruediv__ = _refused("'/'")
    __pow__ = __rpow__ = _refused("'**'")
    __lt__ = __le__ = __gt__ = __ge__ = _refused("a comparison")

    def __iter__(self) -> Iterator[Declared]:
        return iter(self._elements)

    def __len__(self) -> int:
        return len(self._elements)

    def __repr__(self) -> str:
        return f"Vector({self.decl.name!r}, size={len(self)})"


@dataclass(slots=True)
class Scope:
    """Declarations of a family while its function runs."""

    family: str
    symbols: list[Declared]


SCOPE: ContextVar[Scope | None] = ContextVar("lnm_family", default=None)
ORDER = itertools.count(1)
"""Numbers of declarations and bound values, in the order in which they are made."""


def _declare(name: str, decl: Declaration, start: Declared | None = None) -> Declared:
    symbol = Declared(name, decl, next(ORDER), start)
    scope = SCOPE.get()
    if scope is not None:
        scope.symbols.append(symbol)
    return symbol


def require_init(where: str, init: Any, size: int | None = None, is_state: bool = False) -> Init:
    """Return an initial value of a state, or of a parameter of that size, or raise ModelError.

    The error of numbers in a wrong count accepts only numbers: no function is meant.
    """
    if callable(init):
        return cast("Init", init)
    given = as_number(init) if size is None else as_numbers(init)
    if _is_finite(given):
        return float(given)
    numbers = "a finite number" if size is None else f"a finite number or {size} of them"
    accepted = f"{numbers}, or a function (generator, shape) -> tensor"
    if size is not None and isinstance(given, Sequence):
        values = [as_numbers(value) for value in given]
        if all(_is_finite(value) for value in values):
            if len(values) == size:
                return tuple(float(value) for value in values)
            accepted = numbers
    raise wrong(where, "init", init, accepted, per_channel(given, size, is_state))


def _is_finite(value: Any) -> bool:
    """Report whether a float holds `value`, a number of Python or NumPy and not a bool."""
    try:
        number = isinstance(value, numbers.Real) and not isinstance(value, bool)
        return number and math.isfinite(value)
    except OverflowError:  # 10**400
        return False


def state(name: str, init: Init | Numbers | Declared = 0.0) -> Declared:
    """Declare a state of the neuron.

    Args:
        name: An identifier; `v` for the membrane potential.
        init: Value before the first time step: a number, an array or tensor of one, a function
            (generator, shape) -> tensor, or a scalar parameter. A layer then learns the initial
            value, per layer, channel or neuron, unless a call gives the state.

    Raises:
        ModelError: An argument has another value.
    """
    where = f"state {require_name('state', name)!r}"
    if isinstance(init, Declared | Vector):
        if not isinstance(init, Declared) or not _is_scalar_param(init.decl):
            raise wrong(where, "init", init, "a number, a function, or a scalar lnm.param")
        return _declare(name, State(name, cast("Param", init.decl).init, init.name), init)
    return _declare(name, State(name, require_init(where, init, is_state=True)))


def _is_scalar_param(decl: Declaration) -> bool:
    return isinstance(decl, Param) and decl.size is None


def input(name: str) -> Declared:
    """Declare an input, which has a new value at every time step; `x` for the input current."""
    return _declare(name, Input(require_name("input", name)))


def undriven(name: str) -> Declared:
    """Declare an input that no expression reads; it sets T and the shape of a layer."""
    return _declare(name, Input(require_name("input", name), read=False))


@overload
def param(
    name: str,
    size: None = ...,
    init: Start = ...,
    learnable: bool = ...,
    per: Granularity = ...,
    draw: Draw | None = ...,
) -> Declared: ...


@overload
def param(
    name: str,
    size: int,
    init: Start = ...,
    learnable: bool = ...,
    per: Granularity = ...,
    draw: Draw | None = ...,
) -> Vector: ...


def param(
    name: str,
    size: int | None = None,
    init: Start = 0.0,
    learnable: bool = True,
    per: Granularity = "layer",
    draw: Draw | None = None,
) -> Declared | Vector:
    """Declare a parameter.

    Args:
        name: An identifier; the layer has an attribute of this name.
        size: None for a scalar, else the length of a vector, which is indexed: `theta[2]`.
        init: A number, `size` numbers, an array or tensor of them, or a function (generator,
            shape) -> tensor. A tensor's values are copied. With a function, only layers have
            values: plots, `lnm analyze FAMILY`, circuits and TOML definitions need a number. Then
            give the number here, and the random values as `draw`.
        learnable: True makes it an `nn.Parameter`, False a buffer without a gradient.
        per: Granularity: one value per "layer", "channel" or "neuron".
        draw: Random initial values in a layer: `lnm.uniform(low, high)`, or an `lnm.Draw`, possibly
            drawn jointly with other parameters. Without a layer, `init` counts.

    Raises:
        ModelError: An argument has another value.
    """
    where = f"parameter {require_name('parameter', name)!r}"
    require_one_of(where, "per", per, get_args(Granularity))
    require_integer(where, "size", size, optional=True)
    require_bool(where, "learnable", learnable)
    require_draw(where, draw, size)
    decl = Param(name, size, require_init(where, init, size), learnable, per, draw)
    elements = tuple(_declare(n, decl) for n in decl.element_names)
    return elements[0] if size is None else Vector(decl, elements)


def spike_named(name: str) -> Declared:
    """Return the spike of that name, for neurons with several spikes."""
    if name != "spike":
        require_name("spike", name)
    return Declared(name, SpikeDeclaration(name), 0)


spike = spike_named("spike")
"""The default spike of a neuron."""


def is_spike(value: Any) -> bool:
    """Report whether `value` is a spike, which `where` takes as a condition."""
    return isinstance(value, Declared) and isinstance(value.decl, SpikeDeclaration)
