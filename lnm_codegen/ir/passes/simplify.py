"""Passes that simplify a kernel: constants, dead code, common terms, `Detach`."""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Mapping, Set
from dataclasses import replace

from lnm_codegen.ir import nodes as ir
from lnm_codegen.ir.fixed import nodes as fx
from lnm_codegen.ir.fixed.nodes import SumOp
from lnm_codegen.ir.kernel import K, is_temporary, names_of, variables
from lnm_codegen.ir.nodes import (
    Binary,
    BinaryOp,
    Compare,
    CompareOp,
    Const,
    Expr,
    Kernel,
    Let,
    Program,
    Role,
    Select,
    Spike,
    Unary,
    UnaryOp,
    Var,
)
from lnm_codegen.ir.types import REAL

# Constant folding that drops no NaN and no infinity.


_EXACT = {
    BinaryOp.ADD: operator.add, BinaryOp.SUB: operator.sub,
    BinaryOp.MUL: operator.mul, BinaryOp.DIV: operator.truediv,
}  # fmt: skip


_COMPARED = {
    CompareOp.LT: operator.lt, CompareOp.LE: operator.le, CompareOp.GT: operator.gt,
    CompareOp.GE: operator.ge, CompareOp.EQ: operator.eq, CompareOp.NE: operator.ne,
}  # fmt: skip


def fold(kernel: Kernel) -> Kernel:
    """Fold constants, 1*x, x/1, x + 0, -(-x), detach(1), and selects by conditions on constants.

    Returns `kernel` if nothing changes.

    Keeps: 0*x, x - x and x/x, whose value is NaN where x is not finite.
    """
    folded = kernel.map_values(_fold)
    return kernel if folded == kernel else folded


def _fold(e: Expr) -> Expr:
    e = ir.map_children(e, _fold)
    match e:
        case Unary(UnaryOp.NEG, arg) if isinstance(arg, Const) or arg != ir.neg(arg):
            folded = ir.neg(arg)
            return e if folded == e else folded
        # These come first because they keep the name of a constant: 1*pi is pi.
        case Binary(BinaryOp.MUL, Const(value=one), x) if one == 1:
            return x
        case Binary(BinaryOp.MUL | BinaryOp.DIV, x, Const(value=one)) if one == 1:
            return x
        case Binary(BinaryOp.ADD, Const(value=zero), x) if zero == 0:
            return x
        case Binary(BinaryOp.ADD | BinaryOp.SUB, x, Const(value=zero)) if zero == 0:
            return x
        case Binary(BinaryOp.DIV, _, Const(value=zero)) if zero == 0:
            return e
        case Binary(op, Const(value=a), Const(value=b)) if op in _EXACT:
            return Const(_EXACT[op](a, b))
        case ir.Detach(arg) if isinstance(arg, Const | ir.Detach):
            return arg
        case Select(_, then, orelse) if then == orelse and isinstance(then, Const):
            return then
        case Select(cond, then, orelse) if (holds := _decided(cond)) is not None:
            return then if holds else orelse
        case Binary(BinaryOp.AND | BinaryOp.OR as op, a, b):
            neutral = op is BinaryOp.AND
            if _decided(a) is neutral:
                return b
            return a if _decided(b) is neutral else e
        case _:
            return e


def _decided(cond: Expr) -> bool | None:
    """Return the value of a condition that depends on constants alone, else None."""
    match cond:
        case Compare(op, Const(value=a), Const(value=b)):
            return bool(_COMPARED[op](a, b))
        case Unary(UnaryOp.NOT, arg):
            inner = _decided(arg)
            return None if inner is None else not inner
        case Binary(BinaryOp.AND | BinaryOp.OR as op, a, b):
            sides, absorbing = (_decided(a), _decided(b)), op is BinaryOp.OR
            if absorbing in sides:
                return absorbing
            return None if None in sides else not absorbing
        case _:
            return None


# Dead-code elimination, for kernels of either IR.


def dce(kernel: K) -> K:
    """Drop every Let that no result needs."""
    needed = {p.var for p in kernel.results}
    kept = []
    for let in reversed(kernel.body):
        if let.target in needed:
            kept.append(let)
            needed |= variables(let.value)
    return replace(kernel, body=tuple(reversed(kept)))


def keep_results(kernel: K, names: Set[str]) -> K:
    """Return `kernel` with the results of these names and the Lets that they need."""
    results = tuple(p for p in kernel.results if p.var.name in names)
    return dce(replace(kernel, results=results))


# Common-subexpression elimination, and inlining of temporaries that are read once.


_COMMUTATIVE = (BinaryOp.ADD, BinaryOp.MUL, BinaryOp.AND, BinaryOp.OR)


def cse(kernel: Kernel) -> Kernel:
    """Compute nothing twice: a repeated subexpression becomes a Let, or reads an existing one.

    Keeps: ports, results, the value of every Let, bit for bit.
    """
    while (shared := _share(kernel)) != kernel:  # resolved copies may reveal equal expressions
        kernel = shared
    return kernel


def _share(kernel: Kernel) -> Kernel:
    pass_ = _Cse(kernel)
    for let in kernel.body:
        pass_.let(let)
    return dce(_named(replace(kernel, body=tuple(pass_.body))))


def _named(kernel: Kernel) -> Kernel:
    """Rename a temporary that is only copied to a name: it gets that name."""
    names: dict[Var, Var] = {}
    ports = {p.var for p in (*kernel.inputs, *kernel.results)}  # one of them may be called t0
    for let in kernel.body:
        if isinstance(let.value, Var) and is_temporary(let.value.name) and let.value not in ports:
            names.setdefault(let.value, let.target)
    table: dict[Var, Expr] = dict(names)
    body = [
        replace(x, target=names.get(x.target, x.target), value=ir.substitute(x.value, table))
        for x in kernel.body
        if not (isinstance(x.value, Var) and names.get(x.value) == x.target)
    ]
    return replace(kernel, body=tuple(body))


class _Cse:
    def __init__(self, kernel: Kernel) -> None:
        self.body: list[Let] = []
        self._names = names_of(kernel)
        self._results = {p.var for p in kernel.results}
        self._keys = _Keys()
        self._known: dict[int, Var] = {}
        self._copies: dict[Var, Expr] = {}
        self._uses = Counter[int]()
        for let in kernel.body:
            self._count(let.value)

    def _count(self, e: Expr) -> None:
        key = self._keys.of(e)
        self._uses[key] += 1
        if self._uses[key] == 1 or isinstance(e, ir.Unary):  # a sign gets no Let, its operand may
            for child in ir.children(e):
                self._count(child)

    def let(self, let: Let) -> None:
        value = ir.map_children(let.value, lambda c: self._shared(c, let))
        if isinstance(value, Spike):
            value = replace(value, slope=ir.substitute(value.slope, dict(self._copies)))
        value = self._copies.get(value, value) if isinstance(value, Var) else value
        known = self._known.get(self._keys.of(value))
        if known is not None and not isinstance(let.value, Spike):
            value = known
        if ir.is_atom(value) and let.target not in self._results:
            self._copies[let.target] = value
            return
        self.body.append(replace(let, value=value))
        if not ir.is_atom(value):
            self._known.setdefault(self._keys.of(value), let.target)

    def _shared(self, e: Expr, let: Let) -> Expr:
        if isinstance(e, Var):
            return self._copies.get(e, e)
        if ir.is_atom(e):
            return e
        repeated = self._uses[self._keys.of(e)] > 1
        e = ir.map_children(e, lambda c: self._shared(c, let))
        key = self._keys.of(e)
        if key not in self._known and repeated and not isinstance(e, ir.Unary):
            target = Var(self._names.temporary(), ir.type_of(e))
            self.body.append(Let(target, e, let.phase))
            self._known[key] = target
        return self._known.get(key, e)


class _Keys:
    """Numbers of expressions: equal if they differ only in the order of commutative operands.

    An expression is compared by the numbers of its operands, so the work is linear in its size.
    """

    def __init__(self) -> None:
        self._seen: dict[int, tuple[Expr, int]] = {}  # by id, which no other object has meanwhile
        self._numbers: dict[Expr, int] = {}  # by the expression whose operands are numbers

    def of(self, e: Expr) -> int:
        """Return the number of an expression."""
        if id(e) not in self._seen:
            flat = _ordered(ir.map_children(e, lambda c: Var(str(self.of(c)))))
            self._seen[id(e)] = e, self._numbers.setdefault(flat, len(self._numbers))
        return self._seen[id(e)][1]


def _ordered(e: Expr) -> Expr:
    """Return `e`, whose operands are Vars, with those of commutative operators in one order."""
    match e:
        case Binary(op, Var(a), Var(b)) if op in _COMMUTATIVE and b < a:
            return Binary(op, e.rhs, e.lhs)
        case ir.Fma(Var(a), Var(b), c) if b < a:
            return ir.Fma(e.b, e.a, c)
        case _:
            return e


def inline(kernel: Kernel) -> Kernel:
    """Replace each temporary that is read once by its value, so that emitted code reads well."""
    reads = Counter(var for let in kernel.body for var in _reads(let.value))
    results = {p.var for p in kernel.results}
    table: dict[Var, Expr] = {}
    body: list[Let] = []
    for let in kernel.body:
        value = ir.substitute(let.value, table)
        once = reads[let.target] == 1 and let.target not in results
        if once and is_temporary(let.target.name) and not isinstance(value, Spike):
            table[let.target] = value
        else:
            body.append(replace(let, value=value))
    return replace(kernel, body=tuple(body))


def _reads(e: Expr) -> list[Var]:
    """Return the Vars in `e`, each as often as it occurs, a Spike's slope included."""
    found = [n for n in ir.walk(e) if isinstance(n, Var)]
    return found + _reads(e.slope) if isinstance(e, Spike) else found


# Parameter gradients at a gradient of the outputs that is 1: sums of functions of the inputs.


def at_unit_gradient(program: Program) -> Program:
    """Return a program without states whose backward takes the gradient of every output as 1.

    The gradients of its inputs are 0, so that it computes the gradients of parameters alone.
    """
    backward = program.backward
    ones: dict[ir.Var, ir.Expr] = {v: ir.ONE for v in backward.input_vars(Role.GRAD)}
    given = set(backward.result_vars(Role.INPUT))
    body = tuple(
        replace(let, value=ir.ZERO if let.target in given else ir.substitute(let.value, ones))
        for let in backward.body
    )
    backward = fold(dce(replace(backward, body=body)))
    read = set(program.forward.input_names(Role.PARAM))
    return replace(program, backward=backward, prepare=keep_results(program.prepare, read))


# Removal of Detach from kernels that nothing differentiates any more.


def undetach(kernel: Kernel) -> Kernel:
    """Replace each Detach of a number by its operand; return `kernel` if it has none.

    A Detach of a spike stays. Leaves: no Let that copies a name, except to a result.
    Keeps: ports, results, the value of every Let, bit for bit.
    """
    attached = kernel.map_values(_attached)
    return kernel if attached == kernel else cse(attached)


def _attached(e: Expr) -> Expr:
    e = ir.map_children(e, _attached)
    return e.arg if isinstance(e, ir.Detach) and ir.type_of(e) is REAL else e


# Simplifications of fixed-point kernels: direct comparisons and products with zero.


def compare_sides(kernel: fx.Kernel) -> fx.Kernel:
    """Rewrite `z = a - b` and `z >= 0` as `a >= b`, and drop every Let that no result needs.

    Keeps: ports, results, the value of every Let that remains. Differences are exact, so that
    their sign is the order of their sides.
    """
    differences = {
        let.target: let.value
        for let in kernel.body
        if isinstance(let.value, fx.Sum) and let.value.op is SumOp.SUB
    }

    def rewrite(e: fx.Expr) -> fx.Expr:
        match fx.map_children(e, rewrite):
            case fx.Compare(op, fx.Var() as var, fx.Const(0)) if var in differences:
                return fx.Compare(op, differences[var].lhs, differences[var].rhs)
            case other:
                return other

    return dce(kernel.map_values(rewrite))


def fold_zeros(kernel: fx.Kernel, constants: Mapping[str, int]) -> fx.Kernel:
    """Rewrite as 0 each product with a factor 0; `constants` are parameters that do not change.

    Keeps: ports, results, the value and the bits of every Let.
    """

    def is_zero(e: fx.Expr) -> bool:
        match e:
            case fx.Const(integer, _, _):
                return integer == 0
            case fx.Var(name, _):
                return constants.get(name) == 0
            case fx.Shift(arg, _):
                return is_zero(arg)
            case _:
                return False

    def rewrite(e: fx.Expr) -> fx.Expr:
        e = fx.map_children(e, rewrite)
        if isinstance(e, fx.Product) and (is_zero(e.lhs) or is_zero(e.rhs)):
            return fx.zero(fx.bits_of(e))
        return e

    return kernel.map_values(rewrite)
