"""A kernel as pieces: each value a polynomial of the kernel's inputs, where some conditions hold.

A Select splits a value by its condition, a Spike or a Compare a condition into true and false; a
piece whose conditions exclude each other is dropped. What is no polynomial becomes a variable with
an interval of its own: a function (monotone ones, from the interval of its argument), a quotient,
and a Let with more than `MOST` pieces. A sum such as t0 = v + x that is multiplied becomes a
variable too, so that f(v + x) is univariate.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction

from lnm_codegen.analysis.arithmetic.condition import Condition, Region, condition, truth
from lnm_codegen.analysis.arithmetic.functions import applied, divided
from lnm_codegen.analysis.arithmetic.interval import Interval, point
from lnm_codegen.analysis.arithmetic.pieces import (
    Piece,
    Pieces,
    Symbolic,
    polynomial_of,
    variables_of,
)
from lnm_codegen.analysis.arithmetic.polynomial import Poly, constant, variable
from lnm_codegen.errors import UnsupportedError
from lnm_codegen.ir import nodes as ir
from lnm_codegen.ir.operators import BinaryOp, CompareOp, UnaryOp
from lnm_codegen.ir.types import BOOL

MOST = 64
"""The most pieces of one value."""


def symbolic(kernel: ir.Kernel, box: Mapping[str, Interval]) -> Symbolic:
    """Evaluate a kernel over a box of its inputs; an input of one value counts as a number.

    Raises:
        UnsupportedError: A function that is not monotone, or one outside its domain.
    """
    return _Evaluator(kernel, box).run()


class _Evaluator:
    def __init__(self, kernel: ir.Kernel, box: Mapping[str, Interval]) -> None:
        self._kernel = kernel
        self._let = ""
        self._made: dict[tuple[object, ...], str] = {}
        self._state = Symbolic({}, {}, {})
        for port in kernel.inputs:
            name = port.var.name
            inside = box[name]
            if inside.low == inside.high:
                self._state.pieces[name] = (Piece(constant(inside.low)),)
                continue
            self._state.box[name] = inside
            self._state.sources[name] = frozenset((name,))
            self._state.pieces[name] = (Piece(variable(name)),)

    def run(self) -> Symbolic:
        for let in self._kernel.body:
            self._let = let.target.name
            boolean = let.target.type is BOOL
            pieces = self._condition(let.value) if boolean else self._number(let.value)
            self._state.pieces[self._let] = self._bounded(pieces)
        return self._state

    def _bounded(self, pieces: Pieces) -> Pieces:
        if len(pieces) <= MOST:
            return pieces
        if isinstance(pieces[0].value, bool):
            return (Piece(True), Piece(False))
        self._state.pieces[self._let] = pieces
        inside = self._state.range(self._let).loose()
        used = {n for p in pieces for n in variables_of(p)}
        return (Piece(self._opaque((self._let,), inside, used)),)

    def _number(self, e: ir.Expr) -> Pieces:
        match e:
            case ir.Const(value, _):
                return (Piece(constant(value)),)
            case ir.Var(name, _):
                return self._state.pieces[name]
            case ir.Unary(UnaryOp.NEG, arg):
                return self._each(self._number(arg), lambda p: p.scaled(Fraction(-1)))
            case ir.Binary(BinaryOp.ADD, lhs, rhs):
                return self._both(self._number(lhs), self._number(rhs), Poly.__add__)
            case ir.Binary(BinaryOp.SUB, lhs, rhs):
                return self._both(self._number(lhs), self._number(rhs), Poly.__sub__)
            case ir.Binary(BinaryOp.MUL, lhs, rhs):
                return self._product(lhs, rhs)
            case ir.Binary(BinaryOp.DIV, lhs, rhs):
                return self._paired(self._number(lhs), self._number(rhs), self._quotient)
            case ir.Fma(a, b, c):
                return self._both(self._product(a, b), self._number(c), Poly.__add__)
            case ir.Power(base, exponent):
                factor = self._factor(base)
                result = factor
                for _ in range(exponent - 1):
                    result = self._both(result, factor, Poly.__mul__)
                return result
            case ir.Select(cond, then, orelse):
                return self._select(self._condition(cond), self._number(then), self._number(orelse))
            case ir.Detach(arg):
                return self._number(arg)
            case ir.Call(fn, arg):
                return tuple(
                    Piece(self._call(fn, piece), piece.conditions) for piece in self._number(arg)
                )
            case _:
                raise self._unsupported(type(e).__name__.lower())

    def _condition(self, e: ir.Expr) -> Pieces:
        match e:
            case ir.Var(name, _):
                return self._state.pieces[name]
            case ir.Detach(arg):
                return self._condition(arg)
            case ir.Spike(arg, _):
                return self._compare(CompareOp.GE, self._number(arg))
            case ir.Compare(op, lhs, rhs):
                difference = self._both(self._number(lhs), self._number(rhs), Poly.__sub__)
                return self._compare(op, difference)
            case ir.Unary(UnaryOp.NOT, arg):
                return tuple(Piece(not p.value, p.conditions) for p in self._condition(arg))
            case ir.Binary(BinaryOp.AND, lhs, rhs):
                return self._select(self._condition(lhs), self._condition(rhs), (Piece(False),))
            case ir.Binary(BinaryOp.OR, lhs, rhs):
                return self._select(self._condition(lhs), (Piece(True),), self._condition(rhs))
            case ir.Select(cond, then, orelse):
                return self._select(
                    self._condition(cond), self._condition(then), self._condition(orelse)
                )
            case _:
                raise self._unsupported(type(e).__name__.lower())

    def _product(self, lhs: ir.Expr, rhs: ir.Expr) -> Pieces:
        return self._both(self._factor(lhs), self._factor(rhs), Poly.__mul__)

    def _factor(self, e: ir.Expr) -> Pieces:
        """Return `e`; a named sum of several variables as one variable."""
        pieces = self._number(e)
        if not isinstance(e, ir.Var):
            return pieces
        return tuple(self._named(e.name, piece) for piece in pieces)

    def _named(self, name: str, piece: Piece) -> Piece:
        value = polynomial_of(piece)
        if value.degree != 1 or len(value.variables) < 2:
            return piece
        inside = self._state.range_of(piece)
        if inside is None:
            return piece
        made = self._opaque((name, piece), inside, variables_of(piece))
        (made_name,) = made.variables
        self._state.definitions[made_name] = value
        return Piece(made, piece.conditions)

    def _compare(self, op: CompareOp, pieces: Pieces) -> Pieces:
        found: list[Piece] = []
        for piece in pieces:
            value = polynomial_of(piece)
            inside = self._state.range_of(piece)
            known = None if inside is None else truth(inside, op)
            if known is not None:
                found.append(Piece(known, piece.conditions))
                continue
            if inside is None:
                continue
            holds = condition(value, op)
            for truth_, more in ((True, holds), (False, holds.opposite)):
                conditions = self._joined(piece.conditions, (more,))
                if conditions is not None:
                    found.append(Piece(truth_, conditions))
        return tuple(found)

    def _select(self, cond: Pieces, then: Pieces, orelse: Pieces) -> Pieces:
        found = []
        for chosen in cond:
            for branch in then if chosen.value else orelse:
                conditions = self._joined(chosen.conditions, branch.conditions)
                if conditions is not None:
                    found.append(Piece(branch.value, conditions))
        return tuple(dict.fromkeys(found))

    def _each(self, pieces: Pieces, f: Callable[[Poly], Poly]) -> Pieces:
        return tuple(Piece(f(polynomial_of(p)), p.conditions) for p in pieces)

    def _both(self, a: Pieces, b: Pieces, f: Callable[[Poly, Poly], Poly]) -> Pieces:
        return self._paired(a, b, lambda x, y, _: f(x, y))

    def _paired(
        self,
        a: Pieces,
        b: Pieces,
        f: Callable[[Poly, Poly, tuple[Condition, ...]], Poly],
    ) -> Pieces:
        found = []
        for x in a:
            for y in b:
                conditions = self._joined(x.conditions, y.conditions)
                if conditions is not None:
                    found.append(
                        Piece(f(polynomial_of(x), polynomial_of(y), conditions), conditions)
                    )
        return tuple(found)

    def _joined(
        self, a: tuple[Condition, ...], b: tuple[Condition, ...]
    ) -> tuple[Condition, ...] | None:
        """Return all conditions, or None where they exclude each other."""
        more = tuple(c for c in b if c not in a)
        if not more:
            return a
        together = a + more
        if any(c.opposite in together for c in more):
            return None
        for c in together:
            others = tuple(other for other in together if other is not c)
            region = Region(self._state.box, self._state.sources, others)
            inside = region.range_of(c.poly)
            if inside is None or truth(inside, c.op) is False:
                return None
        return together

    def _quotient(self, a: Poly, b: Poly, conditions: tuple[Condition, ...]) -> Poly:
        if b.constant:
            return a.scaled(1 / b.constant)
        ranges = [self._state.range_of(Piece(p, conditions)) for p in (a, b)]
        above, below = (point(Fraction(1)) if r is None else r for r in ranges)
        inside = divided(above, below, self._where())
        used = variables_of(Piece(a, conditions)) | b.variables
        return self._opaque(("/", a, b, conditions), inside, used)

    def _call(self, fn: ir.Fn, piece: Piece) -> Poly:
        inside = self._state.range_of(piece)
        value = applied(fn, point(Fraction(1)) if inside is None else inside, self._where())
        return self._opaque((fn, piece), value, variables_of(piece))

    def _opaque(self, key: tuple[object, ...], inside: Interval, used: set[str]) -> Poly:
        """Return the variable that stands for what `key` says."""
        if inside.low == inside.high:
            return constant(inside.low)
        if key not in self._made:
            name = f"#{len(self._made)}"
            self._made[key] = name
            self._state.box[name] = inside
            sources = self._state.sources
            self._state.sources[name] = frozenset(s for n in used for s in sources[n])
        return variable(self._made[key])

    def _where(self) -> str:
        return f"{self._kernel.name}, {self._let}"

    def _unsupported(self, what: str) -> UnsupportedError:
        return UnsupportedError(self._where(), f"{what} has no range")
