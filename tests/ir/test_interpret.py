"""Meaning of each node in NumPy: rounding, float32, NaN."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lnm_codegen as lnm
from lnm_codegen.ir import nodes as ir
from lnm_codegen.ir.interpret import evaluate, rounded, run
from lnm_codegen.ir.nodes import (
    Binary,
    BinaryOp,
    Call,
    Compare,
    CompareOp,
    Detach,
    Fma,
    Fn,
    Kernel,
    Let,
    Phase,
    Port,
    Power,
    Role,
    Select,
    Spike,
    Unary,
    UnaryOp,
    Var,
)

F32, F64 = np.dtype(np.float32), np.dtype(np.float64)
A, B, C = Var("a"), Var("b"), Var("c")
NAN, INF = math.nan, math.inf


def value(e: ir.Expr, a=0.0, b=0.0, c=0.0, dtype=F64):
    env = {n: dtype.type(x) for n, x in (("a", a), ("b", b), ("c", c))}
    with np.errstate(all="ignore"):
        return evaluate(e, env, dtype)


@settings(max_examples=300, deadline=None)
@given(st.fractions(-100, 100, max_denominator=10**9))
def test_rounded_is_the_nearest_number(x):
    """No neighbour is nearer, in either type; the double is Python's own."""
    assert rounded(x, F64) == float(x)
    near = rounded(x, F32)
    assert near.dtype == F32
    for other in (np.nextafter(near, np.float32(-INF)), np.nextafter(near, np.float32(INF))):
        assert abs(Fraction(float(near)) - x) <= abs(Fraction(float(other)) - x)


@pytest.mark.parametrize("sign", [1, -1])
def test_rounded_once(sign):
    """A value just off the middle of two floats is not rounded to the middle first."""
    half = Fraction(1) + Fraction(1, 2**24)
    assert rounded(sign * (half + Fraction(1, 2**80)), F32) == sign * np.float32(1 + 2**-23)
    assert rounded(sign * (half - Fraction(1, 2**80)), F32) == sign * np.float32(1)
    assert rounded(sign * Fraction(10**400), F64) == sign * INF
    assert rounded(sign * Fraction(10**50), F32) == sign * INF
    assert rounded(Fraction(0), F32) == 0


@pytest.mark.parametrize("sign", [1, -1])
def test_rounded_at_the_top_of_float32(sign):
    """Half an ulp beyond the largest number is infinite, just less is not; nothing warns."""
    largest = Fraction(float(np.finfo(np.float32).max))
    half = Fraction(2) ** 103
    tiny = Fraction(1, 2**80)
    for exact, expected in (
        (largest, largest), (largest - half * 3 / 2, largest - half * 2), (largest + tiny, largest),
        (largest + half - tiny, largest), (largest + half, None), (largest + half + tiny, None),
    ):  # fmt: skip
        assert rounded(sign * exact, F32) == sign * (INF if expected is None else float(expected))
    largest = Fraction(float(np.finfo(np.float64).max))
    assert rounded(sign * largest, F64) == sign * float(largest)


def test_rounded_ties_to_even():
    """An exact tie goes to the even neighbour, as IEEE 754 has it."""
    assert rounded(Fraction(1) + Fraction(1, 2**24), F32) == np.float32(1)
    assert rounded(Fraction(1) + Fraction(3, 2**24), F32) == np.float32(1 + 2**-22)


@settings(max_examples=200, deadline=None)
@given(*(st.floats(-100, 100, width=32) for _ in range(3)))
def test_float32_rounds_each_operation(a, b, c):
    """a*b + c in float32 rounds twice; fma rounds once."""
    one, two, three = np.float32(a), np.float32(b), np.float32(c)
    twice = value(ir.add(ir.mul(A, B), C), a, b, c, F32)
    assert twice.dtype == F32
    assert twice == np.float32(np.float32(one * two) + three)
    once = value(Fma(A, B, C), a, b, c, F32)
    exact = Fraction(float(a)) * Fraction(float(b)) + Fraction(float(c))
    ulp = np.spacing(np.abs(np.float32(float(exact))))
    assert once.dtype == F32
    assert abs(Fraction(float(once)) - exact) <= Fraction(float(ulp)) / 2 * Fraction(1 + 2**-20)


def test_fma_keeps_what_a_product_loses():
    """(1 + e)(1 - e) - 1 is -e**2 with one rounding, 0 with two."""
    e = 2.0**-20
    assert value(ir.sub(ir.mul(A, B), ir.ONE), 1 + e, 1 - e, dtype=F32) == 0
    assert value(Fma(A, B, ir.const(-1)), 1 + e, 1 - e, dtype=F32) == -(e**2)


def test_every_operator():
    """One value of each."""
    assert [float(value(Binary(op, A, B), 3, 2)) for op in list(BinaryOp)[:4]] == [5, 1, 6, 1.5]
    assert value(Unary(UnaryOp.NEG, A), 3) == -3
    assert value(Power(A, 5), 2) == 32
    assert value(Detach(A), 3) == 3
    table = {CompareOp.LT: 1, CompareOp.LE: 1, CompareOp.GT: 0, CompareOp.GE: 0, CompareOp.EQ: 0}
    for op, holds in (table | {CompareOp.NE: 1}).items():
        assert value(Compare(op, A, B), 1, 2) == holds
    yes, no = Compare(CompareOp.LT, A, B), Compare(CompareOp.GT, A, B)
    assert value(Binary(BinaryOp.AND, yes, no), 1, 2) == 0
    assert value(Binary(BinaryOp.OR, yes, no), 1, 2) == 1
    assert value(Unary(UnaryOp.NOT, no), 1, 2) == 1
    functions = {
        Fn.EXP: math.exp, Fn.LOG: math.log, Fn.SQRT: math.sqrt, Fn.TANH: math.tanh,
        Fn.SIN: math.sin, Fn.COS: math.cos, Fn.SIGMOID: lambda x: 1 / (1 + math.exp(-x)),
    }  # fmt: skip
    assert set(functions) == set(Fn)
    for fn, f in functions.items():
        assert float(value(Call(fn, A), 0.7)) == pytest.approx(f(0.7), rel=1e-15)
        assert value(Call(fn, A), 0.7, dtype=F32).dtype == F32


@pytest.mark.parametrize("dtype", [F32, F64])
def test_sigmoid_does_not_overflow(dtype):
    """Far out it is 0 and 1, with no warning."""
    run_at = np.array([-1e4, -800.0, 0.0, 800.0, 1e4])
    kernel = Kernel(
        "k",
        (Port(A, Role.INPUT),),
        (Let(B, Call(Fn.SIGMOID, A), Phase.CHARGE),),
        (Port(B, Role.OUTPUT),),
    )
    np.testing.assert_array_equal(run(kernel, {"a": run_at}, dtype)["b"], [0, 0, 0.5, 1, 1])


@pytest.mark.parametrize("op", list(CompareOp))
def test_comparisons_with_nan_are_false(op):
    """Every one but NE, which is true."""
    for a, b in ((NAN, 0.0), (0.0, NAN), (NAN, NAN)):
        assert bool(value(Compare(op, A, B), a, b)) is (op is CompareOp.NE)


@pytest.mark.parametrize(
    ("z", "fired"),
    [(0.0, 1), (-0.0, 1), (5e-324, 1), (-5e-324, 0), (INF, 1), (-INF, 0), (NAN, 0)],
)
def test_spike(z, fired):
    """1 if z >= 0 else 0; NaN gives 0."""
    assert value(Spike(A, ir.ONE), z) == fired


def charge(expr_of, *values: float):
    """Return the value of an expression of v (and x) as a neuron's output."""
    v, x = lnm.state("v"), lnm.input("x")
    neuron = lnm.Neuron(charge={v: v}, output={"y": expr_of(v, x), "x": x})
    a, b = (*values, 0.0)[:2]
    return float(lnm.interpret(neuron, np.full((1, 1), b), state={"v": a}).outputs["y"][0, 0])


NAN_RULES = [
    (lambda v, x: lnm.max(v, x), (NAN, 1.0), 1.0),
    (lambda v, x: lnm.max(v, x), (1.0, NAN), NAN),
    (lambda v, x: lnm.min(v, x), (NAN, 1.0), 1.0),
    (lambda v, x: lnm.min(v, x), (1.0, NAN), NAN),
    (lambda v, x: lnm.abs(v), (NAN,), NAN),
    (lambda v, x: lnm.abs(v), (-INF,), INF),
    (lambda v, x: lnm.clip(v, -1, 1), (NAN,), NAN),
    (lambda v, x: lnm.clip(v, -1, 1), (INF,), 1.0),
    (lambda v, x: lnm.clip(v, -1, 1), (-INF,), -1.0),
    (lambda v, x: lnm.clip(v, x, 1), (0.5, NAN), 0.5),
    (lambda v, x: lnm.where(v > 0, 1, 2), (NAN,), 2.0),
    (lambda v, x: lnm.where(v <= 0, 1, 2), (NAN,), 2.0),
    (lambda v, x: lnm.where(~(v > 0), 1, 2), (NAN,), 2.0),
    (lambda v, x: lnm.where(v > 0, x, 7), (-1.0, NAN), 7.0),
    (lambda v, x: lnm.where(v > 0, x, 7), (1.0, INF), INF),
    (lambda v, x: lnm.where((v > 0) & (x > 0), 1, 2), (1.0, NAN), 2.0),
    (lambda v, x: lnm.where((v > 0) | (x > 0), 1, 2), (1.0, NAN), 1.0),
    (lambda v, x: lnm.tanh(v), (INF,), 1.0),
    (lambda v, x: lnm.exp(v), (-INF,), 0.0),
    (lambda v, x: lnm.log(v), (-1.0,), NAN),
    (lambda v, x: lnm.sqrt(v), (-1.0,), NAN),
    (lambda v, x: x / v, (0.0, 1.0), INF),
]


@pytest.mark.parametrize(("expr_of", "values", "expected"), NAN_RULES)
def test_nan_and_infinity(expr_of, values, expected):
    """max(NaN, b) is b, clip keeps a NaN, a comparison with NaN fails: all from their definitions.

    SymPy makes `~(v > 0)` into v <= 0 before the IR is built, so that it fails for a NaN as well.
    """
    np.testing.assert_equal(charge(expr_of, *values), expected)


@pytest.mark.parametrize(
    ("function", "grad"),
    [
        (lambda v: lnm.clip(v, -1, 1), {-1.0: 1, 1.0: 1, -1.5: 0, 1.5: 0, 0.0: 1}),
        (lambda v: lnm.max(v, 0), {0.0: 1, -1.0: 0, 1.0: 1}),
        (lambda v: lnm.max(0, v), {0.0: 0, -1.0: 0, 1.0: 1}),
        (lambda v: lnm.min(v, 0), {0.0: 1, -1.0: 1, 1.0: 0}),
        (lambda v: lnm.abs(v), {0.0: 1, -1.0: -1, 1.0: 1}),
    ],
    ids=["clip", "max", "max turned", "min", "abs"],
)
def test_gradients_at_ties(function, grad):
    """The branch taken at a tie has the gradient; it passes at the ends of clip."""
    v, x = lnm.state("v"), lnm.input("x")
    neuron = lnm.Neuron(charge={v: function(x)}, output=v)
    at = np.array([list(grad)])
    result = lnm.interpret(neuron, at, grad_out=np.ones_like(at))
    np.testing.assert_array_equal(result.grads["x"][0], list(grad.values()))


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
def test_the_branch_not_taken_does_no_harm(bad):
    """where(spike, a, b) selects in value: an infinite or NaN branch not taken is not seen.

    The gradient through the spike, slope * (a - b), is then not finite.
    """
    v, x, y = lnm.state("v"), lnm.input("x"), lnm.input("y")
    one = np.ones((1, 1))
    for taken, at in ((lnm.where(lnm.spike, x, y), 1.0), (lnm.where(lnm.spike, y, x), -1.0)):
        neuron = lnm.Neuron(charge={v: v + x - x * x}, fire=v, output=taken, reset={v: taken})
        for dtype in ("float32", "float64"):
            result = lnm.interpret(
                neuron, one, bad * one, state={"v": at}, grad_out=one, dtype=dtype
            )
            assert result.out == 1
            assert result.states["v"] == 1
            assert not np.isfinite(result.grads["v"])
        held = lnm.Neuron(charge={v: v + x - x * x}, fire=v, reset={v: taken}, detach_reset=True)
        result = lnm.interpret(held, one, bad * one, state={"v": at}, grad_state={"v": np.ones(1)})
        assert result.grads["v"] == 0
        assert result.grads["y"] == 0


def test_a_nan_potential_does_not_fire_and_stays():
    """A neuron whose v is NaN puts out 0, and its v stays NaN under hard and soft reset."""
    for v_reset in (0.0, None):
        result = lnm.interpret(lnm.get("lif", v_reset=v_reset), np.ones((3, 1)), state={"v": NAN})
        np.testing.assert_array_equal(result.out, 0)
        assert np.isnan(result.states["v"]).all()


def test_run_broadcasts_and_warns_of_nothing():
    """Ports of any shapes broadcast; overflow and division by zero are values, not warnings."""
    kernel = Kernel(
        "k",
        (Port(A, Role.STATE), Port(B, Role.INPUT)),
        (Let(C, ir.div(A, B), Phase.CHARGE),),
        (Port(C, Role.OUTPUT),),
    )
    result = run(kernel, {"a": np.array([[1.0], [-1.0]]), "b": np.array([0.0, 2.0])})
    np.testing.assert_array_equal(result["c"], [[INF, 0.5], [-INF, -0.5]])
    with pytest.raises(KeyError):
        run(kernel, {"a": 1.0})


def test_select_keeps_its_type():
    """A choice between constants has the kernel's float type."""
    assert value(Select(Compare(CompareOp.LT, A, B), ir.ONE, ir.ZERO), 0, 1, dtype=F32).dtype == F32
