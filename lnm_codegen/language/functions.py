"""Functions for the expressions of a neuron, as SymPy nodes.

SymPy's own `Max`, `Abs` and `Piecewise` reorder and simplify their arguments; a neuron's
`where`, `max`, `min`, `abs` and `clip` keep them, and mean at NaN and at ties:

    max(a, b)        = where(a >= b, a, b)
    min(a, b)        = where(a <= b, a, b)
    abs(a)           = where(a >= 0, a, -a)
    clip(a, lo, hi)  = where(a < lo, lo, where(a > hi, hi, a))

A gradient goes to the branch taken, and none to a comparison. `where(spike, a, b)` selects
in value and has the derivative of `spike*a + (1 - spike)*b`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any, TypeAlias

import sympy
from sympy.core.relational import Relational
from sympy.logic.boolalg import Boolean, BooleanAtom

from lnm_codegen.errors import ModelError
from lnm_codegen.validation import did_you_mean

if TYPE_CHECKING:
    from lnm_codegen.language.symbols import Vector

ExprLike: TypeAlias = "sympy.Expr | int | float | Fraction"


def as_expr(value: Any, where: str = "expression") -> sympy.Expr:
    """Return `value` as a SymPy expression; a float becomes the decimal its author wrote.

    Raises:
        ModelError: `value` is neither a finite number nor a SymPy expression.
    """
    if isinstance(value, sympy.Expr):
        return value
    if isinstance(value, bool | BooleanAtom) or isinstance(value, Boolean):
        raise ModelError(
            where, f"{value} is a condition, not a number", remedy="Use lnm.where(condition, a, b)."
        )
    if hasattr(value, "__index__"):
        return sympy.Integer(int(value))
    if isinstance(value, Fraction):
        return sympy.Rational(value.numerator, value.denominator)
    if isinstance(value, float) or hasattr(value, "__float__"):
        return _decimal(float(value), where)
    raise ModelError(
        where,
        f"{value!r} is a {type(value).__name__}",
        "numbers and expressions of declared states, inputs, parameters and spikes",
    )


def _decimal(value: float, where: str) -> sympy.Expr:
    if not math.isfinite(value):
        raise ModelError(where, f"{value!r} is not finite", "finite numbers")
    fraction = Fraction(repr(value))
    return sympy.Rational(fraction.numerator, fraction.denominator)


class Where(sympy.Expr):
    """`then` where `cond` holds, else `orelse`. `cond` is a comparison or one spike."""

    is_commutative = True

    def __new__(cls, cond: Any, then: Any, orelse: Any) -> sympy.Expr:
        """Build the node, or return the branch that a constant condition chooses."""
        if cond in (True, False):
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
        return f"where({', '.join(printer._print(a) for a in self.args)})"

    def _latex(self, printer: Any) -> str:
        cond, then, orelse = (printer._print(a) for a in self.args)
        return rf"\begin{{cases}} {then} & {cond} \\ {orelse} & \text{{otherwise}} \end{{cases}}"


class _Kept:
    """A function that keeps its argument as it stands, but for a number that is looked up.

    SymPy takes an argument apart: a nest of ten tanh of sums took it a minute, and
    sin(tanh(v**0.123)) looks for multiples of pi in a polynomial of degree 123.
    """

    def __new__(cls, a: ExprLike, **options: Any) -> sympy.Expr:
        """Build the node; a text is refused, which SymPy would evaluate."""
        return super().__new__(cls, as_expr(a, cls.__name__), **options)  # type: ignore[call-arg]

    @classmethod
    def eval(cls, a: sympy.Expr) -> Any:
        """Return tanh(0), sin(pi/6) and their like, or None for what is kept."""
        simple = a.is_Rational or (a.is_number and (a / sympy.pi).is_Rational)
        return super().eval(a) if simple else None  # type: ignore[misc]


class exp(_Kept, sympy.exp):
    """e**a, which SymPy is kept from merging with other powers of e, so that it stays one node."""

    def as_base_exp(self) -> tuple[sympy.Expr, sympy.Expr]:
        """Return itself to the power 1."""
        return self, sympy.S.One

    def _eval_power(self, other: sympy.Expr) -> None:
        return None


class log(_Kept, sympy.log):
    """The natural logarithm."""


class tanh(_Kept, sympy.tanh):
    """The hyperbolic tangent."""


class sin(_Kept, sympy.sin):
    """The sine."""


class cos(_Kept, sympy.cos):
    """The cosine."""


class sigmoid(_Kept, sympy.Function):
    """The logistic function 1 / (1 + exp(-a))."""

    nargs = 1

    def fdiff(self, argindex: int = 1) -> sympy.Expr:
        """Return the derivative, sigmoid(a) * (1 - sigmoid(a))."""
        return self * (1 - self)


def sqrt(a: ExprLike) -> sympy.Expr:
    """Return the square root of a."""
    return sympy.sqrt(as_expr(a, "sqrt"))


def where(cond: Any, then: ExprLike, orelse: ExprLike) -> sympy.Expr:
    """Select `then` where `cond` holds, `orelse` elsewhere (also where `cond` meets a NaN).

    Args:
        cond: A comparison, several joined by `&`, `|`, `~`, or one spike.
        then: Value where it holds.
        orelse: Value elsewhere.

    Raises:
        ModelError: `cond` is not a condition.

    SymPy evaluates `v == 0` to False at once (write `sympy.Eq(v, 0)`) and turns `~(v > 0)` into
    `v <= 0`, so that a NaN takes the other branch there.
    """
    if isinstance(cond, bool):
        raise ModelError(
            "where",
            f"the condition is the Python value {cond}",
            remedy="SymPy decides == and != at once; write sympy.Eq(a, b) or sympy.Ne(a, b).",
        )
    from lnm_codegen.language.symbols import is_spike

    if not (_is_condition(cond) or is_spike(cond)):
        raise ModelError(
            "where", f"{cond!r} is not a condition", "a comparison such as v > 0, or a spike"
        )
    return Where(cond, as_expr(then, "where"), as_expr(orelse, "where"))


def _is_condition(cond: Any) -> bool:
    if isinstance(cond, sympy.And | sympy.Or | sympy.Not):
        return all(_is_condition(a) for a in cond.args)
    return isinstance(cond, bool | BooleanAtom | Relational)


def _compared(relation: Any, a: sympy.Expr, b: sympy.Expr) -> Any:
    """Return a comparison that SymPy does not try to decide, which may take it minutes."""
    return relation(a, b, evaluate=bool(a.is_Number and b.is_Number))


def max(a: ExprLike, b: ExprLike) -> sympy.Expr:
    """Return where(a >= b, a, b)."""
    a, b = as_expr(a, "max"), as_expr(b, "max")
    return where(_compared(sympy.Ge, a, b), a, b)


def min(a: ExprLike, b: ExprLike) -> sympy.Expr:
    """Return where(a <= b, a, b)."""
    a, b = as_expr(a, "min"), as_expr(b, "min")
    return where(_compared(sympy.Le, a, b), a, b)


def abs(a: ExprLike) -> sympy.Expr:
    """Return where(a >= 0, a, -a)."""
    a = as_expr(a, "abs")
    return where(_compared(sympy.Ge, a, sympy.S.Zero), a, -a)


def clip(a: ExprLike, low: ExprLike, high: ExprLike) -> sympy.Expr:
    """Return where(a < low, low, where(a > high, high, a)); a NaN stays a NaN."""
    a, low, high = as_expr(a, "clip"), as_expr(low, "clip"), as_expr(high, "clip")
    above = where(_compared(sympy.Gt, a, high), high, a)
    return where(_compared(sympy.Lt, a, low), low, above)


def poly(z: ExprLike, theta: Sequence[ExprLike] | Vector) -> sympy.Expr:
    """Return the polynomial theta[0] + theta[1]*z + ... + theta[d]*z**d."""
    z = as_expr(z, "poly")
    if not isinstance(theta, Iterable):
        raise ModelError(
            "poly",
            f"theta is {theta!r}",
            "a vector parameter, or a list of coefficients, [a, b, c]",
        )
    terms = [as_expr(c, "poly") * z**k for k, c in enumerate(theta)]
    if not terms:
        raise ModelError("poly", "theta is empty", remedy="Give at least one coefficient.")
    return sympy.Add(*terms)


CALLS: dict[Any, str] = {
    sympy.exp: "exp",
    sympy.log: "log",
    sympy.tanh: "tanh",
    sympy.sin: "sin",
    sympy.cos: "cos",
    sigmoid: "sigmoid",
}
"""SymPy function -> the name that the IR, the text form and every backend give it."""

_ALGEBRA = (sympy.Add, sympy.Mul, sympy.Pow, sympy.Symbol, sympy.Number, sympy.NumberSymbol, Where)
_LOGIC = (Relational, sympy.And, sympy.Or, sympy.Not)
_NOT_FINITE = (sympy.nan, sympy.oo, -sympy.oo, sympy.zoo)


def replaced(expr: Any, table: Mapping[Any, Any]) -> Any:
    """Return `expr` with symbols replaced and everything else as it stands.

    `xreplace` would let SymPy decide comparisons anew, which may take it minutes.
    """
    args = [replaced(a, table) for a in expr.args]
    if all(new is old for new, old in zip(args, expr.args, strict=True)):
        return table.get(expr, expr)
    return expr.func(*args) if isinstance(expr, Where) else expr.func(*args, evaluate=False)


def check_functions(expr: sympy.Basic, where: str) -> None:
    """Raise ModelError if `expr` holds a function that no backend knows, or a NaN or infinity."""
    nodes, seen = sympy.preorder_traversal(expr), set()
    for node in nodes:
        if node in seen:
            nodes.skip()
            continue
        seen.add(node)
        if node in _NOT_FINITE:
            inside = "" if node == expr else f" in {expr}"
            raise ModelError(where, f"{node}{inside} is not finite", "finite numbers")
        if isinstance(node, (*_ALGEBRA, *_LOGIC, *CALLS)):
            continue
        if isinstance(node, sympy.Expr | Boolean):
            name = type(node).__name__
            raise ModelError(
                where,
                f"{name!r} in {node} is not a function of the language",
                (
                    f"{', '.join(sorted({*CALLS.values(), 'sqrt', 'where', 'max', 'min', 'abs'}))}, "
                    "clip, poly and + - * / **"
                ),
                did_you_mean(name.lower(), CALLS.values()),
            )
