"""Kernels evaluated in Fractions, and neurons with numbers, for the tests of `analysis`."""

from __future__ import annotations

import operator
from fractions import Fraction
from typing import Any

from hypothesis import strategies as st

import lnm_codegen as lnm
from lnm_codegen.ir import nodes as ir
from lnm_codegen.ir.nodes import BinaryOp, CompareOp, UnaryOp

COMPARE = {
    CompareOp.LT: operator.lt, CompareOp.LE: operator.le, CompareOp.GT: operator.gt,
    CompareOp.GE: operator.ge, CompareOp.EQ: operator.eq, CompareOp.NE: operator.ne,
}  # fmt: skip
BINARY = {
    BinaryOp.ADD: operator.add, BinaryOp.SUB: operator.sub, BinaryOp.MUL: operator.mul,
    BinaryOp.DIV: operator.truediv, BinaryOp.AND: operator.and_, BinaryOp.OR: operator.or_,
}  # fmt: skip


def trace(kernel: ir.Kernel, values: dict[str, Fraction]) -> dict[str, Any]:
    """Return every input and Let of a kernel without functions, exactly."""
    env: dict[str, Any] = dict(values)
    for let in kernel.body:
        env[let.target.name] = evaluate(let.value, env)
    return env


def evaluate(e: ir.Expr, env: dict[str, Any]) -> Any:
    def of(child: ir.Expr) -> Any:
        return evaluate(child, env)

    match e:
        case ir.Const(value, _):
            return value
        case ir.Var(name, _):
            return env[name]
        case ir.Unary(op, arg):
            return not of(arg) if op is UnaryOp.NOT else -of(arg)
        case ir.Binary(op, lhs, rhs):
            return BINARY[op](of(lhs), of(rhs))
        case ir.Power(base, n):
            return of(base) ** n
        case ir.Compare(op, lhs, rhs):
            return COMPARE[op](of(lhs), of(rhs))
        case ir.Select(cond, then, orelse):
            return of(then) if of(cond) else of(orelse)
        case ir.Fma(a, b, c):
            return of(a) * of(b) + of(c)
        case ir.Spike(arg, _):
            return of(arg) >= 0
        case ir.Detach(arg):
            return of(arg)
    raise AssertionError(e)


EIGHTHS = st.integers(-16, 16).map(lambda k: Fraction(k, 8))


def intervals() -> st.SearchStrategy[tuple[Fraction, Fraction]]:
    return st.tuples(EIGHTHS, EIGHTHS).map(lambda ends: (min(ends), max(ends)))


def inside(draw: Any, interval: Any) -> Fraction:
    """Draw a point of an interval, its ends among them."""
    k = draw(st.integers(0, 64))
    return interval.low + (interval.high - interval.low) * Fraction(k, 64)


def families() -> list[lnm.Neuron]:
    """Return the built-in families in forms that differ to the analysis."""
    get = lnm.get
    cubic = (0.02, 0.85, 0.11, -0.06)
    return [
        get("if"),
        get("lif"),
        get("lif", v_reset=None),
        get("plif"),
        get("qif"),
        get("li"),
        get("cuba_lif"),
        get("ternary"),
        get("izhikevich", a=0.3, b=0.2),
        get("lnm", degree=1, theta=(0.1, 0.9)),
        get("lnm", degree=3, theta=cubic),
        get("lnm", degree=3, theta=cubic, v_reset=None),
        get("lnm", degree=3, theta=cubic, v_min=-1.0),
        get("lnm", degree=2, theta=(0.0, 0.5, 0.3), form="B", v_min=-2.0),
        get("lnm", degree=4, theta=(0.02, -0.5, 0.11, -0.06, 0.1), form="C"),
    ]
