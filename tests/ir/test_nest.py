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
from lnm_codegen.ir.nodes import Expr, Kernel, Role, Var
from lnm_codegen.ir.passes.polynomials import worth_nesting
from tests.analysis.exactly import trace
from tests.ir.kernels import body, kernel, ordered
from tests.strategies import few

SPIKE = {"grad_spike_2", "grad_fired", "slope_fired", "grad_z", "grad_v_threshold", "v_next"}
"""Lets of the spike and the reset, which no polynomial needs."""


def two_states(degree: int, constant: bool = False, hard: bool = False) -> lnm.Neuron:
    """Return v <- P(v, w) + x, w <- Q(v, w), dense and with free coefficients.

    The reset is soft and of v, or hard and of both states.
    """
    v, w, x = lnm.state("v"), lnm.state("w"), lnm.input("x")
    exponents = [(n - j, j) for n in range(1 - constant, degree + 1) for j in range(n + 1)]

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


@pytest.mark.parametrize("degree", range(1, 6))
@pytest.mark.parametrize("constant", [False, True])
def test_multiplications_by_degree(degree: int, constant: bool) -> None:
    """With n coefficients: n a polynomial, n for its gradients, and n or the terms of two slopes.

    A search of all nested forms found no fewer for degrees 1 to 3. A constant takes no
    multiplication forward, since x follows as an addition. Its gradient is the upstream gradient.
    """
    n, slopes = degree * (degree + 3) // 2, degree * (degree + 1)
    program = lnm.lower(two_states(degree, constant))
    assert multiplications(program.forward) == 2 * n
    assert multiplications(program.backward) == (n + n + n) + (n + slopes)


@pytest.mark.parametrize(("degree", "least"), [(1, 12), (2, 30), (3, 54)])
def test_multiplications_if_both_values_are_needed(degree: int, least: int) -> None:
    """Hard reset of both states passes (0 - h_w) to the spike, so Q is computed again as well."""
    assert multiplications(lnm.lower(two_states(degree, hard=True)).backward) == least


def test_text() -> None:
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


def test_multiples_of_a_coefficient_are_prepared() -> None:
    """3*theta is not multiplied in every step, also where nothing multiplies it there."""
    program = lnm.lower(two_states(4))
    constants = [n for let in program.backward.body for n in ir.walk(let.value)]
    assert not any(isinstance(n, ir.Fma) and isinstance(n.a, ir.Const) for n in constants)
    assert "theta_w_5_x3 = 3 * theta_w_5" in body(program.prepare)


def test_only_what_saves_is_nested() -> None:
    """Equal numbers leave a polynomial as it is; one that the adjoint lacks is not tried.

    The adjoint is not even made for polynomials whose slopes share nothing.
    """

    def adjoint(targets: object) -> Kernel:
        raise AssertionError

    alone = kernel("c1 * v**2 + c2 * w", "p * v + c0 * x", "v * w + x", "x - v * w")
    assert worth_nesting(alone, adjoint) == frozenset()
    h0, h1 = Var("h0"), Var("h1")
    k = kernel(*[f"{c} * (v * w) + x" for c in ("c0", "c1", "c2")])
    dear, cheap = kernel("p * v * w", "v * w"), kernel("p * v", "v * w")
    assert worth_nesting(k, lambda targets: dear) == frozenset()
    assert worth_nesting(k, lambda targets: cheap if h1 in targets else dear) == {h1}
    assert worth_nesting(k, lambda targets: dear if targets <= {h0, h1} else cheap) == frozenset()


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


@few
@given(polynomials, polynomials, st.integers(0, 3), st.data())
@example({(1, 3): 2, (1, 4): 1}, {(1, 3): 2, (1, 4): 1, (2, 2): None}, 3, None)
def test_values_and_gradients_are_those_of_sympy(p, q, output, data):
    """Of random polynomials, without rounding, with respect to everything.

    The adjoint repeats the operations of the step: h and h_w have the same bits in both.
    """
    neuron = coupled(p, q, output)
    program = lnm.lower(neuron)
    one, other = (unfolded(k) for k in (program.forward, program.backward))
    for name in {"h", "h_w"} & one.keys() & other.keys():
        assert one[name] == other[name]
    params = program.prepare.input_names(Role.PARAM)
    names = [*params, "v", "w", "x", "grad_y", "grad_v_next", "grad_w_next"]
    values = {n: data.draw(numbers, label=n) if data else Fraction(3, 8) for n in names}

    prepared = trace(program.prepare, values)
    forward = trace(program.forward, prepared)
    backward = trace(program.backward, prepared)
    taken = program.prepare_backward.input_names(Role.GRAD)
    sums = {n: backward.get(n.replace("sum_", "grad_", 1), Fraction(0)) for n in taken}
    gradients = backward | trace(program.prepare_backward, values | sums)

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


def unfolded(k: Kernel) -> dict[str, Expr]:
    """Return the values of the Lets in terms of the inputs alone."""
    table: dict[Var, Expr] = {}
    for let in k.body:
        table[let.target] = ir.substitute(let.value, table)
    return {v.name: ordered(e) for v, e in table.items()}
