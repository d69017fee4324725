"""Dimensions of an expression in text, and the check that its terms have one unit.

A name without a known unit, such as an input, has an unknown dimension. The sums, comparisons and
arguments that contain it determine the dimension. So do the literals 0, which have any unit.
"""

from __future__ import annotations

import ast
from fractions import Fraction
from typing import NoReturn

from lnm_codegen.errors import ModelError
from lnm_codegen.language.ode.functions import LIKE_ARGUMENT
from lnm_codegen.language.ode.units import (
    Dims,
    none,
    power,
    product,
    solution,
    spelled,
    unit_named,
    unknown,
    unknowns,
    with_factor,
)
from lnm_codegen.language.text.cost import quoted, tree_of


class Dimensions:
    """Dimensions of names. Each check may determine unknown ones."""

    def __init__(self) -> None:
        self._names: dict[str, Dims] = {}
        self._known: dict[str, Dims] = {}

    def set(self, name: str, dims: Dims | None = None) -> None:
        """Give a name its dimensions; None leaves them to be determined."""
        self._names[name] = unknown(name) if dims is None else dims

    def of_name(self, name: str) -> Dims:
        """Return the dimensions of a name or of a unit."""
        found = self._names.get(name)
        if found is None:
            unit = unit_named(name)
            found = none() if unit is None else unit.dims
        return self.resolved(found)

    def of_text(self, text: str, where: str) -> Dims:
        """Return the dimensions of a text that the grammar of expressions accepts.

        Raises:
            ModelError: Terms, sides or arguments of different units. The message shows both.
        """
        return _Walk(self, " ".join(text.split()), where).run()

    def settled(self, text: str, where: str) -> Dims:
        """Return the dimensions of a text; unknown ones, those of literals 0, count as none."""
        dims = self.of_text(text, where)
        self._known |= {key: none() for key in unknowns(dims)}
        return self.resolved(dims)

    def resolved(self, dims: Dims) -> Dims:
        """Return dimensions with those that are known by now replaced."""
        for key in unknowns(dims):
            if key in self._known:
                found = self.resolved(self._known[key])
                dims = with_factor(dims, key, found)
        return dims

    def agree(self, a: Dims, b: Dims) -> bool:
        """Report whether two dimensions are equal, and determine an unknown one of them."""
        ratio = self.resolved(a) / self.resolved(b)
        left = unknowns(ratio)
        if left:
            self._known[left[0]] = solution(ratio, left[0])
            return True
        return not ratio

    def fresh(self) -> Dims:
        """Return an unknown dimension of a new name, for a literal 0."""
        self._names[f"0 {len(self._names)}"] = found = unknown(f"0 {len(self._names)}")
        return found


class _Walk:
    def __init__(self, table: Dimensions, text: str, where: str) -> None:
        self._table = table
        self._text = text
        self._where = where

    def run(self) -> Dims:
        return self._of(tree_of(self._text, self._refuse, "an expression"))

    def _refuse(self, problem: str, accepted: str = "", remedy: str = "") -> NoReturn:
        raise ModelError(self._where, problem, accepted, remedy) from None

    def _show(self, node: ast.expr) -> str:
        return quoted(ast.get_source_segment(self._text, node) or self._text)

    def _of(self, node: ast.expr) -> Dims:
        """Return the dimensions of a node; of a condition, those of a plain number."""
        match node:
            case ast.Constant(value=number):
                return self._table.fresh() if number == 0 else none()
            case ast.Name(id=word):
                return self._table.of_name(word)
            case ast.UnaryOp(operand=operand):
                return self._of(operand)
            case ast.BinOp():
                return self._chain(node)
            case ast.BoolOp(values=values):
                for value in values:
                    self._of(value)
            case ast.Compare(left=left, comparators=others):
                self._alike([left, *others], "is compared with")
            case ast.Call(func=ast.Name(id=word), args=args):
                return self._call(word, args)
        return none()

    def _chain(self, node: ast.BinOp) -> Dims:
        """Return the dimensions of a + b + c, which Python nests to the left, without recursion."""
        spine = [node]
        while isinstance(spine[-1].left, ast.BinOp):
            spine.append(spine[-1].left)
        dims = self._of(spine[-1].left)
        for step in reversed(spine):
            dims = self._binary(step, dims)
        return dims

    def _binary(self, node: ast.BinOp, left: Dims) -> Dims:
        if isinstance(node.op, ast.BitAnd | ast.BitOr):
            self._of(node.right)
            return none()
        right = self._of(node.right)
        if isinstance(node.op, ast.Add | ast.Sub):
            self._require(node.left, left, node.right, right, "is added to")
            return left
        if isinstance(node.op, ast.Pow):
            return self._power(node, left, right)
        return product(left, right if isinstance(node.op, ast.Mult) else power(right, Fraction(-1)))

    def _power(self, node: ast.BinOp, base: Dims, exponent: Dims) -> Dims:
        self._require_plain(node.right, exponent, "the exponent")
        base = self._table.resolved(base)
        value = _constant(node.right)
        if value is None:
            self._require_plain(node.left, base, "the base of a varying exponent")
            return none()
        return power(base, value)

    def _call(self, word: str, args: list[ast.expr]) -> Dims:
        if word == "sqrt":
            return power(self._of(args[0]), Fraction(1, 2))
        if word in ("sign", "int"):
            self._of(args[0])
            return none()
        if word in LIKE_ARGUMENT:
            if word == "where":
                self._of(args[0])
                args = args[1:]
            return self._alike(args, "is an argument with")
        self._require_plain(args[0], self._of(args[0]), f"the argument of {word}")
        return none()

    def _alike(self, nodes: list[ast.expr], relation: str) -> Dims:
        first = self._of(nodes[0])
        for node in nodes[1:]:
            self._require(nodes[0], first, node, self._of(node), relation)
        return first

    def _require(self, a: ast.expr, left: Dims, b: ast.expr, right: Dims, relation: str) -> None:
        if not self._table.agree(left, right):
            shown = [spelled(self._table.resolved(dims)) for dims in (left, right)]
            self._refuse(
                f"{self._show(a)} has the unit {shown[0]} and {relation} {self._show(b)}, which has"
                f" the unit {shown[1]}",
                "one unit on both sides",
            )

    def _require_plain(self, node: ast.expr, dims: Dims, role: str) -> None:
        if not self._table.agree(dims, none()):
            shown = spelled(self._table.resolved(dims))
            self._refuse(
                f"{role}, {self._show(node)}, has the unit {shown}", "a number without a unit"
            )


def _constant(node: ast.expr) -> Fraction | None:
    """Return the value of a constant exponent, 2, -1 or 1/2; None for any other."""
    match node:
        case ast.Constant(value=int() | float() as value):
            return Fraction(str(value)) if abs(value) < 1e15 else Fraction(10**15)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            positive = _constant(operand)
            return None if positive is None else -positive
        case ast.BinOp(op=ast.Div(), left=left, right=right):
            a, b = _constant(left), _constant(right)
            return None if a is None or not b else a / b
    return None
