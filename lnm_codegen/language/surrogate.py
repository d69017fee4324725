"""Surrogates: slopes that replace d spike / dz in the backward pass.

A surrogate is a primitive g(z), whose slope g'(z) SymPy derives, or the slope itself. Formulas and
defaults are those of SpikingJelly (SJ) and snnTorch (ST), named behind each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from inspect import signature
from typing import Any

import sympy

from lnm_codegen.errors import ModelError
from lnm_codegen.language import functions as fn
from lnm_codegen.language.misuse import as_number, building
from lnm_codegen.validation import require_arguments, require_known, require_numbers, shown, wrong

Z = sympy.Symbol("z")
"""Argument of every surrogate: the value of the fire expression."""
_HALF = sympy.Rational(1, 2)


@dataclass(frozen=True)
class Surrogate:
    """A slope in the symbol `Z`, with its primitive where one is known.

    `arguments` are those of the function of `SURROGATES` that made it, or None for another formula.
    """

    name: str
    slope: sympy.Expr
    primitive: sympy.Expr | None = None
    arguments: tuple[tuple[str, float], ...] | None = None

    def __str__(self) -> str:
        given = ", ".join(f"{word}={value:g}" for word, value in self.arguments or ())
        return f"{self.name}({given})" if given else self.name

    def __repr__(self) -> str:
        return f"<surrogate {self.name}: {self.slope}>"


def from_primitive(g: Callable[[Any], Any], name: str = "custom") -> Surrogate:
    """Return the surrogate with the slope g'(z); `g` maps an expression to an expression."""
    primitive = _formula(g, name)
    return Surrogate(name, _in_z(primitive.diff(Z), name), primitive)


def from_slope(slope: Callable[[Any], Any], name: str = "custom") -> Surrogate:
    """Return the surrogate with the slope `slope(z)`."""
    return Surrogate(name, _formula(slope, name))


def _formula(function: Callable[[Any], Any], name: str) -> sympy.Expr:
    where = f"surrogate {name!r}"
    if not callable(function):
        raise ModelError(where, f"{shown(function)} is no function", "a function of z")
    with building(where):
        value = function(Z)
    return _in_z(fn.as_expr(value, where), name)


def _in_z(expr: sympy.Expr, name: str) -> sympy.Expr:
    other = sorted(str(s) for s in expr.free_symbols - {Z})
    if other:
        raise ModelError(
            f"surrogate {name!r}", f"the formula reads {', '.join(other)}", "z and numbers"
        )
    return expr


def _positive(alpha: Any, name: str) -> sympy.Expr:
    value = fn.as_expr(as_number(alpha), f"surrogate.{name}: alpha")
    if not (value.is_number and value.is_real and value.is_positive):
        raise wrong(f"surrogate.{name}", "alpha", alpha, "a number > 0")
    return value


def _named(made: Surrogate, *alpha: Any) -> Surrogate:
    """Return a surrogate with the argument of the function that made it, if a float holds it."""
    exact = [fn.as_expr(as_number(a)) for a in alpha]
    if any(fn.as_expr(float(a)) != a for a in exact):
        return made
    return replace(made, arguments=tuple(("alpha", float(a)) for a in exact))


def atan(alpha: float = 2.0) -> Surrogate:
    """Return g = atan(pi*alpha*z/2)/pi, slope (alpha/2) / (1 + (pi*alpha*z/2)**2) (SJ, ST)."""
    a = _positive(alpha, "atan")
    return _named(
        from_primitive(lambda z: sympy.atan(sympy.pi * a * z / 2) / sympy.pi, "atan"), alpha
    )


DEFAULT = atan
"""Surrogate of a spike for which a neuron names none: atan(alpha=2)."""


def sigmoid(alpha: float = 4.0) -> Surrogate:
    """Return g = sigmoid(alpha*z), slope alpha*g*(1 - g) (SJ)."""
    a = _positive(alpha, "sigmoid")
    return _named(from_primitive(lambda z: fn.sigmoid(a * z), "sigmoid"), alpha)


def rectangle(alpha: float = 1.0) -> Surrogate:
    """Return g = clip(alpha*z + 1/2, 0, 1), slope alpha where |z| < 1/(2*alpha) (SJ Rect)."""
    a = _positive(alpha, "rectangle")
    made = from_slope(lambda z: fn.select(fn.abs(z), "<", 1 / (2 * a), a, 0), "rectangle")
    primitive = fn.clip(a * Z + _HALF, 0, 1)
    return _named(replace(made, primitive=primitive), alpha)


def triangle(alpha: float = 1.0) -> Surrogate:
    """Return the slope max(0, alpha - alpha**2 * |z|) (SJ PiecewiseQuadratic)."""
    a = _positive(alpha, "triangle")
    return _named(from_slope(lambda z: fn.max(0, a - a**2 * fn.abs(z)), "triangle"), alpha)


def fast_sigmoid(alpha: float = 25.0) -> Surrogate:
    """Return the slope 1 / (1 + alpha*|z|)**2 (ST fast_sigmoid)."""
    a = _positive(alpha, "fast_sigmoid")
    return _named(from_slope(lambda z: 1 / (1 + a * fn.abs(z)) ** 2, "fast_sigmoid"), alpha)


def soft_sign(alpha: float = 2.0) -> Surrogate:
    """Return the slope alpha / (2 * (1 + alpha*|z|)**2) (SJ SoftSign)."""
    a = _positive(alpha, "soft_sign")
    return _named(from_slope(lambda z: a / (2 * (1 + a * fn.abs(z)) ** 2), "soft_sign"), alpha)


def erf(alpha: float = 2.0) -> Surrogate:
    """Return g = (1 + erf(alpha*z))/2, slope alpha/sqrt(pi) * exp(-(alpha*z)**2) (SJ Erf)."""
    a = _positive(alpha, "erf")
    return _named(from_primitive(lambda z: (1 + sympy.erf(a * z)) / 2, "erf"), alpha)


def piecewise_exponential(alpha: float = 1.0) -> Surrogate:
    """Return the slope (alpha/2) * exp(-alpha*|z|) (SJ PiecewiseExp)."""
    a = _positive(alpha, "piecewise_exponential")
    return _named(
        from_slope(lambda z: a / 2 * sympy.exp(-a * fn.abs(z)), "piecewise_exponential"), alpha
    )


def multi_gaussian(alpha: float = 1.0) -> Surrogate:
    """Return the slope of the published code of ALIF networks, negative far from the threshold.

    slope = 0.5 * (1.15*N(z; 0, s) - 0.15*N(z; s, 6*s) - 0.15*N(z; -s, 6*s)), s = 1/(2*alpha)

    N(z; m, s) is the normal density of mean m and deviation s.
    """
    a = _positive(alpha, "multi_gaussian")

    def slope(z: Any) -> Any:
        near = sympy.exp(-2 * (a * z) ** 2)
        far = sum(sympy.exp(-((a * z + m) ** 2) / 18) for m in (-_HALF, _HALF))
        return a / sympy.sqrt(2 * sympy.pi) * (46 * near - far) / 40

    return _named(from_slope(slope, "multi_gaussian"), alpha)


def straight_through() -> Surrogate:
    """Return g = z, slope 1 (ST straight_through_estimator)."""
    return _named(from_primitive(lambda z: z, "straight_through"))


SURROGATES: dict[str, Callable[..., Surrogate]] = {
    f.__name__: f
    for f in (
        atan, sigmoid, rectangle, triangle, fast_sigmoid, soft_sign, erf,
        piecewise_exponential, multi_gaussian, straight_through,
    )
}  # fmt: skip
"""Surrogates by the name that text definitions and the command line take."""


def surrogate_named(where: str, name: Any, arguments: Mapping[str, Any]) -> Surrogate:
    """Return a surrogate of `SURROGATES`.

    Raises:
        ModelError: An unknown name or argument, or a value that is not accepted.
    """
    make = SURROGATES[require_known(where, "surrogate", name, SURROGATES)]
    require_arguments(where, signature(make), (), arguments)
    require_numbers(where, **arguments)
    return make(**arguments)
