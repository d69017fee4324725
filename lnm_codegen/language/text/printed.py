"""Expressions as text of the grammar: `printed(expr)`, which `expression.parse` reads back."""

from __future__ import annotations

from decimal import Context, Decimal
from typing import Any

import sympy
from sympy.core.relational import Relational

from lnm_codegen.errors import InternalError
from lnm_codegen.ir.declarations import Param
from lnm_codegen.language import functions as fn
from lnm_codegen.language.functions import CALLS, Where, stop_gradient
from lnm_codegen.language.symbols import Declared
from lnm_codegen.language.text.cost import applied

_SUM, _PRODUCT, _POWER, _ATOM = range(4)
"""How tightly the outermost operator of a text binds."""
_DIGITS = 20
"""Most digits of a rational number that is written as a decimal."""


def printed(expr: sympy.Expr) -> str:
    """Return the text of an expression. A sum times a number becomes a sum when it is read."""
    return _sum(expr)[0]


def _at(expr: Any, least: int) -> str:
    """Return the text of an operand, in parentheses unless it binds as tightly as `least`."""
    text, binds = _sum(expr)
    return text if binds >= least else f"({text})"


def _sum(expr: Any) -> tuple[str, int]:
    """Return a text and how tightly it binds."""
    if not isinstance(expr, sympy.Add):
        negative, text, binds = _term(expr)
        return (f"-{text}", _SUM) if negative else (text, binds)
    terms = [_term(e) for e in expr.args]
    terms.sort(key=lambda term: (term[0], term[1][0].isdigit(), len(term[1]), term[1]))
    words = []
    for k, (negative, text, binds) in enumerate(terms):
        text = text if binds >= _PRODUCT else f"({text})"
        words.append((" - " if negative else " + ") + text if k else "-" * negative + text)
    return "".join(words), _SUM


def _term(expr: Any) -> tuple[bool, str, int]:
    """Return whether a term is negative, and the text and binding of its absolute value."""
    if isinstance(expr, sympy.Add):
        return False, *_sum(expr)
    if isinstance(expr, sympy.Number):
        text = _number(abs(expr))
        return bool(expr < 0), text, _PRODUCT if "/" in text else _ATOM
    if not isinstance(expr, sympy.Mul | sympy.Pow):
        return False, _atom(expr), _ATOM
    number, rest = expr.as_coeff_Mul()
    if isinstance(number, sympy.Float):  # 1.0*v
        number = sympy.Rational(repr(float(number)))
    above: list[Any] = []
    below: list[Any] = []
    for factor in sympy.Mul.make_args(rest):
        inverse = isinstance(factor, sympy.Pow) and factor.exp.could_extract_minus_sign()
        (below if inverse else above).append(1 / factor if inverse else factor)
    above.sort(key=lambda e: (isinstance(e, sympy.Add), _factor(e)))  # 2*(a + b) is 2*a + 2*b
    below.sort(key=_factor)
    size = abs(number)
    scale = "" if size == 1 else _number(size)
    first = [] if not scale or (above and isinstance(above[0], sympy.Add)) else [scale]
    words = [*first, *(_factor(e) for e in above)] or ["1"]
    text = "*".join(words) + "".join(f"/{_factor(e, _POWER)}" for e in below)
    if scale and not first:
        text += f"*{scale}" if "/" not in scale else f"*({scale})"
    if number < 0 and above and isinstance(above[0], sympy.Add):
        return False, f"{text}*(-1)", _PRODUCT
    single = len(words) + len(below) == 1 and text == words[0]
    return bool(number < 0), text, _binding(above[0]) if single and above else _PRODUCT


def _binding(expr: Any) -> int:
    is_power = isinstance(expr, sympy.Pow) and expr.exp != sympy.Rational(1, 2)
    return _POWER if is_power else _ATOM


def _factor(expr: Any, least: int = _PRODUCT) -> str:
    if isinstance(expr, sympy.Pow):
        return _power(expr)
    return _at(expr, least)


def _power(expr: Any) -> str:
    if expr.exp == sympy.Rational(1, 2):
        return f"sqrt({printed(expr.base)})"
    return f"{_at(expr.base, _ATOM)}**{_at(expr.exp, _ATOM)}"


def _number(value: Any) -> str:
    """Return a number >= 0: an integer, a decimal where it is exact, or a fraction."""
    if isinstance(value, sympy.Float):
        value = sympy.Rational(repr(float(value)))
    if value.q == 1:
        return str(value.p)
    exact = Context(prec=_DIGITS)
    decimal = exact.divide(Decimal(int(value.p)), Decimal(int(value.q)))
    if sympy.Rational(str(decimal)) == value:
        return str(decimal)
    return f"{value.p}/{value.q}"


def _atom(expr: Any) -> str:
    if isinstance(expr, Declared):
        return _name(expr)
    if isinstance(expr, sympy.Symbol):
        return str(expr.name)
    if expr == sympy.pi:
        return "pi"
    if expr == sympy.E:
        return "exp(1)"
    if isinstance(expr, Where):
        return _where(expr)
    if isinstance(expr, stop_gradient):
        return f"stop_gradient({printed(expr.args[0])})"
    for kind, name in CALLS.items():
        if isinstance(expr, kind):
            return f"{name}({printed(expr.args[0])})"
    raise InternalError("to_toml", f"no text for {type(expr).__name__} in {expr}")


def _name(symbol: Declared) -> str:
    decl = symbol.decl
    if isinstance(decl, Param) and decl.size is not None:
        return f"{decl.name}[{decl.element_names.index(symbol.name)}]"
    return symbol.name


def _where(expr: Where) -> str:
    """Return the call of a function of `where` that the grammar builds as this node, or `where`."""
    cond, then, orelse = expr.operands
    calls: list[tuple[str, tuple[Any, ...]]] = []
    if isinstance(cond, Relational):
        a, b = cond.args
        calls = [("abs", (a,)), ("max", (a, b)), ("min", (a, b))]
        if isinstance(orelse, Where) and isinstance(orelse.args[0], Relational):
            calls.append(("clip", (a, b, orelse.args[0].args[1])))
    for word, args in calls:
        if applied(word, getattr(fn, word), *args) == expr:
            return f"{word}({', '.join(map(printed, args))})"
    return f"where({_condition(cond)}, {printed(then)}, {printed(orelse)})"


def _condition(cond: Any) -> str:
    if isinstance(cond, Relational):
        return f"{printed(cond.lhs)} {cond.rel_op} {printed(cond.rhs)}"
    if isinstance(cond, sympy.Not):
        return f"~({_condition(cond.args[0])})"
    if isinstance(cond, sympy.And | sympy.Or):
        sign = " & " if isinstance(cond, sympy.And) else " | "
        return sign.join(sorted(f"({_condition(c)})" for c in cond.args))
    return _atom(cond)
