"""Kernels as text, with the fewest parentheses."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lnm_codegen as lnm
from lnm_codegen.ir import nodes as ir
from lnm_codegen.ir.interpret import evaluate
from lnm_codegen.ir.nodes import (
    Binary,
    BinaryOp,
    Call,
    Compare,
    CompareOp,
    Const,
    Detach,
    Fma,
    Fn,
    Power,
    Select,
    Spike,
    Unary,
    UnaryOp,
    Var,
    expr_text,
    number_text,
)

A, B, C = Var("a"), Var("b"), Var("c")
add, sub, mul, div, neg = ir.add, ir.sub, ir.mul, ir.div, ir.neg
less, equal = Compare(CompareOp.LT, A, B), Compare(CompareOp.EQ, B, C)
both = Binary(BinaryOp.AND, less, equal)
either = Binary(BinaryOp.OR, less, equal)


def negative(e: ir.Expr) -> ir.Expr:
    return Unary(UnaryOp.NOT, e)


TABLE = [
    (sub(A, sub(B, C)), "a - (b - c)"),
    (sub(sub(A, B), C), "a - b - c"),
    (add(A, add(B, C)), "a + (b + c)"),
    (add(add(A, B), C), "a + b + c"),
    (mul(A, add(B, C)), "a * (b + c)"),
    (mul(mul(A, B), C), "a * b * c"),
    (mul(A, mul(B, C)), "a * (b * c)"),
    (div(A, mul(B, C)), "a / (b * c)"),
    (div(div(A, B), C), "a / b / c"),
    (div(mul(A, B), C), "a * b / c"),
    (mul(div(A, B), C), "a / b * c"),
    (sub(A, mul(B, C)), "a - b * c"),
    (neg(A), "-a"),
    (Unary(UnaryOp.NEG, neg(A)), "--a"),
    (neg(add(A, B)), "-(a + b)"),
    (neg(mul(A, B)), "-(a * b)"),
    (mul(neg(A), B), "-a * b"),
    (sub(A, neg(B)), "a - -b"),
    (Power(A, 3), "a**3"),
    (Power(neg(A), 2), "(-a)**2"),
    (neg(Power(A, 2)), "-a**2"),
    (Power(add(A, B), 2), "(a + b)**2"),
    (Power(Power(A, 2), 3), "(a**2)**3"),
    (mul(Power(A, 2), B), "a**2 * b"),
    (Call(Fn.EXP, sub(A, B)), "exp(a - b)"),
    (Power(Call(Fn.SQRT, A), 3), "sqrt(a)**3"),
    (Fma(A, neg(B), add(B, C)), "fma(a, -b, b + c)"),
    (Select(less, add(A, B), C), "select(a < b, a + b, c)"),
    (Detach(A), "detach(a)"),
    (Spike(A, div(ir.ONE, add(ir.ONE, A))), "spike(a; slope 1 / (1 + a))"),
    (both, "a < b and b == c"),
    (Binary(BinaryOp.OR, both, less), "a < b and b == c or a < b"),
    (Binary(BinaryOp.AND, either, less), "(a < b or b == c) and a < b"),
    (negative(less), "not a < b"),
    (negative(both), "not (a < b and b == c)"),
    (Binary(BinaryOp.AND, negative(less), equal), "not a < b and b == c"),
    (Compare(CompareOp.GE, add(A, B), neg(C)), "a + b >= -c"),
    (mul(ir.const(-2), A), "(-2) * a"),
    (add(A, ir.const(-2)), "a + (-2)"),
    (mul(Const(Fraction(1, 3)), A), "(1/3) * a"),
    (mul(Const(Fraction(1, 4)), A), "0.25 * a"),
    (mul(Const(Fraction(314, 100), "pi"), A), "pi * a"),
    (Power(Const(Fraction(987, 100), "pi**2"), 2), "(pi**2)**2"),
]


@pytest.mark.parametrize(("e", "text"), TABLE, ids=lambda t: str(t) if isinstance(t, str) else "")
def test_expressions(e, text):
    """Precedence and associativity, one operator in another."""
    assert expr_text(e) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Fraction(3), "3"), (Fraction(-3), "-3"), (Fraction(1, 10), "0.1"),
        (Fraction(-5, 4), "-1.25"), (Fraction(1, 3), "1/3"), (Fraction(10**20), "1" + 20 * "0"),
        (Fraction(1, 10**7), "1e-07"),
    ],
)  # fmt: skip
def test_numbers(value, text):
    """Whole numbers and decimals that are exact; a ratio otherwise; a name before all."""
    assert number_text(value) == text
    assert number_text(value, "named") == "named"


reals = st.recursive(
    st.sampled_from([A, B, C, ir.const(2), Const(Fraction(-1, 4)), Const(Fraction(1, 3))]),
    lambda e: st.one_of(
        st.builds(Binary, st.sampled_from([BinaryOp.ADD, BinaryOp.SUB, BinaryOp.MUL]), e, e),
        st.builds(Unary, st.just(UnaryOp.NEG), e),
        st.builds(Power, e, st.integers(2, 3)),
    ),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None)
@given(reals)
def test_text_means_what_the_tree_means(e):
    """Python, whose precedence is ours, reads the text as the same value."""
    env = {"a": 1.5, "b": -0.75, "c": 2.25}
    code = expr_text(e)
    read = eval(code, {}, env)
    meant = evaluate(e, {n: np.float64(x) for n, x in env.items()}, np.dtype(np.float64))
    assert read == pytest.approx(float(meant), rel=1e-12)


def test_a_kernel():
    """Ports by role, Lets by phase, results."""
    assert str(lnm.lower(lnm.get("cuba_lif", v_reset=None)).forward) == CUBA


CUBA = """\
kernel cuba_lif
  takes state: current, v
  takes input: x
  takes param: current_decay, voltage_decay, v_threshold
  # charge
  h_current = fma(current_decay, current, x)
  h = fma(voltage_decay, v, h_current)
  # fire
  z = h - v_threshold
  fired = spike(z; slope 1 / ((pi**2) * z**2 + 1))
  # output
  spike = select(fired, 1, 0)
  # reset
  current_next = h_current
  v_next = fma(-v_threshold, spike, h)
  gives output: spike
  gives state: current_next, v_next"""


def test_a_program_is_its_kernels():
    """prepare, forward, backward, prepare_backward, a blank line between."""
    program = lnm.lower(lnm.get("lnm", degree=2))
    names = ["lnm_prepare", "lnm", "lnm_backward", "lnm_prepare_backward"]
    heads = [line for line in str(program).splitlines() if line.startswith("kernel")]
    assert heads == [f"kernel {n}" for n in names]
    assert str(program).count("\n\n") == 3
