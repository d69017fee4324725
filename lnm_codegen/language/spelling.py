"""Names of functions that are defined by `where`: `clip`, `max`, `min` and `abs`, for printing."""

from __future__ import annotations

from typing import Any

import sympy


def spelled(cond: Any, then: Any, orelse: Any) -> tuple[str, tuple[Any, ...]] | None:
    """Return the function, and its arguments, that `where(cond, then, orelse)` defines, or None.

    A clamp on one side is a `max` or a `min`. These differ from the clamp at NaN alone: there they
    have the bound.
    """
    if not isinstance(cond, sympy.core.relational.Relational):
        return None
    a, b = cond.lhs, cond.rhs
    match cond:
        case sympy.GreaterThan() if _same(then, a) and b == 0 and orelse == -a:
            return "abs", (a,)
        case sympy.GreaterThan() if _same(then, a) and _same(orelse, b):
            return "max", (a, b)
        case sympy.LessThan() if _same(then, a) and _same(orelse, b):
            return "min", (a, b)
    match _clamp(cond, then, orelse):
        case (a, low, None):
            return "max", (a, low)
        case (a, None, high):
            return "min", (a, high)
        case (a, low, high):
            return "clip", (a, low, high)
    return None


def _clamp(cond: Any, then: Any, orelse: Any) -> tuple[Any, Any, Any] | None:
    """Return the argument and the bounds of a clamp, or None; a bound that it lacks is None."""
    a, b = cond.lhs, cond.rhs
    match cond:
        case sympy.StrictLessThan() if _same(then, b):
            if orelse == a:
                return a, then, None
            inner = _clamp_of(orelse)
            if inner is not None and inner[0] == a and inner[1] is None:
                return a, then, inner[2]
        case sympy.StrictGreaterThan() if _same(then, b) and orelse == a:
            inner = _clamp_of(a)
            if inner is not None and inner[2] is None and _ordered(inner[1], then):
                return inner[0], inner[1], then
            return a, None, then
    return None


def _clamp_of(expr: Any) -> tuple[Any, Any, Any] | None:
    """Return the argument and the bounds of a node that is a clamp, or None for another node."""
    operands = getattr(expr, "operands", None)
    if operands is None or not isinstance(operands[0], sympy.core.relational.Relational):
        return None
    return _clamp(*operands)


def _same(a: Any, b: Any) -> bool:
    """Report whether two expressions are equal; the numbers 2 and 2.0 are."""
    return bool(a == b or (a.is_Number and b.is_Number and float(a) == float(b)))


def _ordered(low: Any, high: Any) -> bool:
    return bool(low.is_Number and high.is_Number and float(low) <= float(high))
