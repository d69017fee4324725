"""`collect`: polynomials as sums of products, every other operator on atoms."""

from __future__ import annotations

import pytest
from hypothesis import given

from lnm_codegen.ir import nodes as ir
from lnm_codegen.ir.nodes import Call, Compare, CompareOp, Fn, Power, Role, Select, Spike
from lnm_codegen.ir.passes.polynomials import collect
from lnm_codegen.ir.polynomial import is_polynomial
from lnm_codegen.ir.types import REAL
from lnm_codegen.ir.verify import verify
from tests.ir.passes.kernels import (
    C0,
    C1,
    C2,
    P,
    Q,
    Stages,
    V,
    W,
    X,
    Y,
    body,
    kernel,
    raw_values,
    same_ports,
    same_value,
    with_gradients,
)
from tests.strategies import few, generators, neurons

add, sub, mul, div, neg = ir.add, ir.sub, ir.mul, ir.div, ir.neg
TABLE = [
    (mul(P, sub(V, X)), ["h0 = p * v - p * x"]),
    (mul(add(V, ir.ONE), add(V, ir.const(2))), ["h0 = v * v + 3 * v + 2"]),
    (mul(V, add(V, ir.ONE)), ["h0 = v * v + v"]),
    (Power(add(V, ir.ONE), 2), ["t0 = v + 1", "h0 = t0 * t0"]),
    (
        add(mul(C2, Power(add(V, ir.ONE), 3)), add(mul(C1, add(V, ir.ONE)), C0)),
        ["t0 = v + 1", "h0 = c2 * t0 * t0 * t0 + c1 * t0 + c0"],
    ),
    (
        mul(mul(add(V, ir.ONE), add(V, ir.const(2))), add(V, ir.const(3))),
        ["t0 = v * v + 3 * v + 2", "t1 = v + 3", "h0 = t0 * t1"],
    ),
    (sub(V, V), ["h0 = 0 * v"]),
    (mul(add(V, X), add(W, Y)), ["t0 = v + x", "t1 = w + y", "h0 = t0 * t1"]),
    (Power(add(V, X), 3), ["t0 = v + x", "h0 = t0 * t0 * t0"]),
    (
        add(mul(C2, Power(add(V, X), 2)), add(mul(C1, add(V, X)), C0)),
        ["t0 = v + x", "h0 = c2 * t0 * t0 + c1 * t0 + c0"],
    ),
    (Call(Fn.EXP, add(V, X)), ["t0 = v + x", "h0 = exp(t0)"]),
    (add(Call(Fn.EXP, V), mul(Call(Fn.EXP, V), X)), ["t0 = exp(v)", "h0 = t0 + t0 * x"]),
    (div(add(V, X), mul(W, W)), ["t0 = v + x", "t1 = w * w", "h0 = t0 / t1"]),
    (
        Select(Compare(CompareOp.LT, mul(ir.const(2), V), X), mul(V, W), P),
        ["t0 = 2 * v", "t1 = t0 < x", "t2 = v * w", "h0 = select(t1, t2, p)"],
    ),
    (div(mul(P, Q), add(P, C0)), ["h0 = p * q / (p + c0)"]),
    (neg(mul(P, V)), ["h0 = -(p * v)"]),
]


@pytest.mark.parametrize(
    ("e", "text"), TABLE, ids=lambda t: "" if isinstance(t, list) else body(kernel(t))[0]
)
def test_text(e, text):
    """A quadratic of one variable is multiplied out; the sums of other products are atoms."""
    assert body(verify(collect(kernel(e)))) == text


def is_flat(k) -> bool:
    """Say whether operands are Vars, Consts or expressions of parameters."""
    decided = {p.var for p in k.inputs if p.role is Role.PARAM}
    for let in k.body:
        e = let.value
        if ir.variables(e) <= decided and let.target.type is REAL:
            decided.add(let.target)
        elif not is_polynomial(e):
            for child in ir.children(e):
                if not (ir.is_atom(child) or ir.variables(child) <= decided):
                    return False
    return True


@few
@given(neurons(stops=True, binds=True), generators())
def test_keeps_the_value_at_finite_arguments(neuron, rng):
    """Up to rounding, on the forward and the adjoint kernel."""
    stages = Stages(neuron)
    same_ports(stages.folded, collect(stages.folded))
    values = raw_values(neuron, rng)
    same_value(stages.folded, collect(stages.folded), values)
    prepared = with_gradients(stages.raw_adjoint, stages.prepared(values), rng)
    same_value(stages.raw_adjoint, collect(stages.raw_adjoint), prepared)


@few
@given(neurons(stops=True, binds=True))
def test_leaves_one_operator_on_atoms(neuron):
    """`backward` relies on it: a Let is a polynomial, or one operator on atoms."""
    stages = Stages(neuron)
    assert is_flat(stages.collected)
    assert is_flat(stages.adjoint)


def test_a_coefficient_that_cancels_stays():
    """v*p - v*p is (p - p)*v, and v - v is 0*v: a NaN still reaches the result."""
    (line,) = body(collect(kernel(sub(mul(P, V), mul(P, V)))))
    assert line == "h0 = (p - p) * v"


def test_a_spike_takes_an_atom():
    """The argument of a Spike becomes a Let; its slope follows."""
    slope = div(ir.ONE, add(ir.ONE, V))
    k = verify(collect(kernel(Spike(V, slope))))
    assert body(k) == ["h0 = spike(v; slope 1 / (1 + v))"]
