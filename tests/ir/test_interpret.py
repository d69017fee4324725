"""Meaning of each node in NumPy: rounding, float32, NaN."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lnm_codegen as lnm
from lnm_codegen.ir.interpret import evaluate, rounded, run
from lnm_codegen.ir.nodes import CompareOp, Fn, Role
from tests.ir.kernels import expr, lets

F32, F64 = np.dtype(np.float32), np.dtype(np.float64)
NAN, INF = math.nan, math.inf


def value(text: str, a=0.0, b=0.0, c=0.0, dtype=F64):
    env = {n: dtype.type(x) for n, x in (("a", a), ("b", b), ("c", c))}
    with np.errstate(all="ignore"):
        return evaluate(expr(text), env, dtype)


@settings(max_examples=100, deadline=None)
@given(st.fractions(-100, 100, max_denominator=10**9))
def test_rounded_is_the_nearest_number(x):
    """No neighbour is nearer, in either type; the double is Python's own."""
    assert rounded(x, F64) == float(x)
    near = rounded(x, F32)
    assert near.dtype == F32
    for other in (np.nextafter(near, np.float32(-INF)), np.nextafter(near, np.float32(INF))):
        assert abs(Fraction(float(near)) - x) <= abs(Fraction(float(other)) - x)


LARGEST, HALF_ULP = Fraction(float(np.finfo(np.float32).max)), Fraction(2) ** 103
TINY, HALF = Fraction(1, 2**80), Fraction(1) + Fraction(1, 2**24)


@pytest.mark.parametrize(
    ("exact", "dtype", "expected"),
    [
        # A value just off the middle of two floats is not rounded to the middle first.
        (HALF + TINY, F32, 1 + 2**-23), (HALF - TINY, F32, 1),
        # An exact tie goes to the even neighbour.
        (HALF, F32, 1), (Fraction(1) + Fraction(3, 2**24), F32, 1 + 2**-22),
        (Fraction(10**400), F64, INF), (Fraction(10**50), F32, INF), (Fraction(0), F32, 0),
        # Half an ulp beyond the largest number is infinite, just less is not; nothing warns.
        (LARGEST, F32, LARGEST), (LARGEST + TINY, F32, LARGEST),
        (LARGEST - HALF_ULP * 3 / 2, F32, LARGEST - HALF_ULP * 2),
        (LARGEST + HALF_ULP - TINY, F32, LARGEST),
        (LARGEST + HALF_ULP, F32, INF), (LARGEST + HALF_ULP + TINY, F32, INF),
        (Fraction(float(np.finfo(np.float64).max)), F64, np.finfo(np.float64).max),
    ],
)  # fmt: skip
def test_rounded(exact, dtype, expected):
    assert rounded(exact, dtype) == float(expected)
    assert rounded(-exact, dtype) == -float(expected)


@settings(max_examples=100, deadline=None)
@given(*(st.floats(-100, 100, width=32) for _ in range(3)))
def test_float32_rounds_each_operation(a, b, c):
    """a*b + c in float32 rounds twice; fma rounds once."""
    one, two, three = np.float32(a), np.float32(b), np.float32(c)
    twice = value("a * b + c", a, b, c, F32)
    assert twice.dtype == F32
    assert twice == np.float32(np.float32(one * two) + three)
    once = value("fma(a, b, c)", a, b, c, F32)
    exact = Fraction(float(a)) * Fraction(float(b)) + Fraction(float(c))
    ulp = np.spacing(np.abs(np.float32(float(exact))))
    assert once.dtype == F32
    assert abs(Fraction(float(once)) - exact) <= Fraction(float(ulp)) / 2 * Fraction(1 + 2**-20)


def test_fma_keeps_what_a_product_loses():
    """(1 + e)(1 - e) - 1 is -e**2 with one rounding, 0 with two."""
    e = 2.0**-20
    assert value("a * b - 1", 1 + e, 1 - e, dtype=F32) == 0
    assert value("fma(a, b, -1)", 1 + e, 1 - e, dtype=F32) == -(e**2)


FUNCTIONS = {
    Fn.EXP: math.exp, Fn.LOG: math.log, Fn.SQRT: math.sqrt, Fn.TANH: math.tanh,
    Fn.SIN: math.sin, Fn.COS: math.cos, Fn.SIGMOID: lambda x: 1 / (1 + math.exp(-x)),
}  # fmt: skip


def test_every_operator():
    """One value of each."""
    for text, expected in (
        ("a + b", 3), ("a - b", -1), ("a * b", 2), ("a / b", 0.5), ("-a", -1), ("b**5", 32),
        ("detach(b)", 2), ("a < b", 1), ("a <= b", 1), ("a > b", 0), ("a >= b", 0), ("a == b", 0),
        ("a != b", 1), ("a < b and a > b", 0), ("a < b or a > b", 1), ("not a > b", 1),
    ):  # fmt: skip
        assert value(text, 1, 2) == expected, text
    assert set(FUNCTIONS) == set(Fn)
    for fn, f in FUNCTIONS.items():
        assert float(value(f"{fn.value}(a)", 0.7)) == pytest.approx(f(0.7), rel=1e-15)
        assert value(f"{fn.value}(a)", 0.7, dtype=F32).dtype == F32
    assert value("select(a < b, 1, 0)", 0, 1, dtype=F32).dtype == F32


@pytest.mark.parametrize("dtype", [F32, F64])
def test_sigmoid_does_not_overflow(dtype):
    """Far out it is 0 and 1, with no warning."""
    run_at = np.array([-1e4, -800.0, 0.0, 800.0, 1e4])
    kernel = lets("b = sigmoid(a)", results="b", inputs={Role.INPUT: "a"})
    np.testing.assert_array_equal(run(kernel, {"a": run_at}, dtype)["b"], [0, 0, 0.5, 1, 1])


@pytest.mark.parametrize("op", list(CompareOp))
def test_comparisons_with_nan_are_false(op):
    """Every one but NE, which is true."""
    for a, b in ((NAN, 0.0), (0.0, NAN), (NAN, NAN)):
        assert bool(value(f"a {op.value} b", a, b)) is (op is CompareOp.NE)


@pytest.mark.parametrize(
    ("z", "fired"),
    [(0.0, 1), (-0.0, 1), (5e-324, 1), (-5e-324, 0), (INF, 1), (-INF, 0), (NAN, 0)],
)
def test_spike(z, fired):
    """1 if z >= 0 else 0; NaN gives 0."""
    assert value("spike(a; slope 1)", z) == fired


NAN_RULES = [
    ("max(v, x)", NAN, 1.0, 1.0), ("max(v, x)", 1.0, NAN, NAN),
    ("min(v, x)", NAN, 1.0, 1.0), ("min(v, x)", 1.0, NAN, NAN),
    ("abs(v)", NAN, 0.0, NAN), ("abs(v)", -INF, 0.0, INF),
    ("clip(v, -1, 1)", NAN, 0.0, NAN), ("clip(v, -1, 1)", INF, 0.0, 1.0),
    ("clip(v, -1, 1)", -INF, 0.0, -1.0), ("clip(v, x, 1)", 0.5, NAN, 0.5),
    ("where(v > 0, 1, 2)", NAN, 0.0, 2.0), ("where(v <= 0, 1, 2)", NAN, 0.0, 2.0),
    ("where(~(v > 0), 1, 2)", NAN, 0.0, 2.0), ("where(v > 0, x, 7)", -1.0, NAN, 7.0),
    ("where(v > 0, x, 7)", 1.0, INF, INF), ("where((v > 0) & (x > 0), 1, 2)", 1.0, NAN, 2.0),
    ("where((v > 0) | (x > 0), 1, 2)", 1.0, NAN, 1.0), ("tanh(v)", INF, 0.0, 1.0),
    ("exp(v)", -INF, 0.0, 0.0), ("log(v)", -1.0, 0.0, NAN), ("sqrt(v)", -1.0, 0.0, NAN),
    ("x / v", 0.0, 1.0, INF),
]  # fmt: skip


@pytest.mark.parametrize(("text", "at_v", "at_x", "expected"), NAN_RULES)
def test_nan_and_infinity(text, at_v, at_x, expected):
    """max(NaN, b) is b, clip keeps a NaN, a comparison with NaN fails: all from their definitions.

    SymPy makes `~(v > 0)` into v <= 0 before the IR is built, so that it fails for a NaN as well.
    """
    v, x = lnm.state("v"), lnm.input("x")
    y = eval(text, {**vars(lnm), "v": v, "x": x})
    neuron = lnm.Neuron(charge={v: v}, output={"y": y, "x": x})
    found = lnm.interpret(neuron, np.full((1, 1), at_x), state={"v": at_v})
    np.testing.assert_equal(float(found.outputs["y"][0, 0]), expected)


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
    kernel = lets("c = a / b", results="c", inputs={Role.STATE: "a", Role.INPUT: "b"})
    result = run(kernel, {"a": np.array([[1.0], [-1.0]]), "b": np.array([0.0, 2.0])})
    np.testing.assert_array_equal(result["c"], [[INF, 0.5], [-INF, -0.5]])
    with pytest.raises(KeyError):
        run(kernel, {"a": 1.0})
