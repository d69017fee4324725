"""`hoist`: expressions of parameters alone move to `prepare`."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given

import lnm_codegen as lnm
from lnm_codegen.ir import nodes as ir
from lnm_codegen.ir.nodes import Call, Compare, CompareOp, Fn, Role, Select, Spike
from lnm_codegen.ir.passes.hoist import hoist
from lnm_codegen.ir.verify import verify
from tests.ir.passes.kernels import (
    C0,
    C1,
    N,
    P,
    Q,
    Stages,
    V,
    X,
    body,
    evaluated,
    identity,
    kernel,
    raw_values,
)
from tests.strategies import few, generators, neurons

import numpy as np  # isort: skip

add, sub, mul, div, neg = ir.add, ir.sub, ir.mul, ir.div, ir.neg


def hoisted(*values):
    k = kernel(*values)
    prepare, moved = hoist(identity(k), k)
    return body(verify(prepare)), body(verify(moved)), moved


def test_names_say_what_was_moved():
    """1/p, 2*p, exp(p) have names of their own; the rest are p0, p1, ..."""
    values = [
        mul(div(ir.ONE, P), V), mul(mul(ir.const(2), P), V), mul(Call(Fn.SIGMOID, P), V),
        mul(sub(P, Q), V), mul(ir.const(12), V),
    ]  # fmt: skip
    prepare, moved, _ = hoisted(*values)
    assert prepare == [
        "inv_p = 1 / p", "p_x2 = 2 * p", "sigmoid_p = sigmoid(p)", "p0 = p - q",
    ]  # fmt: skip
    assert moved == [
        "h0 = inv_p * v", "h1 = p_x2 * v", "h2 = sigmoid_p * v", "h3 = p0 * v", "h4 = 12 * v",
    ]  # fmt: skip


def test_the_same_expression_is_prepared_once():
    """Two kernels that need 1/p share one parameter."""
    one, other = kernel(mul(div(ir.ONE, P), V)), kernel(div(X, add(P, div(ir.ONE, P))))
    prepare, first, second = hoist(identity(one), one, other)
    assert body(prepare) == ["inv_p = 1 / p", "p0 = p + 1 / p"]
    assert "inv_p" in first.input_names(Role.PARAM)
    assert second.input_names(Role.PARAM) == ("p0",)


def test_ports_are_those_that_are_read():
    """PARAM ports that no Let reads are dropped; the new ones come last."""
    _, _, moved = hoisted(mul(div(C0, Q), V), add(C1, V))
    assert moved.input_names(Role.PARAM) == ("c1", "p0")
    assert moved.input_names(Role.STATE) == ("v", "w")


def test_a_sign_stays_in_the_step():
    """-p alone is no work: subtraction and fma take it for nothing."""
    prepare, moved, _ = hoisted(add(neg(P), V))
    assert (prepare, moved) == ([], ["h0 = -p + v"])


def test_a_condition_of_parameters_stays():
    """A BOOL is no parameter; its operands may be."""
    cond = Compare(CompareOp.LT, mul(P, Q), ir.ONE)
    prepare, moved, _ = hoisted(Select(cond, V, X))
    assert prepare == ["p0 = p * q"]
    assert moved == ["h0 = select(p0 < 1, v, x)"]


def test_the_slope_of_a_spike_follows_its_argument():
    """`fire=w - 0.2` once left `z` in the slope after it had become a parameter."""
    z = ir.Var("z")
    k = kernel(sub(P, Q), Spike(z, div(ir.ONE, add(ir.ONE, z))))
    named = replace(k.body[0], target=z)
    k = replace(k, body=(named, *k.body[1:]), results=k.results[1:])
    prepare, moved = hoist(identity(k), k)
    assert body(verify(prepare)) == ["p0 = p - q"]
    assert body(verify(moved)) == ["h1 = spike(p0; slope 1 / (1 + p0))"]


@pytest.mark.parametrize("reset", ["soft", "hard"])
def test_a_spike_that_parameters_decide_stays_in_the_step(reset):
    """It is a BOOL, no prepared parameter; `collect` once took it for a coefficient."""
    v, x, w = lnm.state("v"), lnm.input("x"), lnm.param("w", init=0.5)
    resets = {"soft": lnm.soft_reset(v, w), "hard": lnm.hard_reset(v, w)}
    neuron = lnm.Neuron(charge={v: v / 2 + x}, fire=w - 1, reset=resets[reset])
    program = lnm.lower(neuron, on_pass=lambda _, k: verify(k))
    assert body(program.prepare)[0] == "p0 = w - 1"
    assert "fired = spike(p0; slope 1 / ((pi**2) * p0**2 + 1))" in body(program.forward)


def test_plif():
    """sigmoid(w) and 1 - sigmoid(w) are prepared; the step has one multiply-add."""
    program = lnm.lower(lnm.get("plif"))
    assert body(program.prepare) == ["sigmoid_w = sigmoid(w)", "p0 = 1 - sigmoid_w"]
    assert body(program.forward)[0] == "h = fma(sigmoid_w, x, p0 * v)"


@few
@given(neurons(stops=True, binds=True), generators())
def test_keeps_every_bit(neuron, rng):
    """prepare, then the step, computes the values of the whole step."""
    stages = Stages(neuron)
    values = raw_values(neuron, rng, special=True)
    before = evaluated(stages.collected, values)
    after = evaluated(stages.forward, stages.prepared(values))
    assert before.keys() == after.keys()
    for name, value in before.items():
        np.testing.assert_array_equal(after[name], value)
        assert value.shape == (N,)


@few
@given(neurons(stops=True, binds=True))
def test_leaves_no_work_of_parameters_in_the_step(neuron):
    """No operator of the final step kernels has only parameters under it, a sign excepted."""
    program = lnm.lower(neuron)
    for k in (program.forward, program.backward):
        params = {p.var for p in k.inputs if p.role is Role.PARAM}
        results = {p.var for p in k.results}
        for let in k.body:
            if let.target in results:
                continue
            for node in ir.walk(let.value):
                read = ir.variables(node)
                if ir.is_atom(node) or not read or not read <= params:
                    continue
                negated = isinstance(node, ir.Unary) and isinstance(node.arg, ir.Var)
                assert negated or ir.type_of(node) is ir.BOOL, f"{let.target.name}: {node}"
