"""Bounds of expressions: functions of the language, finite numbers, sizes lowered in seconds."""

from __future__ import annotations

import math
import sys
from typing import Any, NamedTuple

import sympy
from sympy.core.relational import Relational
from sympy.logic.boolalg import Boolean

from lnm_codegen.errors import ModelError
from lnm_codegen.ir.declarations import Param
from lnm_codegen.language.functions import CALLS, Where, as_expr, stop_gradient
from lnm_codegen.language.misuse import instead_of
from lnm_codegen.validation import shown

MAX_LEVELS = 100
"""Largest depth of a SymPy tree; text has its own bound, in brackets."""
MAX_TREE = 20_000
"""Largest number of nodes of a SymPy tree."""
MAX_EXPONENT = 64
"""Largest constant exponent and largest degree of a polynomial."""

_ALGEBRA = (sympy.Add, sympy.Mul, sympy.Pow, sympy.Symbol, sympy.Number, sympy.NumberSymbol, Where)
_LOGIC = (Relational, sympy.And, sympy.Or, sympy.Not)
_NOT_FINITE = (sympy.nan, sympy.oo, -sympy.oo, sympy.zoo)
_LANGUAGE = (
    *sorted({*CALLS.values(), "sqrt", "where", "max", "min", "abs", "stop_gradient"}), "clip"
)  # fmt: skip


def require_expression(where: str, value: Any) -> sympy.Expr:
    """Return `value` as an expression that every backend supports.

    Raises:
        ModelError: No expression, a function that is not of the language, a NaN or an infinity,
            or an expression that is too large.
    """
    expr = as_expr(value, where)
    _require_size(where, expr)
    _require_functions(where, expr)
    return expr


def exact_exponent(exponent: sympy.Expr) -> sympy.Expr:
    """Return an exponent, a float as the decimal that is written: 1/2 for `v**0.5`."""
    is_decimal = exponent.is_Float and math.isfinite(float(exponent))
    return sympy.Rational(repr(float(exponent))) if is_decimal else exponent


def _require_functions(where: str, expr: sympy.Expr) -> None:
    nodes, seen = sympy.preorder_traversal(expr), set()
    floats: set[sympy.Basic] = set()
    for node in nodes:
        if node in seen:
            nodes.skip()
            continue
        seen.add(node)
        if node in _NOT_FINITE:
            inside = "" if node == expr else f" in {expr}"
            raise ModelError(where, f"{node}{inside} is not finite", "finite numbers")
        if isinstance(node, (*_ALGEBRA, *_LOGIC, *CALLS, stop_gradient)):
            if isinstance(node, sympy.Expr) and node.is_number:
                _require_floats(where, node, floats)
            elif isinstance(node, sympy.Pow) and node.base.is_number and node.base.is_nonpositive:
                problem = f"the base of {shown(node)} is {shown(node.base)}"
                raise ModelError(where, problem, "a base above 0, or a constant exponent")
            continue
        if isinstance(node, sympy.Expr | Boolean):
            name = type(node).__name__
            sign = {"Mod": "%", "floor": "//"}.get(name, name)
            raise ModelError(
                where,
                f"{sign!r} in {node} is not a function of the language",
                f"{', '.join(_LANGUAGE)}, poly and + - * / **",
                instead_of(name),
            )


def _require_floats(where: str, node: sympy.Basic, known: set[sympy.Basic]) -> None:
    """Raise ModelError if the magnitude of a number, or of a part, is beyond float64.

    Parts come first: a function of a huge number, such as exp(exp(1e9)), takes hours.
    """
    if node in known:
        return
    for part in node.args:
        _require_floats(where, part, known)
    if isinstance(node, sympy.Expr) and node.is_number and not _is_float(node):
        raise ModelError(where, f"{shown(node)} is beyond float64", "magnitudes up to 1.797e308")
    known.add(node)


def _is_float(number: sympy.Expr) -> bool:
    """Report whether the magnitude of a number is in the range of float64."""
    try:
        value = number.evalf()
    except OverflowError:  # its exponent does not fit either
        return False
    return not value.is_Float or bool(abs(value) <= sys.float_info.max)


def _require_size(where: str, expr: sympy.Basic) -> None:
    sizes: dict[sympy.Basic, _Size] = {}
    stack = [expr]
    while stack:
        node = stack[-1]
        missing = [a for a in node.args if a not in sizes]
        if missing:
            stack += missing
            continue
        stack.pop()
        if node not in sizes:
            sizes[node] = _size(node, [sizes[a] for a in node.args], where)


class _Size(NamedTuple):
    """Size of a tree: nodes, depth, degree in parameters and degree in everything else."""

    nodes: int
    depth: int
    params: int
    others: int


def _size(node: Any, parts: list[_Size], where: str) -> _Size:
    nodes = 1 + sum(p.nodes for p in parts)
    depth = 1 + max((p.depth for p in parts), default=0)
    size = _Size(nodes, depth, *_degrees(node, parts, where))
    degree = max(size.params, size.others)
    if depth > MAX_LEVELS:
        problem = f"the expression is nested more than {MAX_LEVELS} deep, sums and products counted"
        raise ModelError(where, problem, f"at most {MAX_LEVELS}", "Write it flatter.")
    if nodes > MAX_TREE:
        problem = (
            f"the expression has more than {MAX_TREE} terms; abs, min, max and clip repeat theirs"
        )
        raise ModelError(where, problem, f"at most {MAX_TREE}", "Split the expression.")
    if degree > MAX_EXPONENT:
        problem = f"a polynomial has degree {degree}"
        raise ModelError(where, problem, f"at most {MAX_EXPONENT}", "Lower its powers.")
    return size


def _degrees(node: Any, parts: list[_Size], where: str) -> tuple[int, int]:
    """Return the degree of a node in parameters, and in states, inputs and functions of them."""
    if node.is_Symbol:
        of_param = isinstance(getattr(node, "decl", None), Param)
        return int(of_param), int(not of_param)
    both = [(p.params, p.others) for p in parts]
    params, others = zip(*both, strict=True) if both else ((0,), (0,))
    if node.is_Add:
        return max(params), max(others)
    if node.is_Mul:
        return sum(params), sum(others)
    exponent = exact_exponent(node.exp) if node.is_Pow else sympy.nan
    if exponent.is_Rational and node.base.free_symbols:
        if abs(exponent) > MAX_EXPONENT:
            text = str(node) if parts[0].nodes < 10 else f"a power of {node.exp}"
            raise ModelError(
                where, f"the exponent in {text} is too large", f"-{MAX_EXPONENT} to {MAX_EXPONENT}"
            )
        if exponent.is_Integer:
            factor = abs(int(exponent))
            return params[0] * factor, others[0] * factor
    other = any(others)  # a function counts as one more variable
    return int(any(params) and not other), int(other)
