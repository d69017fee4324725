"""Functions of the expressions of a neuron, as SymPy nodes.

SymPy's own `Max`, `Abs` and `Piecewise` reorder and simplify their arguments. `max`, `min`, `abs`
and `clip` below keep them and are defined by `where`, also at NaN and at ties:

    max(a, b)        = where(a >= b, a, b)
    min(a, b)        = where(a <= b, a, b)
    abs(a)           = where(a >= 0, a, -a)
    clip(a, lo, hi)  = where(a < lo, lo, where(a > hi, hi, a))

The gradient goes to the selected branch; a comparison has none. `where(spike, a, b)` selects in
value and has the derivative of `spike*a + (1 - spike)*b`. `stop_gradient(a)` has the value of `a`
and the derivative zero.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import sympy
from sympy.core.relational import Relational
from sympy.logic.boolalg import BooleanAtom

from lnm_codegen.errors import ModelError
from lnm_codegen.language.misuse import EQUALITY, OPERANDS, no_array, operand
from lnm_codegen.language.symbols import Expression, Vector, is_spike, plain
from lnm_codegen.language.symbols import ExprLike as ExprLike
from lnm_codegen.validation import shown, wrong


def as_expr(value: Any, where: str = "expression") -> sympy.Expr:
    """Return `value` as a SymPy expression; a float becomes its decimal, 0.1 the rational 1/10.

    Raises:
        ModelError: `value` is neither a finite number nor a SymPy expression. An array is neither.
    """
    value = operand(value, where)
    if isinstance(value, sympy.Expr):
        return value
    if hasattr(value, "__index__"):
        return sympy.Integer(int(value))
    if not isinstance(value, Fraction) and hasattr(value, "__float__"):
        if not math.isfinite(value):
            raise ModelError(where, f"{float(value)!r} is not finite", "finite numbers")
        value = Fraction(repr(float(value)))
    if isinstance(value, Fraction):
        return sympy.Rational(value.numerator, value.denominator)
    raise ModelError(where, f"{shown(value)} is a {type(value).__name__}", OPERANDS)


def as_decimal(number: Any) -> Any:
    """Return a finite Float of SymPy as the decimal that is written, 0.1 as 1/10; else `number`."""
    is_decimal = isinstance(number, sympy.Float) and math.isfinite(float(number))
    return sympy.Rational(repr(float(number))) if is_decimal else number


class Where(sympy.Expr):
    """`then` where `cond` holds, else `orelse`. `cond` is a comparison or one spike."""

    is_commutative = True

    def __new__(cls, cond: Any, then: Any, orelse: Any) -> sympy.Expr:
        """Build the node, or return the branch that a constant condition selects."""
        if isinstance(cond, bool | BooleanAtom):
            return then if cond else orelse
        return super().__new__(cls, cond, then, orelse)

    @property
    def operands(self) -> tuple[Any, sympy.Expr, sympy.Expr]:
        """The condition and the two branches."""
        cond, then, orelse = self.args
        return cond, then, orelse

    def _eval_derivative(self, symbol: sympy.Symbol) -> sympy.Expr:
        cond, then, orelse = self.operands
        return Where(cond, then.diff(symbol), orelse.diff(symbol))

    def _sympystr(self, printer: Any) -> str:
        name, args = spelled(*self.operands) or ("where", self.args)
        return f"{name}({', '.join(printer._print(a) for a in args)})"

    def _latex(self, printer: Any) -> str:
        found = spelled(*self.operands)
        if found is not None:
            name, args = found
            text = ", ".join(printer._print(a) for a in args)
            if name == "abs":
                return rf"\left|{text}\right|"
            word = r"\operatorname{clip}" if name == "clip" else f"\\{name}"
            return rf"{word}\left({text}\right)"
        cond, then, orelse = (printer._print(a) for a in self.args)
        return rf"\begin{{cases}} {then} & {cond} \\ {orelse} & \text{{otherwise}} \end{{cases}}"


class _Opaque:
    """A function whose argument SymPy does not analyse, unless it is a number.

    SymPy's analysis of ten nested tanh of sums took a minute; for sin(tanh(v**0.123)) it searches
    multiples of pi in a polynomial of degree 123.
    """

    def __new__(cls, a: ExprLike, **options: Any) -> sympy.Expr:
        """Build the node; refuse text, which SymPy would evaluate."""
        return super().__new__(cls, as_expr(a, cls.__name__), **options)  # type: ignore[call-arg]

    @classmethod
    def eval(cls, a: sympy.Expr) -> Any:
        """Return a known value such as tanh(0) or sin(pi/6), or None."""
        simple = a.is_Rational or (a.is_number and (a / sympy.pi).is_Rational)
        return super().eval(a) if simple else None  # type: ignore[misc]


class exp(_Opaque, sympy.exp):
    """The exponential function, which SymPy does not merge with other powers of e."""

    def as_base_exp(self) -> tuple[sympy.Expr, sympy.Expr]:
        """Return this node to the power 1."""
        return self, sympy.S.One

    def _eval_power(self, other: sympy.Expr) -> None:
        return None


class log(_Opaque, sympy.log):
    """The natural logarithm."""


class tanh(_Opaque, sympy.tanh):
    """The hyperbolic tangent."""


class sin(_Opaque, sympy.sin):
    """The sine."""


class cos(_Opaque, sympy.cos):
    """The cosine."""


class sigmoid(_Opaque, sympy.Function):
    """The logistic function 1 / (1 + exp(-a))."""

    nargs = 1

    def fdiff(self, argindex: int = 1) -> sympy.Expr:
        """Return the derivative, sigmoid(a) * (1 - sigmoid(a))."""
        return self * (1 - self)


class stop_gradient(_Opaque, sympy.Function):
    """The value of `a`, with derivative zero: v*stop_gradient(v) is v**2 with derivative v."""

    nargs = 1

    @classmethod
    def eval(cls, a: sympy.Expr) -> Any:
        """Return a number, or an expression that has no derivative already, unchanged."""
        return a if a.is_number or isinstance(a, stop_gradient) else None

    def fdiff(self, argindex: int = 1) -> sympy.Expr:
        """Return the derivative, 0."""
        return sympy.S.Zero

    def _latex(self, printer: Any) -> str:
        return rf"\operatorname{{sg}}\left({printer._print(self.args[0])}\right)"


def sqrt(a: ExprLike) -> Expression:
    """Return the square root of a."""
    root: Expression = sympy.sqrt(as_expr(a, "sqrt"))
    return root


def where(cond: Any, then: ExprLike, orelse: ExprLike) -> Expression:
    """Return `then` where `cond` holds, `orelse` elsewhere, also where `cond` compares a NaN.

    Write `sympy.Eq(v, 0)` for `v == 0`: SymPy evaluates `2*v == 0` to False at once. It turns
    `~(v > 0)` into `v <= 0`, so that a NaN selects the other branch there.

    Args:
        cond: A comparison, several joined by `&`, `|`, `~`, or one spike.
        then: Value where it holds.
        orelse: Value elsewhere.

    Raises:
        ModelError: `cond` is not a condition.
    """
    accepted = "a comparison such as v > 0, or a spike"
    if isinstance(cond, bool | np.bool_):
        remedy = f"{EQUALITY}. For a flag write a if flag else b."
        raise ModelError("where", f"the condition is {cond}, a bool of Python", accepted, remedy)
    if not (_is_condition(cond) or is_spike(cond)):
        raise ModelError("where", f"{shown(cond)} is not a condition", accepted)
    node: Expression = Where(plain(cond), as_expr(then, "where"), as_expr(orelse, "where"))
    return node


def _is_condition(cond: Any) -> bool:
    if isinstance(cond, sympy.And | sympy.Or | sympy.Not):
        return all(_is_condition(a) for a in cond.args)
    return isinstance(cond, bool | BooleanAtom | Relational)


def compared(relation: Any, a: sympy.Expr, b: sympy.Expr) -> Any:
    """Return a comparison, which SymPy decides for numbers only; a search may take it minutes."""
    return relation(a, b, evaluate=bool(a.is_Number and b.is_Number))


_RELATIONS = {"<": sympy.Lt, "<=": sympy.Le, ">": sympy.Gt, ">=": sympy.Ge}


def select(a: ExprLike, sign: str, b: ExprLike, then: ExprLike, orelse: ExprLike) -> Expression:
    """Return where(a < b, then, orelse), for one of the signs < <= > >=."""
    return where(compared(_RELATIONS[sign], as_expr(a), as_expr(b)), then, orelse)


def max(a: ExprLike, b: ExprLike) -> Expression:
    """Return where(a >= b, a, b)."""
    a, b = as_expr(a, "max"), as_expr(b, "max")
    return where(compared(sympy.Ge, a, b), a, b)


def min(a: ExprLike, b: ExprLike) -> Expression:
    """Return where(a <= b, a, b)."""
    a, b = as_expr(a, "min"), as_expr(b, "min")
    return where(compared(sympy.Le, a, b), a, b)


def abs(a: ExprLike) -> Expression:
    """Return where(a >= 0, a, -a)."""
    a = as_expr(a, "abs")
    return where(compared(sympy.Ge, a, sympy.S.Zero), a, -a)


def clip(a: ExprLike, low: ExprLike, high: ExprLike) -> Expression:
    """Return where(a < low, low, where(a > high, high, a)); a NaN stays a NaN."""
    a, low, high = as_expr(a, "clip"), as_expr(low, "clip"), as_expr(high, "clip")
    above = where(compared(sympy.Gt, a, high), high, a)
    return where(compared(sympy.Lt, a, low), low, above)


def poly(z: ExprLike, theta: Sequence[ExprLike] | Vector) -> Expression:
    """Return the polynomial theta[0] + theta[1]*z + ... + theta[d]*z**d.

    Raises:
        ModelError: `theta` is empty, or an array or a tensor.
    """
    z = as_expr(z, "poly")
    if not isinstance(no_array(theta, "poly"), Iterable):
        accepted = "a vector parameter, or a list of coefficients, [a, b, c]"
        raise wrong("poly", "theta", theta, accepted)
    terms = [as_expr(c, "poly") * z**k for k, c in enumerate(theta)]
    if not terms:
        raise ModelError("poly", "theta is empty", remedy="Give at least one coefficient.")
    total: Expression = sympy.Add(*terms)
    return total


CALLS: dict[Any, str] = {
    f: f.__name__ for f in (sympy.exp, sympy.log, sympy.tanh, sympy.sin, sympy.cos, sigmoid)
}
"""SymPy function -> its name in the IR, in text definitions and in every backend."""


def replaced(expr: Any, table: Mapping[Any, Any]) -> Any:
    """Return `expr` with symbols replaced and nothing else changed.

    SymPy's `xreplace` would decide comparisons again, which may take minutes.
    """
    rebuilt = _with_arguments(expr, [replaced(a, table) for a in expr.args])
    return table.get(expr, expr) if rebuilt is expr else rebuilt


def attached(expr: Any) -> Any:
    """Return `expr` with each stop_gradient(a) replaced by a, for uses of its value alone."""
    args = [attached(a) for a in expr.args]
    return args[0] if isinstance(expr, stop_gradient) else _with_arguments(expr, args)


def _with_arguments(expr: Any, args: list[Any]) -> Any:
    """Return `expr` with these arguments, unevaluated; `expr` itself if they are its own."""
    if all(new is old for new, old in zip(args, expr.args, strict=True)):
        return expr
    return expr.func(*args) if isinstance(expr, Where) else expr.func(*args, evaluate=False)


# Names of functions that are defined by `where`: `clip`, `max`, `min` and `abs`, for printing.


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
