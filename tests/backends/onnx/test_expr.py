"""Expressions as nodes of ONNX: every node and function printed once, literals that read back."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lnm_codegen.backends.onnx import Nodes, literal
from lnm_codegen.ir import nodes as ir
from lnm_codegen.ir.kernel import Names
from lnm_codegen.ir.nodes import Binary, BinaryOp, Call, Compare, CompareOp, Expr, Fn, Unary, Var
from lnm_codegen.ir.types import BOOL

a, b, c = (Var(n) for n in "abc")
P, Q = (Var(n, BOOL) for n in "pq")

TABLE: list[tuple[Expr, str]] = [
    (ir.add(a, b), "h = Add(a, b)"),
    (ir.sub(a, ir.sub(b, c)), "_0 = Sub(b, c); h = Sub(a, _0)"),
    (ir.mul(a, b), "h = Mul(a, b)"),
    (ir.div(a, b), "h = Div(a, b)"),
    (Binary(BinaryOp.AND, P, Q), "h = And(p, q)"),
    (Binary(BinaryOp.OR, P, Q), "h = Or(p, q)"),
    (Unary(ir.UnaryOp.NEG, a), "h = Neg(a)"),
    (Unary(ir.UnaryOp.NOT, P), "h = Not(p)"),
    (ir.Power(a, 2), "h = Mul(a, a)"),
    (ir.Power(a, 4), "_0 = Mul(a, a); _1 = Mul(_0, a); h = Mul(_1, a)"),
    (Compare(CompareOp.LT, a, b), "h = Less(a, b)"),
    (Compare(CompareOp.LE, a, b), "h = LessOrEqual(a, b)"),
    (Compare(CompareOp.GT, a, b), "h = Greater(a, b)"),
    (Compare(CompareOp.GE, a, b), "h = GreaterOrEqual(a, b)"),
    (Compare(CompareOp.EQ, a, b), "h = Equal(a, b)"),
    (Compare(CompareOp.NE, a, b), "_0 = Equal(a, b); h = Not(_0)"),
    (ir.Select(P, a, ir.ONE), "h = Where(p, a, _c0)"),
    (ir.Fma(a, b, c), "_0 = Mul(a, b); h = Add(_0, c)"),
    (ir.Spike(a, ir.ONE), "h = GreaterOrEqual(a, _c0)"),
    (ir.Detach(ir.add(a, b)), "h = Add(a, b)"),
    (Call(Fn.SIGMOID, a), "_0 = Neg(a); _1 = Exp(_0); _2 = Add(_c0, _1); h = Div(_c0, _2)"),
    *((Call(fn, a), f"h = {fn.value.title()}(a)") for fn in Fn if fn is not Fn.SIGMOID),
]


def test_nodes() -> None:
    """The last node has the wanted name, every other a number."""
    for e, expected in TABLE:
        nodes = Nodes("float32", Names("abcpq"))
        nodes.values = {name: name for name in "abcpq"}
        assert nodes.value(e, "h") == "h"
        assert "; ".join(nodes.take_lines()) == expected


def test_atoms_need_no_node() -> None:
    """A variable and a constant are their own values; equal constants are one."""
    nodes = Nodes("float64", Names("a"))
    nodes.values = {"a": "a_renamed"}
    assert nodes.value(ir.Detach(a), "h") == "a_renamed"
    assert nodes.value(ir.ONE, "h") == nodes.value(ir.const(1)) == "_c0"
    assert nodes.constants == {"double[1] {1.0}": "_c0"}
    assert nodes.take_lines() == ()


@given(st.integers(0, 2**32 - 1), st.floats(allow_nan=False))
def test_literals_read_back(bits: int, number: float) -> None:
    """Bit for bit, subnormal numbers and infinities included; NaN is no constant."""
    narrow = np.frombuffer(struct.pack("<I", bits), np.float32)[0]
    for value in (narrow, np.float64(number)):
        if not np.isnan(value):
            assert _read(literal(value, value.dtype.name)).tobytes() == value.tobytes()


def _read(text: str) -> np.ndarray:
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    parser = pytest.importorskip("onnx.parser")
    node = parser.parse_node(f"x = Constant <value = {text}> ()")
    return np.asarray(onnx.numpy_helper.to_array(node.attribute[0].t))
