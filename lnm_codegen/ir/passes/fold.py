"""Constant folding that drops no NaN and no infinity."""

from __future__ import annotations

import operator

from lnm_codegen.ir import nodes as ir
from lnm_codegen.ir.nodes import Binary, BinaryOp, Const, Expr, Kernel, Select, Unary, UnaryOp

_EXACT = {
    BinaryOp.ADD: operator.add, BinaryOp.SUB: operator.sub,
    BinaryOp.MUL: operator.mul, BinaryOp.DIV: operator.truediv,
}  # fmt: skip


def fold(kernel: Kernel) -> Kernel:
    """Fold constants, 1*x, x/1, x + 0, -(-x), detach(1); return `kernel` if nothing changes.

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
        case _:
            return e
