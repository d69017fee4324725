"""Grammar of expressions in text: `parse("v + (x - v)/tau", names, where)`.

Python's `ast` parses the text; the reader accepts the nodes of a closed list:

    numbers       2  0.1  1e-3  0x10; 0.1 is the rational 1/10; pi
    names         the declared states, inputs, parameters and, in reset and output, spikes
    arithmetic    + - * / **, unary -
    elements      theta[2], counted from 0
    conditions    < <= > >= == !=, joined by & | ~ or by and or not; or one spike alone.
                  a < b < c means a < b and b < c, as in Python
    functions     exp log sqrt tanh sigmoid sin cos abs, min max of two, clip(a, low, high),
                  where(condition, a, b), poly(z, theta), poly(z, [a, b, c]), stop_gradient(a)

No text reaches `eval`, `exec` or `sympify`. `cost.py` bounds the time that a text may take: 9**9**9
is refused, not computed.
"""

from __future__ import annotations

import ast
import inspect
import operator
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import sympy
from sympy.logic.boolalg import Boolean

from lnm_codegen.language import functions as fn
from lnm_codegen.language.bounds import (
    MAX_EXPONENT,
    ExpressionCost,
    ExpressionText,
    applied,
    exact_decimal,
    quoted,
)
from lnm_codegen.language.misuse import FUNCTIONS as WORDS
from lnm_codegen.language.symbols import Declared, Vector, is_spike
from lnm_codegen.validation import did_you_mean

Names: TypeAlias = Mapping[str, "Declared | Vector | sympy.Expr"]
Functions: TypeAlias = Mapping[str, Callable[..., Any]]
Hidden: TypeAlias = Mapping[str, tuple[str, str]]

MAX_DEPTH = 30
"""Largest depth of an expression, in brackets."""
CONSTANTS: dict[str, Any] = {"pi": sympy.pi}
FUNCTIONS: dict[str, Callable[..., Any]] = {word: getattr(fn, word) for word in WORDS}
"""Functions of the language, by their name in `lnm`."""

_OF_CONDITIONS = ("where", "int")
_ARITY = {"min": 2, "max": 2, "clip": 3, "where": 3, "poly": 2}
_LOGIC = (ast.BitAnd, ast.BitOr)
_OPERATORS: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul,
    ast.Div: operator.truediv, ast.Pow: operator.pow,
}  # fmt: skip
_COMPARISONS: dict[type, type] = {
    ast.Lt: sympy.Lt, ast.LtE: sympy.Le, ast.Gt: sympy.Gt, ast.GtE: sympy.Ge,
    ast.Eq: sympy.Eq, ast.NotEq: sympy.Ne,
}  # fmt: skip


def parse(
    text: str,
    names: Names,
    where: str,
    hidden: Hidden | None = None,
    functions: Functions = FUNCTIONS,
    *,
    condition: bool = False,
    instead: str = "Use where(condition, a, b).",
) -> Any:
    """Return the expression that `text` writes.

    Args:
        text: One expression; line breaks count as spaces.
        names: Symbols and numbers that it may read.
        where: Place of the text, which begins every error: `my_lif.toml: charge.v`.
        hidden: Name -> problem and remedy, for a name that this expression may not read.
        functions: Functions that it may call.
        condition: Read a condition in place of a number.
        instead: Remedy for a condition in place of a number.

    Raises:
        ModelError: The text is not in the grammar, or exceeds a bound.
    """
    return _Reader(text, names, where, hidden or {}, functions, instead).read(condition)


class _Reader(ExpressionText):
    def __init__(
        self,
        text: str,
        names: Names,
        where: str,
        hidden: Hidden,
        functions: Functions,
        instead: str,
    ) -> None:
        super().__init__(text, where)
        self._names = names
        self._hidden, self._functions, self._instead = hidden, functions, instead
        self._grammar = (
            "numbers, declared names, theta[2], pi, + - * / **, comparisons joined by & | ~, and"
            f" {', '.join(functions)}"
        )
        self._cost = ExpressionCost(self)

    def read(self, condition: bool) -> Any:
        tree = self.tree(self._grammar)
        try:
            return self._condition(tree, 0) if condition else self._number(tree, 0)
        except RecursionError:
            problem = f"{quoted(self.text)} is nested too deeply"
            self.refuse(problem, remedy="Split the expression.")

    def _deeper(self, depth: int) -> int:
        if depth >= MAX_DEPTH:
            problem = f"{quoted(self.text)} is nested more than {MAX_DEPTH} deep"
            self.refuse(problem, remedy="Split the expression.")
        return depth + 1

    def _number(self, node: ast.expr, depth: int) -> sympy.Expr:
        """Return the value of a node that must be a number."""
        value = self._value(node, self._deeper(depth))
        if isinstance(value, Vector):
            name = value.decl.name
            elements = f"{name}[0] to {name}[{len(value) - 1}]"
            self.refuse(f"{name!r} is a vector", f"{elements}, or poly(z, {name})")
        if isinstance(value, Boolean) and not isinstance(value, Declared):
            problem = f"{self.show(node)} is a condition, not a number"
            self.refuse(problem, remedy=self._instead)
        self._cost.weigh(value, node)
        return value

    def _condition(self, node: ast.expr, depth: int, *, joined: bool = False) -> Any:
        """Return the value of a node that must be a condition; a joined one is not a spike."""
        value = self._value(node, self._deeper(depth))
        if isinstance(value, Boolean) and not isinstance(value, Declared):
            self._cost.weigh(value, node)
            return value
        if isinstance(value, Declared) and is_spike(value):
            if not joined:
                return value
            self.refuse(
                f"the spike {value.name!r} is joined to a condition",
                "comparisons, or one spike alone in where",
                "Write one where inside another.",
            )
        self.refuse(
            f"{self.show(node)} is not a condition",
            "a comparison such as v > 0, or a spike",
            "Put each comparison in parentheses: (a < b) & (c < d)." if joined else "",
        )

    def _value(self, node: ast.expr, depth: int) -> Any:
        match node:
            case ast.Constant(value=bool() | str() | bytes() | None | complex()):
                pass
            case ast.Constant(value=int() | float()):
                return self._literal(node)
            case ast.Name(id=word):
                return self._name(word)
            case ast.UnaryOp(op=ast.USub()):
                return -self._number(node.operand, depth)
            case ast.UnaryOp(op=ast.Invert() | ast.Not()):
                return sympy.Not(self._condition(node.operand, depth, joined=True))
            case ast.BinOp(op=ast.BitAnd() | ast.BitOr()):
                return self._chain(node, depth)
            case ast.BinOp(op=op) if type(op) in _OPERATORS:
                return self._chain(node, depth)
            case ast.BinOp(op=ast.BitXor()):
                self.refuse(f"the operator '^' in {self.show(node)}", remedy="Did you mean '**'?")
            case ast.BoolOp(op=op, values=values):
                join = sympy.And if isinstance(op, ast.And) else sympy.Or
                return join(*(self._condition(v, depth, joined=True) for v in values))
            case ast.Compare(ops=ops) if all(type(o) in _COMPARISONS for o in ops):
                return self._comparison(node, depth)
            case ast.Call(func=ast.Name(id=word)):
                return self._call(word, node, depth)
            case ast.Subscript():
                return self._element(node)
            case ast.IfExp():
                problem = f"{self.show(node)} is a conditional expression"
                self.refuse(problem, remedy="Use where(condition, a, b).")
        self.refuse(f"{self.show(node)} is not of the grammar", self._grammar)

    def _literal(self, node: ast.Constant) -> sympy.Expr:
        value: Any = node.value
        if isinstance(value, float):
            written = ast.get_source_segment(self.text, node) or repr(value)
            exact = exact_decimal(value, written)
            if exact is None:
                self.refuse(
                    f"the number {quoted(written)} is out of range",
                    "0, and magnitudes of 2.3e-308 to 1.7e308",
                )
            return sympy.Rational(exact.numerator, exact.denominator)
        return sympy.Integer(value)

    def _name(self, word: str) -> Any:
        if word in self._names:
            return self._names[word]
        if word in CONSTANTS:
            return CONSTANTS[word]
        if word in self._hidden:
            problem, remedy = self._hidden[word]
            self.refuse(problem, remedy=remedy)
        if word in self._functions:
            self.refuse(f"{word!r} is a function", remedy=f"Write {word}(...).")
        hint = did_you_mean(word, [*self._names, *CONSTANTS])
        self.refuse(f"unknown name {quoted(word)}", sorted(self._names), hint)

    def _chain(self, node: ast.BinOp, depth: int) -> Any:
        """Return the value of a + b + c, which Python nests to the left, at one depth."""
        logic = isinstance(node.op, _LOGIC)
        spine: list[ast.BinOp] = []
        first: ast.expr = node
        while isinstance(first, ast.BinOp) and (
            isinstance(first.op, _LOGIC) if logic else type(first.op) in _OPERATORS
        ):
            spine.append(first)
            first = first.left
        if logic:
            value = self._condition(first, depth, joined=True)
            for step in reversed(spine):
                join = sympy.And if isinstance(step.op, ast.BitAnd) else sympy.Or
                value = join(value, self._condition(step.right, depth, joined=True))
            return value
        value = self._number(first, depth)
        for step in reversed(spine):
            value = self._binary(step, value, self._number(step.right, depth))
            self._cost.weigh(value, step)
        return value

    def _binary(self, node: ast.BinOp, a: sympy.Expr, b: sympy.Expr) -> sympy.Expr:
        if isinstance(node.op, ast.Div) and b == 0:
            self.refuse(f"{self.show(node)} divides by zero")
        if isinstance(node.op, ast.Pow):
            self._cost.require_exponent(a, b, node)
            if a.is_number and not b.is_Integer and not a.is_positive:
                problem = f"{self.show(node)} is not a real number for every exponent"
                self.refuse(problem, "a base > 0, or an integer exponent")
        return _OPERATORS[type(node.op)](a, b)

    def _comparison(self, node: ast.Compare, depth: int) -> Any:
        sides = [self._number(n, depth) for n in (node.left, *node.comparators)]
        pairs = zip(node.ops, sides, sides[1:], strict=False)
        return sympy.And(*(fn.compared(_COMPARISONS[type(op)], a, b) for op, a, b in pairs))

    def _call(self, word: str, node: ast.Call, depth: int) -> Any:
        if word not in self._functions:
            hint = did_you_mean(word, self._functions)
            self.refuse(f"no function {quoted(word)}", self._functions, hint)
        function, arity = self._functions[word], _ARITY.get(word, 1)
        parameters = inspect.signature(function).parameters if arity > 1 else "a"
        accepted = f"{word}({', '.join(parameters)})"
        if node.keywords or any(isinstance(a, ast.Starred) for a in node.args):
            self.refuse(f"{self.show(node)} has arguments by name or by *", accepted)
        if len(node.args) != arity:
            self.refuse(f"{self.show(node)} has {len(node.args)} arguments", accepted)
        first = (self._condition if word in _OF_CONDITIONS else self._number)(node.args[0], depth)
        if word == "exp":
            self._cost.require_argument(first, node)
        if word == "poly":
            return fn.poly(first, self._coefficients(node.args[1], depth))
        rest = (self._number(a, depth) for a in node.args[1:])
        return applied(word, function, first, *rest)

    def _coefficients(self, node: ast.expr, depth: int) -> Any:
        if isinstance(node, ast.List) and 1 <= len(node.elts) <= MAX_EXPONENT + 1:
            return [self._number(e, depth) for e in node.elts]
        if isinstance(node, ast.Name) and isinstance(self._names.get(node.id), Vector):
            return self._names[node.id]
        self.refuse(
            f"{self.show(node)} in poly is not a sequence of coefficients",
            f"a vector parameter, or a list [a, b, c] of at most {MAX_EXPONENT + 1}",
        )

    def _element(self, node: ast.Subscript) -> Any:
        vector = self._name(node.value.id) if isinstance(node.value, ast.Name) else None
        if not isinstance(vector, Vector):
            self.refuse(f"{self.show(node)} is not an element", "elements of a vector parameter")
        last = len(vector) - 1
        match node.slice:
            case ast.Constant(value=int(index)) if type(index) is int and index <= last:
                return vector[index]
        problem = f"{self.show(node)} is not an element"
        self.refuse(problem, f"an integer from 0 to {last} as index")
