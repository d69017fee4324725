"""`nest`: derivatives read the sums of Horner's scheme, with the fewest multiplications."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
import sympy
from hypothesis import example, given
from hypothesis import strategies as st

import lnm_codegen as lnm
from lnm_codegen.ir import nodes as ir
from lnm_codegen.ir.count import count
from lnm_codegen.ir.nodes import BinaryOp, Expr, Kernel, Power, Role, Var
from lnm_codegen.ir.passes.polynomials import nest, worth_nesting
from lnm_codegen.ir.verify import verify
from tests.ir.passes.forms import dense, fewest_backward, fewest_forward, monomials
from tests.ir.passes.kernels import (
    C0,
    C1,
    C2,
    C3,
    P,
    Stages,
    V,
    W,
    X,
    body,
    kernel,
    raw_values,
    same_ports,
    same_value,
)
from tests.strategies import few, generators, neurons

add, mul = ir.add, ir.mul
SPIKE = {"grad_spike_2", "grad_fired", "slope_fired", "grad_z", "grad_v_threshold", "v_next"}
"""Lets of the spike and the reset, which no polynomial needs."""


def two_states(degree: int, constant: bool = False, hard: bool = False) -> lnm.Neuron:
    """Return v <- P(v, w) + x, w <- Q(v, w), dense and with free coefficients.

    The reset is soft and of v, or hard and of both states.
    """
    v, w, x = lnm.state("v"), lnm.state("w"), lnm.input("x")
    exponents = [*([(0, 0)] if constant else []), *monomials(degree)]

    def polynomial(name: str) -> Any:
        theta = lnm.param(name, size=len(exponents), init=(0.25,) * len(exponents))
        return sum(theta[k] * v**i * w**j for k, (i, j) in enumerate(exponents))

    threshold = lnm.param("v_threshold", init=1.0)
    zero = {v: lnm.where(lnm.spike, 0, v), w: lnm.where(lnm.spike, 0, w)}
    return lnm.Neuron(
        charge={v: polynomial("theta_v") + x, w: polynomial("theta_w")},
        fire=v - threshold,
        reset=zero if hard else lnm.soft_reset(v, threshold),
        name="two_states",
    )


def multiplications(k: Kernel) -> int:
    """Return the multiplications and multiply-adds of the polynomials and their gradients."""
    operations = count(replace(k, body=tuple(x for x in k.body if x.target.name not in SPIKE)))
    return operations.multiplications + operations.fused


@pytest.mark.parametrize("degree", [1, 2, 3])
def test_no_nested_form_takes_fewer_multiplications(degree):
    """Forward: P and Q. Backward: h = P + x is computed again, Q is not."""
    program = lnm.lower(two_states(degree))
    p, q = dense(degree, "x"), dense(degree)
    assert multiplications(program.forward) == fewest_forward([p, q])
    least = fewest_backward(p, needs_value=True) + fewest_backward(q, needs_value=False)
    assert multiplications(program.backward) == least


@pytest.mark.parametrize("degree", [1, 2, 3])
def test_nor_if_both_values_are_needed(degree):
    """Hard reset of both states passes (0 - h_w) to the spike, so Q is computed again as well."""
    program = lnm.lower(two_states(degree, hard=True))
    least = sum(fewest_backward(dense(degree, *c), needs_value=True) for c in (["x"], []))
    assert multiplications(program.backward) == least


@pytest.mark.parametrize("degree", range(1, 6))
@pytest.mark.parametrize("constant", [False, True])
def test_multiplications_by_degree(degree, constant):
    """With n coefficients: n a polynomial, n for its gradients, and n or the terms of two slopes.

    A constant takes no multiplication forward, since x follows as an addition. Its gradient is the
    upstream gradient.
    """
    n, slopes = degree * (degree + 3) // 2, degree * (degree + 1)
    program = lnm.lower(two_states(degree, constant))
    assert multiplications(program.forward) == 2 * n
    assert multiplications(program.backward) == (n + n + n) + (n + slopes)


def test_the_search_knows_powers():
    """It finds what can be counted by hand."""
    cubic = frozenset(((n, 0), f"c{n}", 1) for n in range(4))
    assert fewest_forward([cubic]) == 3
    assert fewest_backward(cubic, needs_value=False) == 2 + 1 + 3  # dp/dv, times g, c1 to c3
    square = frozenset({((2, 2), "c", 1)})
    assert fewest_forward([square]) == 3  # m = v*w, c*m*m
    assert fewest_forward([square, square]) == 4  # m*m, times c and d


def test_text():
    """The slopes of h read its nested sums t0, t1; those of h_w, which is not computed, do not."""
    text = body(lnm.lower(two_states(2)).backward)
    assert text[:3] == [
        "t0 = fma(theta_v_2, v, fma(theta_v_3, w, theta_v_0))",
        "t1 = fma(theta_v_4, w, theta_v_1)",
        "h = fma(t0, v, fma(t1, w, x))",
    ]
    assert "dh_dv = fma(theta_v_2, v, t0)" in text
    assert "dh_dw = fma(theta_v_3, v, fma(theta_v_4, w, t1))" in text
    assert "dh_w_dv = fma(theta_w_3, w, fma(theta_w_2_x2, v, theta_w_0))" in text


def test_multiples_of_a_coefficient_are_prepared():
    """3*theta is not multiplied in every step, also where nothing multiplies it there."""
    program = lnm.lower(two_states(4))
    constants = [n for let in program.backward.body for n in ir.walk(let.value)]
    assert not any(isinstance(n, ir.Fma) and isinstance(n.a, ir.Const) for n in constants)
    assert "theta_w_5_x3 = 3 * theta_w_5" in str(program.prepare)


def test_nest_text():
    """Each nested sum is a Let; a polynomial of one variable stays, as does one not named."""
    e = add(add(add(C0, mul(C1, V)), mul(C2, mul(V, W))), add(mul(C3, Power(V, 2)), X))
    k = kernel(e, add(mul(P, V), X))
    assert body(verify(nest(k, {Var("h0")}))) == [
        "t0 = c1 + c2 * w + c3 * v",
        "h0 = c0 + x + v * t0",
        "h1 = p * v + x",
    ]
    assert nest(k, frozenset()) is k


def test_only_products_of_variables_are_tried():
    """The adjoint is not even made for polynomials whose slopes share nothing."""

    def adjoint(targets: object) -> Kernel:
        raise AssertionError

    alone = [add(mul(C1, Power(V, 2)), mul(C2, W)), add(mul(P, V), mul(C0, X))]
    bilinear = [add(mul(V, W), X), ir.sub(X, mul(V, W))]
    assert worth_nesting(kernel(*alone, *bilinear), adjoint) == frozenset()


def test_only_what_saves_is_nested():
    """Equal numbers leave a polynomial as it is; one that the adjoint lacks is not tried."""
    h0, h1 = Var("h0"), Var("h1")
    k = kernel(*[add(mul(c, mul(V, W)), X) for c in (C0, C1, C2)])
    dear, cheap = kernel(mul(mul(P, V), W), mul(V, W)), kernel(mul(P, V), mul(V, W))
    assert worth_nesting(k, lambda targets: dear) == frozenset()
    assert worth_nesting(k, lambda targets: cheap if h1 in targets else dear) == {h1}
    assert worth_nesting(k, lambda targets: dear if targets <= {h0, h1} else cheap) == frozenset()


@few
@given(neurons(), generators())
def test_nest_keeps_the_value(neuron, rng):
    """Of every polynomial of the step, up to rounding."""
    stages = Stages(neuron)
    polynomials = {x.target for x in stages.forward.body if ir.type_of(x.value) is ir.REAL}
    targets = {t for t in polynomials if is_sum(stages.forward, t)}
    after = verify(nest(stages.forward, targets))
    same_ports(stages.forward, after)
    same_value(stages.forward, after, stages.prepared(raw_values(neuron, rng)))


def is_sum(k: Kernel, target: Var) -> bool:
    (value,) = [x.value for x in k.body if x.target == target]
    return isinstance(value, ir.Binary) and value.op in (BinaryOp.ADD, BinaryOp.SUB)


exponents = st.tuples(st.integers(0, 4), st.integers(0, 4)).filter(lambda m: 0 < sum(m) <= 5)
polynomials = st.dictionaries(exponents, st.sampled_from([None, 1, -1, 2, Fraction(-3, 8)]))
numbers = st.fractions(-2, 2, max_denominator=8)


def coupled(p: Mapping[Any, Any], q: Mapping[Any, Any], output: int) -> lnm.Neuron:
    """Return v <- p(v, w) + x, w <- q(v, w) with one output; a coefficient None is a parameter."""
    v, w, x = lnm.state("v"), lnm.state("w"), lnm.input("x")

    def polynomial(name: str, terms: Mapping[Any, Any]) -> Any:
        free = [m for m, c in terms.items() if c is None]
        theta = lnm.param(name, size=len(free), init=(0.5,) * len(free)) if free else ()
        coefficients = {
            m: theta[free.index(m)] if c is None else sympy.Rational(c) for m, c in terms.items()
        }
        return sum((c * v**i * w**j for (i, j), c in coefficients.items()), sympy.Integer(0))

    charge = {v: polynomial("a", p) + x, w: polynomial("b", q) + v / 4}
    y = (v, v * w, v**2 + w, w**2 - v)[output]
    return lnm.Neuron(charge=charge, output={"y": y}, name="coupled")


def evaluated(k: Kernel, values: Mapping[str, Fraction]) -> dict[str, Fraction]:
    """Run a kernel of rational operations without rounding; return all its values."""
    env = dict(values)
    for let in k.body:
        env[let.target.name] = exactly(let.value, env)
    return env


def exactly(e: Expr, env: Mapping[str, Fraction]) -> Fraction:
    match e:
        case ir.Const(value, ""):
            return value
        case Var(name):
            return env[name]
        case ir.Unary(ir.UnaryOp.NEG, a):
            return -exactly(a, env)
        case ir.Fma(a, b, c):
            return exactly(a, env) * exactly(b, env) + exactly(c, env)
        case ir.Binary(op, a, b):
            x, y = exactly(a, env), exactly(b, env)
            return {BinaryOp.ADD: x + y, BinaryOp.SUB: x - y, BinaryOp.MUL: x * y}[op]
    raise AssertionError(e)


@few
@given(polynomials, polynomials, st.integers(0, 3), st.data())
def test_values_and_gradients_are_those_of_sympy(p, q, output, data):
    """Of random polynomials, without rounding, with respect to everything."""
    neuron = coupled(p, q, output)
    program = lnm.lower(neuron)
    params = program.prepare.input_names(Role.PARAM)
    names = [*params, "v", "w", "x", "grad_y", "grad_v_next", "grad_w_next"]
    values = {n: data.draw(numbers, label=n) for n in names}

    prepared = evaluated(program.prepare, values)
    forward = evaluated(program.forward, prepared)
    backward = evaluated(program.backward, prepared)
    taken = program.prepare_backward.input_names(Role.GRAD)
    sums = {n: backward.get(n.replace("sum_", "grad_", 1), Fraction(0)) for n in taken}
    gradients = backward | evaluated(program.prepare_backward, values | sums)

    charge = dict(neuron.charge)
    after = {f"{state}_next": e for state, e in charge.items()}
    expected = {"y": dict(neuron.output)["y"].subs(charge, simultaneous=True), **after}
    symbols = {s.name: s for e in expected.values() for s in e.free_symbols}
    at = {symbols[n]: sympy.Rational(x) for n, x in values.items() if n in symbols}
    total = sum(e * sympy.Rational(values[f"grad_{n}"]) for n, e in expected.items())
    for name, e in expected.items():
        assert forward[name] == Fraction(str(sympy.sympify(e).subs(at)))
    for name in ("v", "w", "x", *params):
        slope = sympy.diff(total, symbols[name]).subs(at) if name in symbols else 0
        assert gradients[f"grad_{name}"] == Fraction(str(slope))


@few
@given(polynomials, polynomials, st.integers(0, 3))
@example({(1, 3): 2, (1, 4): 1}, {(1, 3): 2, (1, 4): 1, (2, 2): None}, 3)
def test_the_adjoint_repeats_the_operations_of_the_step(p, q, output):
    """So h and h_w have the same bits in both, and a spike on them agrees."""
    program = lnm.lower(coupled(p, q, output))
    forward, backward = (unfolded(k) for k in (program.forward, program.backward))
    for name in {"h", "h_w"} & forward.keys() & backward.keys():
        assert forward[name] == backward[name]


def unfolded(k: Kernel) -> dict[str, Expr]:
    """Return the values of the Lets in terms of the inputs alone."""
    table: dict[Var, Expr] = {}
    for let in k.body:
        table[let.target] = ir.substitute(let.value, table)
    return {v.name: ordered(e) for v, e in table.items()}


def ordered(e: Expr) -> Expr:
    """Return an expression with ordered summands and factors, which change no bits."""
    match e:
        case ir.Binary(BinaryOp.ADD | BinaryOp.MUL as op, a, b):
            return ir.Binary(op, *sorted((ordered(a), ordered(b)), key=repr))
        case ir.Binary(op, a, b):
            return ir.Binary(op, ordered(a), ordered(b))
        case ir.Unary(op, a):
            return ir.Unary(op, ordered(a))
        case ir.Fma(a, b, c):
            return ir.Fma(*sorted((ordered(a), ordered(b)), key=repr), ordered(c))
    return e
