"""Expressions as C and as Python: precedence, parentheses, literals that read back."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from lnm_codegen.backends import expr
from lnm_codegen.backends.c.expr import CDialect, literal
from lnm_codegen.backends.torch import TorchDialect
from lnm_codegen.ir import nodes as ir
from lnm_codegen.ir.interpret import evaluate, rounded
from lnm_codegen.ir.nodes import (
    Binary,
    BinaryOp,
    Call,
    Compare,
    CompareOp,
    Const,
    Detach,
    Expr,
    Fma,
    Fn,
    Power,
    Select,
    Spike,
    Unary,
    UnaryOp,
    Var,
    add,
    const,
    div,
    mul,
    sub,
)
from lnm_codegen.ir.types import BOOL

a, b, c, d = (Var(n) for n in "abcd")
F = Var("fired", BOOL)
P, Q = (Var(n, BOOL) for n in "pq")
HALF, THIRD = const(Fraction(1, 2)), const(Fraction(1, 3))


def neg(e: Expr) -> Expr:
    return Unary(UnaryOp.NEG, e)


def lt(x: Expr, y: Expr) -> Expr:
    return Compare(CompareOp.LT, x, y)


def both(x: Expr, y: Expr) -> Expr:
    return Binary(BinaryOp.AND, x, y)


def either(x: Expr, y: Expr) -> Expr:
    return Binary(BinaryOp.OR, x, y)


TABLE: list[tuple[Expr, str, str | None]] = [
    # sums and products: parentheses on the right of - and /, none on the left
    (add(add(a, b), c), "a + b + c", "a + b + c"),
    (add(a, add(b, c)), "a + (b + c)", "a + (b + c)"),
    (sub(a, sub(b, c)), "a - (b - c)", "a - (b - c)"),
    (sub(sub(a, b), c), "a - b - c", "a - b - c"),
    (sub(a, mul(b, c)), "a - b * c", "a - b * c"),
    (mul(add(a, b), c), "(a + b) * c", "(a + b) * c"),
    (mul(a, sub(b, c)), "a * (b - c)", "a * (b - c)"),
    (mul(mul(a, b), c), "a * b * c", "a * b * c"),
    (mul(a, mul(b, c)), "a * (b * c)", "a * (b * c)"),
    (div(a, mul(b, c)), "a / (b * c)", "a / (b * c)"),
    (div(div(a, b), c), "a / b / c", "a / b / c"),
    (div(a, div(b, c)), "a / (b / c)", "a / (b / c)"),
    (mul(div(a, b), c), "a / b * c", "a / b * c"),
    # signs: no `--`, none swallowed by a product
    (neg(a), "-a", "-a"),
    (neg(neg(a)), "-(-a)", "-(-a)"),
    (neg(add(a, b)), "-(a + b)", "-(a + b)"),
    (neg(mul(a, b)), "-(a * b)", "-(a * b)"),
    (add(neg(a), b), "-a + b", "-a + b"),
    (sub(a, neg(b)), "a - -b", "a - -b"),
    (mul(neg(a), neg(b)), "-a * -b", "-a * -b"),
    (sub(a, const(-2)), "a - -2.0f", "a - -2.0"),
    (neg(const(-2)), "-(-2.0f)", "-(-2.0)"),
    (Power(neg(a), 2), "(-a) * (-a)", "(-a) * (-a)"),
    # integer powers are products
    (Power(a, 3), "a * a * a", "a * a * a"),
    (Power(add(a, b), 2), "(a + b) * (a + b)", "(a + b) * (a + b)"),
    (div(a, Power(b, 2)), "a / (b * b)", "a / (b * b)"),
    # fused multiply-add: a function in C, two roundings in PyTorch
    (Fma(a, b, c), "fmaf(a, b, c)", "a * b + c"),
    (Fma(add(a, b), sub(b, c), sub(c, d)),
     "fmaf(a + b, b - c, c - d)", "(a + b) * (b - c) + (c - d)"),
    (Fma(a, Fma(b, c, d), c), "fmaf(a, fmaf(b, c, d), c)", "a * (b * c + d) + c"),
    (Fma(neg(a), b, neg(c)), "fmaf(-a, b, -c)", "-a * b + -c"),
    (Fma(a, div(b, c), d), "fmaf(a, b / c, d)", "a * (b / c) + d"),
    (mul(Fma(a, b, c), d), "fmaf(a, b, c) * d", "(a * b + c) * d"),
    (sub(a, Fma(a, b, c)), "a - fmaf(a, b, c)", "a - (a * b + c)"),
    # comparisons and conditions; & and | always in parentheses, because C and Python differ there
    (lt(add(a, b), c), "a + b < c", "a + b < c"),
    (Compare(CompareOp.LE, a, b), "a <= b", "a <= b"),
    (Compare(CompareOp.GT, a, b), "a > b", "a > b"),
    (Compare(CompareOp.GE, a, b), "a >= b", "a >= b"),
    (Compare(CompareOp.EQ, a, b), "a == b", "a == b"),
    (Compare(CompareOp.NE, a, b), "a != b", "a != b"),
    (both(P, Q), "p & q", "p & q"),
    (both(lt(a, b), lt(c, d)), "(a < b) & (c < d)", "(a < b) & (c < d)"),
    (either(both(P, Q), lt(a, b)), "(p & q) | (a < b)", "(p & q) | (a < b)"),
    (both(either(P, Q), P), "(p | q) & p", "(p | q) & p"),
    (Unary(UnaryOp.NOT, P), "!p", "~p"),
    (Unary(UnaryOp.NOT, lt(a, b)), "!(a < b)", "~(a < b)"),
    (both(Unary(UnaryOp.NOT, P), Q), "(!p) & q", "(~p) & q"),
    # selects: an operator in C, a function in PyTorch
    (Select(P, a, b), "p ? a : b", "torch.where(p, a, b)"),
    (Select(lt(a, b), add(a, c), neg(b)),
     "a < b ? a + c : -b", "torch.where(a < b, a + c, -b)"),
    (Select(P, Select(Q, a, b), c), "p ? (q ? a : b) : c",
     "torch.where(p, torch.where(q, a, b), c)"),
    (Select(P, a, Select(Q, b, c)), "p ? a : (q ? b : c)",
     "torch.where(p, a, torch.where(q, b, c))"),
    (add(a, Select(P, b, c)), "a + (p ? b : c)", "a + torch.where(p, b, c)"),
    (Select(P, HALF, b), "p ? 0.5f : b", "torch.where(p, 0.5, b)"),
    (Select(P, HALF, ir.ZERO), "p ? 0.5f : 0.0f", "torch.where(p, x.new_full((), 0.5), 0.0)"),
    # spikes: conditions in C; in PyTorch tensors of 0 and 1 that carry a derivative
    (Select(F, a, b), "fired ? a : b", "_select_on_spike(fired, a, b)"),
    (Select(F, ir.ONE, ir.ZERO), "fired ? 1.0f : 0.0f", "fired"),
    (mul(Select(F, ir.ONE, ir.ZERO), a), "(fired ? 1.0f : 0.0f) * a", "fired * a"),
    (Spike(sub(a, b), ir.ONE), "a - b >= 0.0f", None),
    (Detach(F), "fired", "fired.detach()"),
    (Detach(lt(a, b)), "(a < b)", "(a < b).detach()"),
    # functions
    (Call(Fn.EXP, neg(a)), "elementary_exp(-a)", "torch.exp(-a)"),
    (Call(Fn.LOG, a), "elementary_log(a)", "torch.log(a)"),
    (Call(Fn.TANH, a), "elementary_tanh(a)", "torch.tanh(a)"),
    (Call(Fn.SIGMOID, a), "elementary_sigmoid(a)", "torch.sigmoid(a)"),
    (Call(Fn.SQRT, add(a, b)), "sqrtf(a + b)", "torch.sqrt(a + b)"),
    (Call(Fn.SIN, a), "sinf(a)", "torch.sin(a)"),
    (Call(Fn.COS, a), "cosf(a)", "torch.cos(a)"),
    (mul(Call(Fn.SIN, a), b), "sinf(a) * b", "torch.sin(a) * b"),
    # constants, rounded once to the type
    (const(1), "1.0f", "1.0"),
    (const(0), "0.0f", "0.0"),
    (THIRD, "0.33333334f", "0.3333333333333333"),
    (Const(Fraction("3.141592653589793238462643383279502884197"), "pi"),
     "3.1415927f", "3.141592653589793"),
    (const(10**30), "1e+30f", "1e+30"),
    (const(Fraction(1, 10**30)), "1e-30f", "1e-30"),
    (const(16777217), "1.6777216e+07f", "16777217.0"),
    (mul(const(-2), a), "-2.0f * a", "-2.0 * a"),
]  # fmt: skip


def test_text() -> None:
    """The exact text in both languages."""
    for e, in_c, in_python in TABLE:
        assert expr.text(e, CDialect("float32")) == in_c
        if in_python is not None:
            assert expr.text(e, TorchDialect(frozenset({F}), "x")) == in_python


def test_float64_has_no_suffix() -> None:
    """Literals and functions of math.h without `f`."""
    e = Fma(a, THIRD, Call(Fn.SIN, b))
    assert expr.text(e, CDialect("float64")) == "fma(a, 0.3333333333333333, sin(b))"


def test_the_table_has_every_node_and_operator() -> None:
    """A node, an operator or a function without a row is one without a test."""
    nodes = [n for e, _, _ in TABLE for n in ir.walk(e)]
    assert {type(n) for n in nodes} == set(Expr.__args__)
    assert {n.op for n in nodes if isinstance(n, Binary)} == set(BinaryOp)
    assert {n.op for n in nodes if isinstance(n, Unary)} == set(UnaryOp)
    assert {n.op for n in nodes if isinstance(n, Compare)} == set(CompareOp)
    assert {n.fn for n in nodes if isinstance(n, Call)} == set(Fn)


def test_python_text_means_what_the_interpreter_says() -> None:
    """Parentheses left out change nothing: the text is run."""
    env: dict[str, Any] = {n: 0.37 + 0.61 * k for k, n in enumerate("abcd")}
    env |= {"p": True, "q": False, "fired": True}
    arrays = {n: np.asarray(v) for n, v in env.items()}
    tensors = {n: torch.tensor(v, dtype=None if isinstance(v, bool) else torch.float64)
               for n, v in env.items()}  # fmt: skip
    tensors["fired"] = torch.tensor(1.0, dtype=torch.float64)
    names = {"torch": torch, "x": tensors["a"], "_select_on_spike": lambda s, t, o: t}
    for e, _, text in TABLE:
        if text:
            expected = evaluate(e, arrays, np.dtype("float64"))
            got = eval(text, names | tensors)
            assert float(got) == pytest.approx(float(expected), rel=1e-15), text


def number_read_back(text: str, dtype: str) -> Any:
    """Read a C literal as a compiler does: to the nearest number of its type."""
    assert text.endswith("f") == (dtype == "float32")
    with np.errstate(over="ignore"):  # the neighbour above the largest number
        return rounded(Fraction(text.removesuffix("f")), dtype)


@given(st.floats(width=32, allow_nan=False, allow_infinity=False),
       st.floats(allow_nan=False, allow_infinity=False))  # fmt: skip
@example(1.401298464324817e-45, 5e-324)
@example(3.4028234663852886e38, 1.7976931348623157e308)
@example(16777216.0, 1e22)
@example(-0.0, -0.0)
def test_literals_read_back(narrow: float, wide: float) -> None:
    """Every float32 and float64, subnormals included."""
    for value, dtype in ((narrow, "float32"), (wide, "float64")):
        text = literal(value, dtype)
        got = number_read_back(text, dtype)
        assert got == np.dtype(dtype).type(value)
        assert got.dtype == dtype
        assert text.startswith("-") == (math.copysign(1, value) < 0)


@given(st.fractions(-(10**6), 10**6), st.sampled_from(["float32", "float64"]))
@example(Fraction(1, 2**24) + 1, "float32")
@example(1 + Fraction(1, 2**24) + Fraction(1, 2**60), "float32")  # double rounding gives 1
@example(Fraction(1, 10**50), "float32")
def test_constants_are_rounded_once(value: Fraction, dtype: str) -> None:
    """The literal is the number of the type nearest to the exact constant."""
    got = number_read_back(CDialect(dtype).number(Const(value)), dtype)
    below, above = (np.nextafter(got, np.dtype(dtype).type(w)) for w in (-np.inf, np.inf))
    distance = abs(Fraction(float(got)) - value)
    assert all(distance <= abs(Fraction(float(x)) - value) for x in (below, above))


def test_a_constant_beyond_the_range_is_infinite() -> None:
    """It overflows visibly, as the interpreter's does."""
    assert CDialect("float32").number(const(10**40)) == "HUGE_VAL"
    assert CDialect("float32").number(const(-(10**40))) == "-HUGE_VAL"
    assert CDialect("float64").number(const(10**400)) == "HUGE_VAL"
