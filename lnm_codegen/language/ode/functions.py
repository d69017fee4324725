"""Functions of ODE texts: those of the language, and Brian2's in terms of them.

exprel(a) = (exp(a) - 1)/a is 1 at a = 0. The product (exp(a) + 1)*tanh(a/2) equals exp(a) - 1
without the cancellation near 0.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import sympy

from lnm_codegen.language import functions as fn
from lnm_codegen.language.binding import bind
from lnm_codegen.language.text.expression import FUNCTIONS as LANGUAGE

_NEAR = sympy.Rational(1, 10_000)
"""Square of the largest |a| of the series of exprel; its error is 3e-19 at most."""


def expm1(a: sympy.Expr) -> sympy.Expr:
    """Return exp(a) - 1."""
    return (fn.exp(a) + 1) * fn.tanh(a / 2)


class exprel(sympy.Function):
    """(exp(a) - 1)/a in a template; `expanded` replaces it."""

    nargs = 1

    @classmethod
    def eval(cls, a: Any) -> Any:
        """Return the value of a number, or None."""
        if a.is_number:
            return sympy.S.One if a == 0 else expm1(a) / a
        return None


def exprel_of(a: sympy.Expr) -> sympy.Expr:
    """Return (exp(a) - 1)/a, which is 1 at a = 0, in functions of the language.

    The argument is bound: an expanded series of a sum loses its digits.
    """
    a = bind(a, "ratio")
    if a.is_number:
        return exprel(a)
    near = fn.compared(sympy.Lt, a**2, _NEAR)
    divisor = fn.where(near, 1, a)  # else the derivative at 0 is 0*inf
    series: Any = sympy.S.One
    for k in (7, 6, 5, 4, 3, 2):
        series = 1 + a / k * series
    return fn.where(near, series, expm1(divisor) / divisor)


def expanded(expr: Any) -> Any:
    """Return an expression with each exprel replaced by functions of the language."""
    if not expr.has(exprel):
        return expr
    args = [expanded(a) for a in expr.args]
    if isinstance(expr, exprel):
        return exprel_of(args[0])
    return expr.func(*args) if isinstance(expr, fn.Where) else expr.func(*args, evaluate=False)


def sinh(a: sympy.Expr) -> sympy.Expr:
    """Return the hyperbolic sine."""
    return expm1(a) * (1 + fn.exp(-a)) / 2


def cosh(a: sympy.Expr) -> sympy.Expr:
    """Return the hyperbolic cosine."""
    return (fn.exp(a) + fn.exp(-a)) / 2


def tan(a: sympy.Expr) -> sympy.Expr:
    """Return the tangent."""
    return fn.sin(a) / fn.cos(a)


def log10(a: sympy.Expr) -> sympy.Expr:
    """Return the logarithm to base 10."""
    return fn.log(a) / fn.log(sympy.Integer(10))


def sign(a: sympy.Expr) -> sympy.Expr:
    """Return 1, 0 or -1."""
    below: Any = fn.where(fn.compared(sympy.Lt, a, sympy.S.Zero), -1, 0)
    return fn.where(fn.compared(sympy.Gt, a, sympy.S.Zero), 1, below)


def number_of(condition: Any) -> sympy.Expr:
    """Return 1 where a condition holds, else 0: Brian2's `int(v > 0*mV)`."""
    return fn.where(condition, 1, 0)


LIKE_ARGUMENT = frozenset({"abs", "min", "max", "clip", "where", "stop_gradient"})
"""Functions whose arguments and value have one unit; the others take and return plain numbers."""

FUNCTIONS: dict[str, Callable[..., Any]] = {
    **{word: f for word, f in LANGUAGE.items() if word != "poly"},
    **{f.__name__: f for f in (expm1, exprel, sinh, cosh, tan, log10, sign)},
    "int": number_of,
}
"""Functions by their name in a text."""
