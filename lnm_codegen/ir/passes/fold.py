"""Constant folding that drops no NaN and no infinity."""

from __future__ import annotations

import operator

from lnm_codegen.ir import nodes as ir
from lnm_codegen.ir.nodes import (
    Binary,
    BinaryOp,
    Compare,
    CompareOp,
    Const,
    Expr,
    Kernel,
    Select,
    Unary,
    UnaryOp,
)

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
