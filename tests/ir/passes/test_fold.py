"""`fold`: constants, exactly, and nothing that could hide a NaN or an infinity."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given

from lnm_codegen.ir import nodes as ir
from lnm_codegen.ir.nodes import Binary, BinaryOp, Const, Select, Unary, UnaryOp
from lnm_codegen.ir.passes.simplify import fold
from lnm_codegen.ir.verify import verify
from tests.ir.passes.kernels import (
    N,
    Stages,
    V,
    X,
    body,
    evaluated,
    kernel,
    raw_values,
    same_bits,
    same_ports,
    same_value,
    with_gradients,
)
from tests.strategies import few, generators, neurons

one, zero, two = ir.ONE, ir.ZERO, ir.const(2)
third = Const(Fraction(1, 3))
V_IS_LESS, UNDECIDED = ir.Compare(ir.CompareOp.LT, V, X), "select(v < x, v, x)"
pi = Const(Fraction("3.141592653589793238462643383279502884197"), "pi")


@pytest.mark.parametrize(
    ("e", "text"),
    [
        (ir.mul(one, V), "v"), (ir.mul(V, one), "v"), (ir.div(V, one), "v"),
        (ir.add(V, zero), "v"), (ir.add(zero, V), "v"), (ir.sub(V, zero), "v"),
        (ir.add(two, third), "7/3"), (ir.mul(two, third), "2/3"), (ir.div(two, third), "6"),
        (ir.sub(third, two), "-5/3"), (ir.neg(ir.neg(V)), "v"),
        (Unary(UnaryOp.NEG, Unary(UnaryOp.NEG, V)), "v"),
        (Unary(UnaryOp.NEG, two), "-2"),
        (ir.mul(ir.add(one, zero), ir.add(V, ir.mul(zero, two))), "v"),
        (Select(ir.Compare(ir.CompareOp.LT, V, X), zero, zero), "0"),
        (ir.Detach(third), "1/3"), (ir.Detach(ir.Detach(V)), "detach(v)"),
    ],
)  # fmt: skip
def test_folds(e, text):
    """Exact rationals, neutral elements, double negations."""
    (line,) = body(fold(kernel(e)))
    assert line == f"h0 = {text}"


@pytest.mark.parametrize(
    "e",
    [ir.mul(one, pi), ir.mul(pi, one), ir.div(pi, one), ir.add(zero, pi), ir.sub(pi, zero)],
    ids=lambda e: body(kernel(e))[0],
)
def test_a_named_constant_keeps_its_name(e):
    """1*pi is pi, not its 40 digits."""
    assert [let.value for let in fold(kernel(e)).body] == [pi]


@pytest.mark.parametrize(
    "e",
    [
        ir.mul(zero, V), ir.mul(V, zero), ir.sub(V, V), ir.div(V, V), ir.div(zero, V),
        ir.div(V, zero), ir.div(one, zero), ir.sub(zero, V), ir.div(one, V),
        Select(ir.Compare(ir.CompareOp.LT, V, X), V, V), ir.mul(Const(Fraction(-1)), V),
    ],
    ids=lambda e: body(kernel(e))[0],
)  # fmt: skip
def test_keeps(e):
    """0*v, v - v and v/v are NaN where v is not finite; the kernel itself is returned."""
    k = kernel(e)
    assert fold(k) is k


@pytest.mark.parametrize(
    ("e", "expected"),
    [
        (ir.mul(zero, V), [np.nan, np.nan, np.nan, 0]),
        (ir.sub(V, V), [np.nan, np.nan, np.nan, 0]),
        (ir.div(V, V), [np.nan, np.nan, np.nan, 1]),
    ],
)
def test_a_nan_reaches_the_result(e, expected):
    """Terms that cancel by hand are not finite if v is not."""
    values = {p.var.name: 1.0 for p in kernel(e).inputs}
    values["v"] = np.resize([np.nan, np.inf, -np.inf, 3.0], N)
    np.testing.assert_array_equal(evaluated(fold(kernel(e)), values)["h0"][:4], expected)


def test_named_constants_fold_to_their_value():
    """pi - pi is 0, whatever the names."""
    pi = Const(Fraction("3.141592653589793238462643383279502884197"), "pi")
    assert body(fold(kernel(Binary(BinaryOp.SUB, pi, pi)))) == ["h0 = 0"]
    assert body(fold(kernel(ir.mul(pi, V)))) == ["h0 = pi * v"]


@few
@given(neurons(stops=True, binds=True), generators())
def test_keeps_the_value(neuron, rng):
    """Each result is unchanged up to rounding, finite or not; ports stay; a second fold is idle."""
    stages = Stages(neuron)
    for before in (stages.built, stages.raw_adjoint):
        after = verify(fold(before))
        same_ports(before, after)
        assert fold(after) is after
    for special in (False, True):
        same_value(stages.built, stages.folded, raw_values(neuron, rng, special))
    given = with_gradients(stages.raw_adjoint, stages.prepared(raw_values(neuron, rng)), rng)
    same_value(stages.raw_adjoint, fold(stages.raw_adjoint), given)


@few
@given(neurons(stops=True, binds=True), generators())
def test_a_folded_kernel_is_folded(neuron, rng):
    """The second fold changes no bit."""
    k = Stages(neuron).folded
    same_bits(k, fold(k), raw_values(neuron, rng))


@pytest.mark.parametrize(
    ("cond", "text"),
    [
        (ir.Compare(ir.CompareOp.LT, third, pi), "v"),
        (ir.Compare(ir.CompareOp.NE, pi, pi), "x"),
        (Unary(UnaryOp.NOT, ir.Compare(ir.CompareOp.GE, one, one)), "x"),
        (Binary(BinaryOp.AND, ir.Compare(ir.CompareOp.GT, one, two), V_IS_LESS), "x"),
        (Binary(BinaryOp.OR, V_IS_LESS, ir.Compare(ir.CompareOp.EQ, two, two)), "v"),
        (Binary(BinaryOp.AND, V_IS_LESS, ir.Compare(ir.CompareOp.LE, one, two)), UNDECIDED),
        (Binary(BinaryOp.OR, ir.Compare(ir.CompareOp.LT, two, one), V_IS_LESS), UNDECIDED),
        (Binary(BinaryOp.AND, V_IS_LESS, V_IS_LESS), "select(v < x and v < x, v, x)"),
    ],
)  # fmt: skip
def test_conditions_on_constants_are_decided(cond: ir.Expr, text: str) -> None:
    assert body(fold(kernel(Select(cond, V, X)))) == [f"h0 = {text}"]
