"""Ranges of every node of a step, for states, inputs and parameters in given intervals.

    node = sum of polynomials of independent variables      exact: critical points, end points
    node = select(c, a, b)                                  hull of a where c, b where not c
    any other node                                          interval arithmetic in rationals

Ranges are those of exact arithmetic; `error_bounds` adds the effect of rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from fractions import Fraction
from functools import reduce
from operator import mul
from typing import Any, TypeAlias

from lnm_codegen.analysis.exact import exact, nodes_of, prepared_parameters
from lnm_codegen.analysis.interval import (
    GRID,
    Interval,
    applied,
    divided,
    hull,
    interval_of,
    meet,
    point,
)
from lnm_codegen.analysis.polynomial import (
    Condition,
    ConstrainedBox,
    Piece,
    Pieces,
    Poly,
    SymbolicKernel,
    condition,
    constant,
    truth,
    variable,
)
from lnm_codegen.compiler.pipeline import lower
from lnm_codegen.errors import ModelError, UnsupportedError
from lnm_codegen.ir import nodes as ir
from lnm_codegen.ir.fixed import nodes as fx
from lnm_codegen.ir.kernel import Role
from lnm_codegen.ir.nodes import BinaryOp, CompareOp, UnaryOp
from lnm_codegen.ir.types import BOOL
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.options import SchemeName
from lnm_codegen.validation import require_known

Given: TypeAlias = Mapping[str, Any]
"""Name -> (low, high), a number, or an Interval."""


def ranges(
    of: Neuron | ir.Program | fx.Program,
    *,
    states: Given,
    inputs: Given,
    values: Mapping[str, Any] | None = None,
    scheme: SchemeName = "horner",
) -> dict[str, Interval]:
    """Return the range of every port and node of a forward step.

    Args:
        of: A neuron, or a program from `lnm.lower` or `lnm.quantize`. The last is taken without
            its rounding.
        states: State -> (low, high) before the step.
        inputs: Input -> (low, high).
        values: Parameters by name. For a neuron they are the declared ones, its `init` otherwise;
            for a program they are those of `prepare`, as numbers or intervals.
        scheme: "horner" or "estrin", for a neuron.

    Returns:
        Name -> interval: the inputs of the kernel, then its Lets in order, with the names of
        `quantize`. A condition is in [0, 1].

    Raises:
        ModelError: A name is missing or unknown, or an interval is not finite or its low exceeds
            its high.
        UnsupportedError: A function is not monotone, or is outside its domain.
    """
    kernel = kernel_of(of, scheme)
    box = checked(of.name, kernel, Role.STATE, states)
    box |= checked(of.name, kernel, Role.INPUT, inputs)
    if isinstance(of, Neuron):
        box |= {n: point(v) for n, v in prepared_parameters(of, values, scheme).items()}
    else:
        box |= checked(of.name, kernel, Role.PARAM, values or {}, others=True)
    return kernel_ranges(kernel, box)


def kernel_of(of: Neuron | ir.Program | fx.Program, scheme: SchemeName = "horner") -> ir.Kernel:
    """Return the kernel with the nodes of `quantize`."""
    if isinstance(of, fx.Program):
        return exact(of.kernel)
    return nodes_of(lower(of, scheme) if isinstance(of, Neuron) else of)


def checked(
    where: str, kernel: ir.Kernel, role: Role, given: Given, *, others: bool = False
) -> dict[str, Interval]:
    """Return an interval of each input of a role, or raise ModelError; `others` admits names."""
    names = kernel.input_names(role)
    for name in () if others else given:
        require_known(where, role.value, name, names)
    for name in names:
        if name not in given:
            problem = f"no interval for {role.value} {name!r}"
            raise ModelError(
                where, problem, remedy=f"Give {name} = (low, high); in text, {name}=LOW,HIGH."
            )
    return {n: interval_of(where, f"{role.value} {n!r}", given[n]) for n in names}


def kernel_ranges(kernel: ir.Kernel, box: Mapping[str, Interval]) -> dict[str, Interval]:
    """Return the range of every input and Let of a kernel over a box of its inputs."""
    found = symbolic(kernel, box)
    table = {p.var.name: box[p.var.name] for p in kernel.inputs}
    for let in kernel.body:
        name = let.target.name
        table[name] = found.range(name)
        if not table[name].tight and let.target.type is not BOOL:
            with suppress(UnsupportedError):  # independent operands may leave a domain
                operands = from_operands(let.value, table, f"{kernel.name}, {name}")
                table[name] = (meet(table[name], operands) or table[name]).shortened()
    return table


def from_operands(e: ir.Expr, table: Mapping[str, Interval], where: str) -> Interval:
    """Return interval arithmetic on the operands of an expression: outward, not tight."""

    def of(child: ir.Expr) -> Interval:
        return from_operands(child, table, where)

    match e:
        case ir.Const(value, _):
            return point(value)
        case ir.Var(name, _):
            return table[name]
        case ir.Unary(UnaryOp.NEG, arg):
            return -of(arg)
        case ir.Detach(arg):
            return of(arg)
        case ir.Binary(BinaryOp.ADD, lhs, rhs):
            result = of(lhs) + of(rhs)
        case ir.Binary(BinaryOp.SUB, lhs, rhs):
            result = of(lhs) - of(rhs)
        case ir.Binary(BinaryOp.MUL, lhs, rhs):
            result = of(lhs) * of(rhs)
        case ir.Binary(BinaryOp.DIV, lhs, rhs):
            result = divided(of(lhs), of(rhs), where)
        case ir.Fma(a, b, c):
            result = of(a) * of(b) + of(c)
        case ir.Power(base, exponent):
            result = reduce(mul, [of(base)] * exponent)
        case ir.Select(_, then, orelse):
            result = hull((of(then), of(orelse)))
        case ir.Call(fn, arg):
            result = applied(fn, of(arg), where)
        case _:  # a condition as a number
            result = Interval(ir.ZERO.value, ir.ONE.value)
    return result.loose()


# Symbolic evaluation of a kernel: each value as polynomials of the inputs under conditions.
#
# A Select splits a value by its condition; a Spike or a Compare splits a condition into true and
# false. A piece whose conditions exclude each other is dropped. Four kinds of values become
# variables, each with an interval of its own:
#
# * a monotone function of an interval;
# * a quotient;
# * a Let with more than `MOST` pieces, or with a polynomial beyond `MOST_TERMS` or `MOST_DEGREE`;
# * a sum that is multiplied, such as t0 = v + x, so that f(v + x) is univariate.


Conditions: TypeAlias = tuple[Condition, ...]

MOST = 64
"""Largest number of pieces of one value."""
FARTHEST = 1 << 64
"""Largest magnitude of a polynomial that becomes a variable."""
MOST_TERMS, MOST_DEGREE, MOST_FACTOR = 128, 64, 16
"""Largest polynomial of a piece. Those of bound values would grow with each that they read."""


def symbolic(kernel: ir.Kernel, box: Mapping[str, Interval]) -> SymbolicKernel:
    """Evaluate a kernel over a box of its inputs, or raise UnsupportedError."""
    return _Evaluator(kernel, box).run()


class _Evaluator:
    def __init__(self, kernel: ir.Kernel, box: Mapping[str, Interval]) -> None:
        self._kernel = kernel
        self._let = ""
        self._made: dict[tuple[object, ...], str] = {}
        self._state = SymbolicKernel()
        for port in kernel.inputs:
            name = port.var.name
            inside = box[name]
            if inside.low == inside.high:
                self._state.pieces[name] = (Piece(constant(inside.low)),)
                continue
            self._state.box[name] = inside
            self._state.sources[name] = frozenset((name,))
            self._state.pieces[name] = (Piece(variable(name)),)

    def run(self) -> SymbolicKernel:
        for let in self._kernel.body:
            self._let = let.target.name
            boolean = let.target.type is BOOL
            pieces = self._condition(let.value) if boolean else self._number(let.value)
            self._state.pieces[self._let] = self._bounded(pieces)
        return self._state

    def _bounded(self, pieces: Pieces) -> Pieces:
        if len(pieces) <= MOST and not any(map(_is_large, pieces)):
            return pieces
        if isinstance(pieces[0].value, bool):
            return (Piece(True), Piece(False))
        self._state.pieces[self._let] = pieces
        inside = self._state.range(self._let).loose()
        if any(map(_is_large, pieces)):
            inside = self._coarse(inside)
        used = {n for p in pieces for n in p.variables}
        return (Piece(self._opaque((self._let,), inside, used)),)

    def _coarse(self, inside: Interval) -> Interval:
        """Return an interval around it whose ends are short, so that later ones stay so."""
        if inside.magnitude > FARTHEST:
            problem = f"its range exceeds {float(FARTHEST):g}"
            raise UnsupportedError(self._where(), problem, remedy="Give narrower intervals.")
        return inside.outward(GRID).loose()

    def _number(self, e: ir.Expr) -> Pieces:
        match e:
            case ir.Const(value, _):
                return (Piece(constant(value)),)
            case ir.Var(name, _):
                return self._state.pieces[name]
            case ir.Unary(UnaryOp.NEG, arg):
                return tuple(Piece(-p.polynomial, p.conditions) for p in self._number(arg))
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
                factors = [self._factor(base)] * exponent
                return reduce(lambda a, b: self._both(a, b, Poly.__mul__), factors)
            case ir.Select(cond, then, orelse):
                return self._select(self._condition(cond), self._number(then), self._number(orelse))
            case ir.Detach(arg):
                return self._number(arg)
            case ir.Call(fn, arg):
                return tuple(Piece(self._call(fn, p), p.conditions) for p in self._number(arg))
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
                branches = self._condition(then), self._condition(orelse)
                return self._select(self._condition(cond), *branches)
            case _:
                raise self._unsupported(type(e).__name__.lower())

    def _product(self, lhs: ir.Expr, rhs: ir.Expr) -> Pieces:
        return self._both(self._factor(lhs), self._factor(rhs), Poly.__mul__)

    def _factor(self, e: ir.Expr) -> Pieces:
        """Return `e`, with a named sum of several variables as one variable."""
        pieces = self._number(e)
        return tuple(self._named(e.name, p) for p in pieces) if isinstance(e, ir.Var) else pieces

    def _named(self, name: str, piece: Piece) -> Piece:
        value = piece.polynomial
        is_long = len(value.terms) > MOST_FACTOR
        if not is_long and (value.degree != 1 or len(value.variables) < 2):
            return piece
        inside = self._state.range_of(piece)
        if inside is None:
            return piece
        if is_long:
            made = self._opaque((name, piece), self._coarse(inside), piece.variables)
            return Piece(made, piece.conditions)
        made = self._opaque((name, piece), inside, piece.variables)
        for made_name in made.variables:  # none where the piece has one value
            self._state.definitions[made_name] = value
        return Piece(made, piece.conditions)

    def _compare(self, op: CompareOp, pieces: Pieces) -> Pieces:
        found: list[Piece] = []
        for piece in pieces:
            inside = self._state.range_of(piece)
            if inside is None:
                continue
            known = truth(inside, op)
            if known is not None:
                found.append(Piece(known, piece.conditions))
                continue
            holds = condition(piece.polynomial, op)
            for value, more in ((True, holds), (False, holds.opposite)):
                conditions = self._joined(piece.conditions, (more,))
                if conditions is not None:
                    found.append(Piece(value, conditions))
        return tuple(found)

    def _select(self, cond: Pieces, then: Pieces, orelse: Pieces) -> Pieces:
        found = (
            Piece(branch.value, conditions)
            for selected in cond
            for branch in (then if selected.value else orelse)
            if (conditions := self._joined(selected.conditions, branch.conditions)) is not None
        )
        return tuple(dict.fromkeys(found))

    def _both(self, a: Pieces, b: Pieces, f: Callable[[Poly, Poly], Poly]) -> Pieces:
        return self._paired(a, b, lambda x, y, _: f(x, y))

    def _paired(self, a: Pieces, b: Pieces, f: Callable[[Poly, Poly, Conditions], Poly]) -> Pieces:
        return tuple(
            Piece(f(x.polynomial, y.polynomial, conditions), conditions)
            for x in a
            for y in b
            if (conditions := self._joined(x.conditions, y.conditions)) is not None
        )

    def _joined(self, a: Conditions, b: Conditions) -> Conditions | None:
        """Return all conditions, or None if they exclude each other."""
        more = tuple(c for c in b if c not in a)
        if not more:
            return a
        together = a + more
        if any(c.opposite in together for c in more):
            return None
        for c in together:
            others = tuple(other for other in together if other is not c)
            inside = ConstrainedBox(self._state.box, self._state.sources, others).range_of(c.poly)
            if inside is None or truth(inside, c.op) is False:
                return None
        return together

    def _quotient(self, a: Poly, b: Poly, conditions: Conditions) -> Poly:
        if b.constant:
            return a.scaled(1 / b.constant)
        ranges = [self._state.range_of(Piece(p, conditions)) for p in (a, b)]
        above, below = (point(Fraction(1)) if r is None else r for r in ranges)
        inside = divided(above, below, self._where())
        used = Piece(a, conditions).variables | b.variables
        return self._opaque(("/", a, b, conditions), inside, used)

    def _call(self, fn: ir.Fn, piece: Piece) -> Poly:
        inside = self._state.range_of(piece)
        value = applied(fn, point(Fraction(1)) if inside is None else inside, self._where())
        return self._opaque((fn, piece), value, piece.variables)

    def _opaque(self, key: tuple[object, ...], inside: Interval, used: set[str]) -> Poly:
        """Return the variable of the value that `key` identifies."""
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


def _is_large(piece: Piece) -> bool:
    value = piece.value
    if isinstance(value, bool):
        return False
    return len(value.terms) > MOST_TERMS or value.degree > MOST_DEGREE
