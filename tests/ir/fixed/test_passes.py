"""Passes on fixed-point kernels before they become circuits, and the spans of integers."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lnm_codegen as lnm
from lnm_codegen.compiler.fixed import program_of
from lnm_codegen.errors import InternalError
from lnm_codegen.ir.fixed import nodes as fx
from lnm_codegen.ir.fixed.nodes import SumOp, always_fits, span, spans
from lnm_codegen.ir.interpret import run, trace
from lnm_codegen.ir.kernel import Role
from lnm_codegen.ir.nodes import CompareOp
from lnm_codegen.ir.passes.simplify import compare_sides, fold_zeros
from lnm_codegen.ir.types import Bits, Rounding
from lnm_codegen.ir.verify import verify
from tests.refusals import refused
from tests.strategies import few, generators, neurons

V, W = fx.Var("v", Bits(4, 2)), fx.Var("w", Bits(3, 2))


def const(integer: int, width: int = 4) -> fx.Const:
    return fx.Const(integer, Bits(width, 2), Fraction(integer, 4))


def inputs_of(kernel: fx.Kernel, rng: np.random.Generator, count: int = 200):
    """Draw integers of every input's format, the ends among them."""
    values = {}
    for port in kernel.inputs:
        bits = port.var.type
        drawn = rng.integers(bits.low, bits.high, count, endpoint=True)
        drawn[:3] = (bits.low, bits.high, 0)
        values[port.var.name] = rng.permutation(drawn)
    return values


def spec_of(kernel: fx.Kernel, rng: np.random.Generator) -> lnm.FixedSpec:
    """Draw formats for some inputs of a kernel."""
    modes = ("half_up", "truncate", "convergent")
    return lnm.FixedSpec(
        lnm.Fixed(14, 9, str(rng.choice(modes))),
        {
            p.var.name: lnm.Fixed(int(rng.integers(6, 18)), int(rng.integers(2, 5)))
            for p in kernel.inputs
            if rng.random() < 0.3
        },
    )


@settings(few, max_examples=20)
@given(neurons(fixed=True), generators())
def test_passes_keep_values(neuron, rng):
    """Of random kernels, which stay well formed. Spans hold every value: a clamp may go."""
    plain = program_of(neuron, lnm.Fixed(14, 9)).kernel
    kernel = program_of(neuron, spec_of(plain, rng)).kernel
    values = inputs_of(kernel, rng)

    direct = verify(compare_sides(kernel))
    expected, found = run(kernel, values), run(direct, values)
    assert all(np.all(found[n] == expected[n]) for n in expected)
    read = {v for let in direct.body for v in fx.variables(let.value)}
    assert {let.target for let in direct.body} <= read | {p.var for p in direct.results}

    fixed = {v.name: int(values[v.name][0]) for v in kernel.input_vars(Role.PARAM)}
    values |= {n: np.full(200, k) for n, k in fixed.items()}
    inside = spans(kernel, fixed)
    env = trace(kernel, values)
    for name, (low, high) in inside.items():
        assert low <= env[name].min() <= env[name].max() <= high, name
    again = trace(kernel.map_values(lambda e: _unclamped(e, inside)), values)
    assert all(np.all(again[n] == env[n]) for n in env)

    zeros = dict.fromkeys((n for n in fixed if rng.random() < 0.4), 0)
    values |= dict.fromkeys(zeros, np.zeros(200, np.int64))
    folded = verify(fold_zeros(kernel, zeros))
    env, again = trace(kernel, values), trace(folded, values)
    assert all(np.all(again[n] == env[n]) for n in env)
    products = (e for x in folded.body for e in fx.walk(x.value) if isinstance(e, fx.Product))
    for node in products:
        assert not {node.lhs, node.rhs} & {fx.Var(n, fx.type_of(node.lhs)) for n in zeros}


def _unclamped(e: fx.Expr, env) -> fx.Expr:
    """Return `e` without the clamps that never act."""
    e = fx.map_children(e, lambda c: _unclamped(c, env))
    if isinstance(e, fx.Saturate) and always_fits(e, env):
        return e.arg
    return e


def test_direct_compares_the_sides():
    """`z = h - v_threshold; z >= 0` becomes one comparison, and the difference goes."""
    kernel = compare_sides(lnm.quantize(lnm.get("lnm", degree=1), lnm.Fixed(16, 12)).kernel)
    lets = {let.target.name: let.value for let in kernel.body}
    assert "z" not in lets
    h, threshold = (fx.Var(n, Bits(16, 12)) for n in ("h", "v_threshold"))
    assert lets["fired"] == fx.Compare(CompareOp.GE, h, threshold)


def test_zeros_leave_what_is_none():
    """A parameter of another value, and one that is not known."""
    kernel = lnm.quantize(lnm.get("lnm", degree=1), lnm.Fixed(16, 12)).kernel
    assert fold_zeros(kernel, {"theta_1": 1}) == kernel
    assert fold_zeros(kernel, {}) == kernel
    assert fold_zeros(kernel, {"theta_0": 0}) == kernel  # it is added
    first = fold_zeros(kernel, {"theta_1": 0}).body[0].value
    zero = fx.Const(0, Bits(32, 24), Fraction(0))
    assert zero in set(fx.walk(first))


ENV = {"v": (-8, 7), "w": (-4, 3)}

SPANS = [
    (const(3), (3, 3)),
    (V, (-8, 7)),
    (fx.Negate(V), (-7, 8)),
    (fx.Sum(SumOp.ADD, V, W), (-12, 10)),
    (fx.Sum(SumOp.SUB, V, W), (-11, 11)),
    (fx.Product(V, W), (-28, 32)),
    (fx.Product(V, V), (0, 64)),
    (fx.Product(fx.Var("p", Bits(4, 2)), fx.Var("p", Bits(4, 2))), (4, 25)),
    (fx.Shift(V, 2), (-32, 28)),
    (fx.Round(V, 1, Rounding.TRUNCATE), (-4, 3)),
    (fx.Round(V, 1, Rounding.HALF_UP), (-4, 4)),
    (fx.Round(V, 1, Rounding.CONVERGENT), (-4, 4)),
    (fx.Saturate(V, 3), (-4, 3)),
    (fx.Saturate(W, 4), (-4, 3)),
    (fx.Select(fx.Compare(CompareOp.LT, V, W), V, const(9, 5)), (-8, 9)),
]  # fmt: skip


@pytest.mark.parametrize(("e", "expected"), SPANS, ids=lambda x: type(x).__name__)
def test_the_span_of_every_node(e, expected):
    """The least and the greatest integer."""
    assert span(e, ENV | {"p": (2, 5)}) == expected


def test_conditions_have_no_span():
    """The span of a condition is a mistake of the caller."""
    with refused(InternalError, "spans", "Compare is not a number"):
        span(fx.Compare(CompareOp.LT, V, W), ENV)


@given(st.data())
def test_the_span_of_rounding_is_reached(data):
    """Every rounding of every operand stays inside, and the ends of the interval are near."""
    low = data.draw(st.integers(-100, 100))
    high = data.draw(st.integers(low, 120))
    places = data.draw(st.integers(1, 5))
    rounding = data.draw(st.sampled_from(Rounding))
    e = fx.Round(fx.Var("a", Bits(9, 5)), places, rounding)
    kernel = fx.Kernel(
        "k",
        (fx.Port(fx.Var("a", Bits(9, 5)), Role.INPUT),),
        (fx.Let(fx.Var("b", fx.bits_of(e)), e, lnm.ir.kernel.Phase.CHARGE),),
        (fx.Port(fx.Var("b", fx.bits_of(e)), Role.OUTPUT),),
    )
    values = run(kernel, {"a": np.arange(low, high + 1)})["b"]
    first, last = span(e, {"a": (low, high)})
    assert first <= values.min() <= first + 1
    assert last - 1 <= values.max() <= last
