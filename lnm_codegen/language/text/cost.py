"""What an expression may cost: bounds, and the calls that keep SymPy from a long search.

`check_size` bounds every expression of a neuron. The rest bounds text: SymPy computes 9**9**9, and
thinks for minutes about the sign of sin(tanh(v**0.123)); a text from somewhere else must not make
it. `expression.py` reads the text and asks here at every node.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from fractions import Fraction
from typing import Any, NamedTuple, NoReturn, TypeAlias

import sympy

from lnm_codegen.errors import ModelError
from lnm_codegen.ir.declarations import Param

MAX_LEVELS = 100
"""Of the SymPy tree of any expression; text has a bound of its own, in brackets."""
MAX_TREE = 20_000
"""Nodes of the SymPy tree of any expression."""
MAX_NODES = 2000
"""Nodes of the SymPy tree of a text: abs, clip and poly repeat their argument."""
MAX_EXPONENT = 64
"""Of a constant exponent, and of the degree of a polynomial; an exponent that varies with a state
or a parameter may hold `_MAX_FACTOR`."""
MAX_DEGREE = 12
"""Of the roots in a constant: SymPy may look for the minimal polynomial to find its sign."""
_MAX_FACTOR = 10_000
_MAX_DENOMINATOR = 1000
_MAX_BITS = 2048

Shown: TypeAlias = Callable[[], str]
"""The text of what is looked at, for a message."""


def check_size(expr: sympy.Basic, where: str) -> None:
    """Raise ModelError unless `expr` is lowered in a moment: a few seconds at these bounds."""
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
    """Nodes of a tree, its levels, and its degree in parameters and in everything else."""

    nodes: int
    depth: int
    params: int
    others: int


def _size(node: Any, parts: list[_Size], where: str) -> _Size:
    nodes = 1 + sum(p.nodes for p in parts)
    depth = 1 + max((p.depth for p in parts), default=0)
    if depth > MAX_LEVELS:
        raise ModelError(
            where,
            f"the expression is nested more than {MAX_LEVELS} deep",
            f"at most {MAX_LEVELS}, sums and products counted",
            "Write it flatter.",
        )
    if nodes > MAX_TREE:
        raise ModelError(
            where,
            (
                f"the expression has more than {MAX_TREE} terms, what is repeated counted each "
                "time (abs, min, max and clip repeat theirs)"
            ),
            f"at most {MAX_TREE}",
            "Split it up.",
        )
    size = _Size(nodes, depth, *_degrees(node, parts, where))
    if max(size.params, size.others) > MAX_EXPONENT:
        raise ModelError(
            where,
            f"a polynomial has degree {max(size.params, size.others)}",
            f"at most {MAX_EXPONENT}",
            "Lower its powers.",
        )
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
    if node.is_Pow and node.exp.is_Rational and node.base.free_symbols:
        if abs(node.exp) > MAX_EXPONENT:
            shown = str(node) if parts[0].nodes < 10 else f"a power of {node.exp}"
            raise ModelError(
                where, f"the exponent in {shown} is too large", f"-{MAX_EXPONENT} to {MAX_EXPONENT}"
            )
        if node.exp.is_Integer:
            factor = abs(int(node.exp))
            return params[0] * factor, others[0] * factor
    other = any(others)  # a function is one more variable
    return int(any(params) and not other), int(other)


class Cost:
    """Bounds one expression; `refuse` raises what a bound that is passed has to say."""

    def __init__(self, refuse: Callable[[str], NoReturn]) -> None:
        self._refuse = refuse
        self._weights: dict[sympy.Basic, int] = {}

    def check_exponent(self, base: sympy.Expr, exponent: sympy.Expr, shown: Shown) -> None:
        """Refuse what SymPy would take too long over: 9**9**9, but exp(1e300*log(2)) too."""
        limit = _MAX_FACTOR if base == sympy.E else MAX_EXPONENT
        if exponent.is_number and abs(exponent.evalf(15)) > limit:
            self._refuse(f"the exponent in {shown()} is too large. Accepted: -{limit} to {limit}.")
        numbers = exponent.atoms(sympy.Rational)
        if any(abs(n) > _MAX_FACTOR for n in numbers):
            self._refuse(
                f"the exponent in {shown()} holds a number that is too large. Accepted:"
                f" -{_MAX_FACTOR} to {_MAX_FACTOR}."
            )
        if base != sympy.E and any(n.q > _MAX_DENOMINATOR for n in numbers):
            self._refuse(
                f"the exponent in {shown()} has too many digits. Accepted: three decimals,"
                f" or a fraction over at most {_MAX_DENOMINATOR}; or exp(b*log(a)) for a**b."
            )
        if base.is_number and exponent.is_Rational and exponent.q > MAX_DEGREE:
            self._refuse(
                f"{shown()} holds a constant with roots of too high a degree. Write its"
                " decimal value."
            )

    def weigh(self, value: sympy.Basic, shown: Shown) -> int:
        """Return the number of nodes of `value`, and refuse what is too large or not real."""
        known = self._weights.get(value)
        if known is not None:
            return known
        weight = 1 + sum(self.weigh(a, shown) for a in value.args)
        if weight > MAX_NODES:
            self._refuse(
                f"{shown()} has more than {MAX_NODES} terms once abs, min, max, clip and"
                " poly are written out. Split it up."
            )
        if isinstance(value, sympy.exp):
            self.check_exponent(sympy.E, value.exp, shown)
        elif isinstance(value, sympy.Pow):
            self.check_exponent(value.base, value.exp, shown)
        if isinstance(value, sympy.Expr) and value.is_number and _degree(value) > MAX_DEGREE:
            self._refuse(
                f"{shown()} holds a constant with roots of too high a degree. Write its"
                " decimal value."
            )
        if isinstance(value, sympy.Expr) and value.is_number and not _fits(value):
            self._refuse(
                f"{shown()} holds a constant that is not a real number within the range of a"
                " float64. Accepted: 0, and sizes from 2.3e-308 to 1.7e308. Write another constant."
            )
        self._weights[value] = weight
        return weight


def exact_decimal(value: float, written: str) -> Fraction | None:
    """Return the number as it is written, or None where a float64 overflows or underflows.

    The exponent is looked at through the float first: Fraction("1e999999999") would hang.
    """
    digits = written.lower().partition("e")[0]
    zero = not any(d in "123456789" for d in digits)
    if zero:
        return Fraction(0)
    if not sys.float_info.min <= value <= sys.float_info.max:
        return None
    return Fraction(written.replace("_", ""))


def compared(relation: Any, a: sympy.Expr, b: sympy.Expr) -> Any:
    """Return a comparison, decided only among rationals: elsewhere SymPy may think for minutes."""
    decided = isinstance(a, sympy.Rational) and isinstance(b, sympy.Rational)
    return relation(a, b, evaluate=decided)


def applied(word: str, function: Callable[..., Any], *args: Any) -> Any:
    """Call a function of the language, keeping SymPy from a search that may take minutes.

    It asks for the sign of every comparison; abs(tanh(exp(0.123*v))) becomes a polynomial of degree
    123 and more. (exp, tanh and their kin do not let it search, wherever they are written.)
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
    """Say whether a constant is a real number whose size a float64 can hold."""
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
