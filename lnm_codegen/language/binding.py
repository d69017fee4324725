"""Bound values: names for the values of expressions, which no pass expands.

A bound value is a symbol with a definition. The compiler computes it once in each phase that reads
it, as a Let of its own, and differentiates it by the chain rule. So a chain of bound values costs
time in proportion to its length, whatever degree the composed polynomial has.
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

import sympy

from lnm_codegen.errors import ModelError
from lnm_codegen.ir.declarations import BoundValue
from lnm_codegen.ir.kernel import Names
from lnm_codegen.language.bounds import require_expression
from lnm_codegen.language.functions import replaced
from lnm_codegen.language.symbols import ORDER, Declared, Expression, ExprLike, require_name
from lnm_codegen.validation import require_integer, wrong

MOST = 1000
"""Largest number of bound values of a neuron."""


class Bound(Declared):
    """A symbol with a definition, an expression of symbols that were made before it.

    A copy from a pickle has none: the neuron holds the definitions of its bound values.
    """

    __slots__ = ("definition",)
    definition: sympy.Expr | None

    def __new__(
        cls, name: str, decl: Any, order: int, definition: sympy.Expr | None = None
    ) -> Bound:
        """Make a symbol that differs from every symbol of another order."""
        symbol: Any = super().__new__(cls, name, decl, order)
        symbol.definition = definition
        return symbol  # type: ignore[no-any-return]

    def __getnewargs_ex__(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments of `__new__` without the definition, for pickle."""
        return (self.name, self.decl, self.order), {}

    def __deepcopy__(self, memo: Any) -> Bound:
        return self


Bindings: TypeAlias = tuple[tuple[Bound, sympy.Expr], ...]
"""Bound values and their definitions, each after those that it reads."""


def bind(value: ExprLike, name: str = "bound") -> Expression:
    """Return a name for the value of an expression, which no pass replaces by the expression.

    The name has the value and the derivative of the expression, wherever it is used. It counts as
    one variable in the degree and the size of an expression that reads it. A number or a symbol is
    returned as it is.

    Args:
        value: An expression of declared symbols and bound values.
        name: An identifier for text and generated code, which number equal ones: k1, k1_2, ...

    Raises:
        ModelError: No expression of the language, or no name.
    """
    expr = require_expression(f"bind {name!r}", value)
    require_name("bound value", name)
    named: Expression = _bound(expr, name)
    return named


def _bound(expr: sympy.Expr, name: str) -> Any:
    coefficient, rest = expr.as_coeff_Mul()
    if float(coefficient) == 1:  # SymPy: Float(1.0) != 1
        expr = rest  # text writes 1.0*v as v
    if expr.is_number or isinstance(expr, Declared):
        return expr
    return Bound(name, BoundValue(name), next(ORDER), expr)


def substeps(k: int, step: Callable[..., Any], **values: ExprLike) -> tuple[Expression, ...]:
    """Return the values after `k` applications of `step`, each bound to a name.

        (v[j+1], w[j+1], ...) = step(v[j], w[j], ...)        j = 0 ... k-1

    The compiler expands no sub-step into the next one: kernels, gradients and the time of a
    compilation grow in proportion to k.

    Args:
        k: Number of sub-steps, 1 to 1000.
        step: Function of expressions, called with the values in the order given. It returns the
            new ones in that order: a tuple, or for one value the expression. `bind` names what it
            computes on the way, such as the stages of a Runge-Kutta step.
        **values: Expressions to begin with. The word of each, with a number, names its results:
            v_1, v_2, ...

    Returns:
        A tuple of the values, also for one value.

    Raises:
        ModelError: An argument has another value, or `step` takes or returns another number of
            expressions.
    """
    k = require_integer("substeps", "k", k, 1, MOST)
    if not callable(step):
        raise wrong("substeps", "step", step, "a function of expressions")
    if not values:
        raise ModelError("substeps", "no values", "v=v, w=w", "Give what the step changes.")
    now: tuple[Any, ...] = tuple(values.values())
    _require_takes(step, values)
    for j in range(1, k + 1):
        after = step(*now)
        after = after if isinstance(after, tuple | list) else (after,)
        if len(after) != len(values):
            problem = f"step returned {len(after)} expressions"
            raise ModelError("substeps", problem, f"one for each of {', '.join(values)}")
        now = tuple(bind(e, f"{word}_{j}") for word, e in zip(values, after, strict=True))
    return now


def _require_takes(step: Callable[..., Any], values: Mapping[str, ExprLike]) -> None:
    """Raise ModelError if `step` cannot be called with the values, in their order."""
    try:
        inspect.signature(step).bind(*values)
    except TypeError as error:
        accepted = f"a function of {', '.join(values)}"
        raise ModelError("substeps", f"step: {error}", accepted) from None


def bindings_of(
    exprs: Iterable[sympy.Expr], own: Mapping[Any, sympy.Expr] | None = None
) -> Bindings:
    """Return the bound values that expressions read, directly or through others.

    Args:
        exprs: The expressions.
        own: Bound value -> definition, in place of the symbol's own.
    """
    own = own or {}
    found: dict[Bound, sympy.Expr] = {}
    left = list(exprs)
    while left:
        for symbol in left.pop().free_symbols:
            if isinstance(symbol, Bound) and symbol not in found:
                definition = own.get(symbol, symbol.definition)
                if definition is not None:
                    found[symbol] = definition
                    left.append(definition)
    return tuple(sorted(found.items(), key=lambda pair: pair[0].order))


def read_by(expr: sympy.Expr, own: Mapping[Any, sympy.Expr] | None = None) -> set[Any]:
    """Return the symbols that an expression reads, also through bound values, without those."""
    bound = bindings_of([expr], own)
    read = itertools.chain(expr.free_symbols, *(e.free_symbols for _, e in bound))
    return set(read) - {symbol for symbol, _ in bound}


def numbered(where: str, bindings: Bindings, taken: Iterable[str]) -> dict[Any, Bound]:
    """Return a symbol for each bound value whose name is taken or that of an earlier one."""
    if len(bindings) > MOST:
        problem = f"it reads {len(bindings)} bound values"
        raise ModelError(
            where, problem, f"at most {MOST}", "Bind fewer values, or use fewer sub-steps."
        )
    names = Names(taken)
    table: dict[Any, Bound] = {}
    for symbol, definition in bindings:
        name = names.fresh(symbol.name)
        if name != symbol.name:
            table[symbol] = Bound(name, BoundValue(name), symbol.order, definition)
    return table


def rebound(
    expr: sympy.Expr, change: Callable[[Any], Any], own: Mapping[Any, sympy.Expr] | None = None
) -> Any:
    """Return an expression with `change` applied to it and to each definition that it reads."""
    table: dict[Any, Any] = {}
    for symbol, definition in bindings_of([expr], own):
        table[symbol] = _bound(change(replaced(definition, table)), symbol.name)
    return change(replaced(expr, table))
