"""Bounds of expressions and of their text: sizes, and the time that SymPy may spend."""

from __future__ import annotations

import ast
import math
import string
import sys
import warnings
from collections.abc import Callable, Iterable
from fractions import Fraction
from typing import Any, NamedTuple, NoReturn

import sympy
from sympy.core.relational import Relational
from sympy.logic.boolalg import Boolean

from lnm_codegen.errors import ModelError
from lnm_codegen.ir.declarations import Param
from lnm_codegen.language import functions as fn
from lnm_codegen.language.functions import CALLS, Where, as_decimal, as_expr, stop_gradient
from lnm_codegen.language.misuse import instead_of
from lnm_codegen.validation import shown

# Bounds of expressions: functions of the language, finite numbers, sizes lowered in seconds.


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
    exponent = as_decimal(node.exp) if node.is_Pow else sympy.nan
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


# Bounds on text: its characters, and the time that SymPy may spend on an expression.
#
# SymPy computes 9**9**9, and searches minutes for the sign of sin(tanh(v**0.123)). A text of
# unknown origin must not cause either. `expression.py` reads the text and calls this module at
# every node.


MAX_LENGTH = 4000
"""Largest number of characters of a text."""
MAX_NODES = 2000
"""Largest number of nodes of the SymPy tree of a text: abs, clip and poly repeat their argument."""
MAX_DEGREE = 12
"""Largest degree of the roots in a constant; SymPy may need its minimal polynomial for the sign."""
_MAX_FACTOR = 10_000
"""Largest number in an exponent that varies, and largest constant argument of exp."""
_MAX_DENOMINATOR = 1000
_MAX_BITS = 2048
_CHARACTERS = frozenset(string.ascii_letters + string.digits + "_ +-*/()[],.<>=!&|~^%@:")


class ExpressionText:
    """An expression in text, on one line, and the errors of its parts; `where` begins each."""

    def __init__(self, text: str, where: str) -> None:
        self.text, self.where = " ".join(text.split()), where

    def tree(self, grammar: str) -> ast.expr:
        """Return Python's syntax tree; `grammar` is what messages accept."""
        if not self.text:
            self.refuse("the expression is empty", grammar)
        if len(self.text) > MAX_LENGTH:
            self.refuse(f"the expression has {len(self.text)} characters", f"at most {MAX_LENGTH}")
        for character in self.text:
            if character not in _CHARACTERS:
                problem = (
                    f"the character {character!r} in {quoted(self.text)} is not of the grammar"
                )
                self.refuse(problem, grammar)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # "1or v": a SyntaxError of later Pythons
                return ast.parse(self.text, mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            self.refuse(f"{quoted(self.text)} is not an expression", grammar)

    def refuse(
        self, problem: str, accepted: str | Iterable[str] = "", remedy: str = ""
    ) -> NoReturn:
        """Raise ModelError at the place of the text."""
        raise ModelError(self.where, problem, accepted, remedy) from None

    def show(self, node: ast.expr) -> str:
        """Return the text of a node, quoted, for a message."""
        return quoted(ast.get_source_segment(self.text, node) or self.text)


def quoted(text: str) -> str:
    """Return `text` in quotes, escaped and cut off after 60 characters."""
    return repr(text if len(text) <= 60 else f"{text[:57]}...")


class ExpressionCost:
    """Bounds of one expression in text."""

    def __init__(self, text: ExpressionText) -> None:
        self._refuse, self._show = text.refuse, text.show
        self._weights: dict[sympy.Basic, int] = {}

    def require_argument(self, argument: sympy.Expr, node: ast.expr) -> None:
        """Refuse a constant argument of exp that is too large, 9**9.

        SymPy computes no power from a varying one, `exp(v + 1e9*log(2))`: the function `exp` of the
        language is neither evaluated nor merged with other powers.
        """
        self._require_constant(argument, _MAX_FACTOR, node)

    def require_exponent(self, base: sympy.Expr, exponent: sympy.Expr, node: ast.expr) -> None:
        """Refuse a power that SymPy would compute for minutes: 9**9**9, 2**(v + 1e300)."""
        limit = _MAX_FACTOR if base == sympy.E else MAX_EXPONENT
        self._require_constant(exponent, limit, node)
        numbers = exponent.atoms(sympy.Rational)
        if any(abs(n) > _MAX_FACTOR for n in numbers):
            self._refuse(
                f"the exponent in {self._show(node)} holds a number that is too large",
                f"-{_MAX_FACTOR} to {_MAX_FACTOR}, or exp(b*log(a)) for a**b",
            )
        if base != sympy.E and any(n.q > _MAX_DENOMINATOR for n in numbers):
            self._refuse(
                f"the exponent in {self._show(node)} has too many digits",
                f"three decimals, a fraction over at most {_MAX_DENOMINATOR}, or exp(b*log(a)) for"
                " a**b",
            )
        is_root = base.is_number and base != sympy.E and exponent.is_Rational
        if is_root and exponent.q > MAX_DEGREE:
            self._refuse_roots(node)

    def _require_constant(self, exponent: sympy.Expr, limit: int, node: ast.expr) -> None:
        if exponent.is_number and abs(exponent.evalf(15)) > limit:
            self._refuse(f"the exponent in {self._show(node)} is too large", f"-{limit} to {limit}")

    def weigh(self, value: sympy.Basic, node: ast.expr) -> int:
        """Return the number of nodes of `value`; refuse a value that is too large or not real."""
        known = self._weights.get(value)
        if known is not None:
            return known
        weight = 1 + sum(self.weigh(a, node) for a in value.args)
        if weight > MAX_NODES:
            self._refuse(
                f"{self._show(node)} has more than {MAX_NODES} terms; abs, min, max, clip and poly"
                " repeat theirs",
                remedy="Split the expression.",
            )
        if isinstance(value, fn.exp):
            self.require_argument(value.exp, node)
        elif isinstance(value, sympy.exp | sympy.Pow):
            self.require_exponent(value.base, value.exp, node)
        if isinstance(value, sympy.Expr) and value.is_number:
            if _degree(value) > MAX_DEGREE:
                self._refuse_roots(node)
            if not _fits(value):
                self._refuse(
                    f"{self._show(node)} holds a constant that is not a real number of a float64",
                    "0, and sizes from 2.3e-308 to 1.7e308",
                )
        self._weights[value] = weight
        return weight

    def _refuse_roots(self, node: ast.expr) -> NoReturn:
        self._refuse(
            f"{self._show(node)} holds a constant with roots of too high a degree",
            remedy="Write its decimal value.",
        )


def exact_decimal(value: float, written: str) -> Fraction | None:
    """Return the number as it is written, or None where a float64 overflows or underflows.

    The float bounds the exponent first: Fraction("1e999999999") would not return.
    """
    digits = written.lower().partition("e")[0]
    zero = not any(d in "123456789" for d in digits)
    if zero:
        return Fraction(0)
    if not sys.float_info.min <= value <= sys.float_info.max:
        return None
    return Fraction(written.replace("_", ""))


def applied(word: str, function: Callable[..., Any], *args: Any) -> Any:
    """Call a function of the language without a search by SymPy, which may take minutes.

    SymPy searches the sign of every comparison: abs(tanh(exp(0.123*v))) becomes a polynomial of
    degree 123. Functions such as exp and tanh prevent this themselves.
    """
    if word in ("abs", "min", "max", "clip") and not all(map(_is_plain, args)):
        with sympy.evaluate(False):
            return function(*args)
    return function(*args)


def _is_plain(value: sympy.Expr) -> bool:
    return bool(value.is_Rational or not (value.is_number or value.has(sympy.Function)))


def _degree(constant: sympy.Expr) -> int:
    """Return a bound on the degree of the roots in a constant: 6 for sqrt(2) + 3**(1/3)."""
    roots = [p.exp for p in constant.atoms(sympy.Pow) if p.exp.is_Rational and p.base != sympy.E]
    return math.prod(int(r.q) for r in roots)


def _fits(value: sympy.Expr) -> bool:
    """Report whether a constant is a real number whose size a float64 holds."""
    if isinstance(value, sympy.Rational):
        if max(int(value.p).bit_length(), int(value.q).bit_length()) > _MAX_BITS:
            return False
        size = abs(Fraction(int(value.p), int(value.q)))
    else:
        number = value.evalf(15)
        if not isinstance(number, sympy.Float):
            return False
        size = abs(number)
    return bool(size == 0 or sys.float_info.min <= size <= sys.float_info.max)
