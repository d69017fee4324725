"""`estrin`: the same polynomial on a shorter chain."""

from __future__ import annotations

import math

import pytest
from hypothesis import given

import lnm_codegen as lnm
from lnm_codegen.ir import nodes as ir
from lnm_codegen.ir.passes.polynomials import estrin, horner
from lnm_codegen.ir.verify import verify
from tests.ir.passes.kernels import (
    Stages,
    X,
    body,
    depth,
    kernel,
    powers_in_the_step,
    raw_values,
    same_ports,
    same_value,
    with_gradients,
)
from tests.ir.passes.test_horner import cubic
from tests.strategies import few, generators, neurons


def test_text():
    """Pairs side by side, joined by v*v; the input is added last."""
    assert body(verify(estrin(kernel(ir.add(cubic(), X))))) == [
        "h0 = fma(fma(c3, v, c2), v * v, fma(c1, v, c0)) + x"
    ]


def test_shared_squares():
    """v*v, (v*v)*(v*v) are computed once, by cse."""
    assert body(lnm.lower(lnm.get("lnm", degree=5), "estrin").forward)[:2] == [
        "t0 = v * v",
        "h = fma(fma(theta_5, v, theta_4), t0 * t0, fma(fma(theta_3, v, theta_2), t0,"
        " fma(theta_1, v, theta_0))) + x",
    ]


@pytest.mark.parametrize("degree", range(1, 9))
def test_the_chain_is_logarithmic(degree):
    """ceil(log2(degree + 1)) multiply-adds deep, against degree of Horner; then the input."""
    neuron = lnm.get("lnm", degree=degree)
    forward = Stages(neuron).forward
    longest = {
        scheme: max(depth(let.value) for let in scheme(forward).body if let.target.name == "h")
        for scheme in (horner, estrin)
    }
    assert longest[horner] == degree + 1
    assert longest[estrin] == math.ceil(math.log2(degree + 1)) + 1


@few
@given(neurons(), generators())
def test_keeps_the_value_and_leaves_no_power(neuron, rng):
    """Forward and adjoint, up to rounding; equal to horner's as well."""
    stages = Stages(neuron)
    values = stages.prepared(raw_values(neuron, rng))
    for before in (stages.forward, stages.adjoint):
        after = verify(estrin(before))
        same_ports(before, after)
        assert not powers_in_the_step(after)
        given = with_gradients(before, values, rng)
        same_value(before, after, given)
        same_value(horner(before), after, given)
