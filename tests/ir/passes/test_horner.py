"""`horner`: nested fused multiply-adds, as few as the degree."""

from __future__ import annotations

import pytest
from hypothesis import given

import lnm_codegen as lnm
from lnm_codegen.errors import InternalError
from lnm_codegen.ir import nodes as ir
from lnm_codegen.ir.nodes import Call, Fma, Fn, Power
from lnm_codegen.ir.passes.polynomials import horner
from lnm_codegen.ir.verify import verify
from tests.ir.passes.kernels import (
    C0,
    C1,
    C2,
    C3,
    P,
    Q,
    Stages,
    V,
    W,
    X,
    Y,
    body,
    kernel,
    powers,
    powers_in_the_step,
    raw_values,
    same_ports,
    same_value,
    with_gradients,
)
from tests.refusals import refused
from tests.strategies import few, generators, neurons

add, sub, mul, neg = ir.add, ir.sub, ir.mul, ir.neg


def cubic(z: ir.Expr = V) -> ir.Expr:
    """Return c0 + c1*z + c2*z**2 + c3*z**3 as a sum of products."""
    return add(add(add(C0, mul(C1, z)), mul(C2, Power(z, 2))), mul(C3, Power(z, 3)))


TABLE = [
    (cubic(), "fma(fma(fma(c3, v, c2), v, c1), v, c0)"),
    (add(cubic(), X), "fma(fma(fma(c3, v, c2), v, c1), v, c0) + x"),
    (add(cubic(), mul(P, X)), "fma(p, x, fma(fma(fma(c3, v, c2), v, c1), v, c0))"),
    (sub(cubic(), X), "fma(fma(fma(c3, v, c2), v, c1), v, c0) - x"),
    (add(add(C0, mul(C1, V)), X), "fma(c1, v, c0) + x"),
    (add(sub(mul(C1, V), C0), X), "fma(c1, v, -c0) + x"),
    (sub(add(X, C0), mul(C1, V)), "fma(-c1, v, c0) + x"),
    (add(mul(P, X), add(Y, mul(C1, V))), "fma(p, x, fma(c1, v, y))"),
    (add(mul(P, X), mul(C1, V)), "fma(p, x, c1 * v)"),
    (sub(mul(P, X), mul(C1, V)), "fma(p, x, -(c1 * v))"),
    (
        add(add(mul(P, X), mul(Q, W)), cubic()),
        "fma(p, x, fma(q, w, fma(fma(fma(c3, v, c2), v, c1), v, c0)))",
    ),
    (add(mul(P, X), mul(C2, Power(V, 2))), "fma(p, x, c2 * v * v)"),
    (add(add(X, mul(C1, V)), mul(C2, Power(V, 2))), "fma(fma(c2, v, c1), v, x)"),
    (add(add(X, W), mul(C2, Power(V, 2))), "fma(c2 * v, v, w) + x"),
    (
        add(add(cubic(X), W), mul(P, Power(V, 2))),
        "fma(fma(fma(c3, x, c2), x, c1), x, fma(p * v, v, c0) + w)",
    ),
    (add(sub(X, W), mul(P, Y)), "fma(p, y, x - w)"),
    (add(mul(V, V), ir.ONE), "fma(v, v, 1)"),
    (add(mul(C3, Power(V, 3)), C0), "fma(c3 * v * v, v, c0)"),
    (mul(P, Power(V, 3)), "p * v * v * v"),
    (Power(V, 2), "v * v"),
    (Power(V, 8), None),
    (add(V, X), "v + x"),
    (sub(mul(P, V), mul(Q, X)), None),
    (mul(P, Q), "p * q"),
    (add(mul(V, W), mul(P, V)), None),
]


@pytest.mark.parametrize(
    ("e", "text"),
    TABLE,
    ids=lambda t: "" if isinstance(t, str) else body(kernel(t))[0] if t else "",
)
def test_text(e, text):
    """In the first state of a product; inputs are added to the finished polynomial, last."""
    k = verify(horner(kernel(e)))
    assert not powers(k)
    if text is not None:
        assert body(k) == [f"h0 = {text}"]


@pytest.mark.parametrize("degree", range(1, 9))
def test_a_polynomial_takes_as_many_multiply_adds_as_its_degree(degree):
    """Forward: degree fma and one addition, that of the input; f' takes degree - 1."""
    program = lnm.lower(lnm.get("lnm", degree=degree))
    (h,) = [let.value for let in program.forward.body if let.target.name == "h"]
    fused = [n for n in ir.walk(h) if isinstance(n, Fma)]
    assert len(fused) == degree
    assert isinstance(h, ir.Binary)
    assert h.rhs == X
    slopes = [let.value for let in program.backward.body if let.target.name == "dh_dv"]
    assert sum(isinstance(n, Fma) for e in slopes for n in ir.walk(e)) == max(degree - 1, 0)


@pytest.mark.parametrize("degree", range(1, 9))
def test_gradients_of_theta_share_the_powers(degree):
    """grad_theta_k = grad_theta_(k-1) * v: one product each, no power."""
    lines = body(lnm.lower(lnm.get("lnm", degree=degree)).backward)
    assert "grad_theta_0 = grad_h" in lines
    assert "grad_theta_1 = grad_h * v" in lines
    for k in range(2, degree + 1):
        assert f"grad_theta_{k} = grad_theta_{k - 1} * v" in lines


@few
@given(neurons(stops=True, binds=True), generators())
def test_keeps_the_value_and_leaves_no_power(neuron, rng):
    """Forward and adjoint, at finite arguments, up to rounding."""
    stages = Stages(neuron)
    values = stages.prepared(raw_values(neuron, rng))
    for before in (stages.forward, stages.adjoint):
        after = verify(horner(before))
        same_ports(before, after)
        assert not powers_in_the_step(after)
        same_value(before, after, with_gradients(before, values, rng))


@few
@given(neurons(stops=True, binds=True))
def test_a_program_holds_no_power(neuron):
    """In none of the four kernels, under either scheme; the slope inside a Spike does not count."""
    for scheme in ("horner", "estrin"):
        program = lnm.lower(neuron, scheme)
        for k in (program.forward, program.backward, program.prepare, program.prepare_backward):
            assert not powers(k)


def test_collect_comes_first():
    """A function inside a polynomial is a mistake of the pipeline."""
    with refused(InternalError, "polynomial", "contains Call", "", "Run collect first."):
        horner(kernel(add(mul(P, Call(Fn.EXP, V)), Y)))
