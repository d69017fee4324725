"""Names of functions that are defined by `where`: `clip`, `max`, `min` and `abs`, for printing."""

from __future__ import annotations

from typing import Any

import sympy


def spelled(cond: Any, then: Any, orelse: Any) -> tuple[str, tuple[Any, ...]] | None:
    """Return the function, and its arguments, that `where(cond, then, orelse)` defines, or None.

    A clamp on one side is a `clip` whose other bound is infinite.
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
        case sympy.StrictLessThan() if _same(then, b):
            if orelse == a:
                return "clip", (a, then, sympy.oo)
            inner = _clip_of(orelse)
            if inner is not None and inner[0] == a and inner[1] == -sympy.oo:
                return "clip", (a, then, inner[2])
        case sympy.StrictGreaterThan() if _same(then, b) and orelse == a:
            inner = _clip_of(a)
            if inner is not None and inner[2] == sympy.oo and _ordered(inner[1], then):
                return "clip", (inner[0], inner[1], then)
            return "clip", (a, -sympy.oo, then)
    return None


def _clip_of(expr: Any) -> tuple[Any, ...] | None:
    """Return the arguments of a `clip`, or None for another expression."""
    operands = getattr(expr, "operands", None)
    found = None if operands is None else spelled(*operands)
    return found[1] if found is not None and found[0] == "clip" else None


def _same(a: Any, b: Any) -> bool:
    """Report whether two expressions are equal; the numbers 2 and 2.0 are."""
    return bool(a == b or (a.is_Number and b.is_Number and float(a) == float(b)))


def _ordered(low: Any, high: Any) -> bool:
    return bool(low.is_Number and high.is_Number and float(low) <= float(high))
