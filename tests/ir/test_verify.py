"""Rules of a well-formed kernel, each with a kernel that breaks it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import lnm_codegen as lnm
from lnm_codegen.ir import nodes as ir
from lnm_codegen.ir.nodes import Kernel, Let, Phase, Port, Role, Var
from lnm_codegen.ir.types import BOOL, REAL
from lnm_codegen.ir.verify import verify, verify_program
from tests.ir.kernels import expr
from tests.refusals import refused
from tests.strategies import few

X = Var("x")
C = {"c": BOOL}


def kernel(lines: str, results: str = "a", inputs: str = "v x") -> Kernel:
    """Return a kernel of reals and of the condition c."""
    ports = [
        [Port(Var(n, C.get(n, REAL)), Role.OUTPUT) for n in w.split()] for w in (inputs, results)
    ]
    pairs = (line.split(" = ") for line in lines.split("; "))
    body = (Let(Var(n, C.get(n, REAL)), expr(e, C), Phase.CHARGE) for n, e in pairs)
    return Kernel("k", tuple(ports[0]), tuple(body), tuple(ports[1]))


def test_a_valid_kernel_is_returned():
    """`verify` returns the kernel itself, so that passes can be chained."""
    good = kernel("c = v > 0; a = select(c, v, x)")
    assert verify(good) is good


GOOD = kernel("c = v > 0; a = v")
BROKEN = [
    (kernel("a = b"), "'a' reads 'b' before it is bound"),
    (kernel("a = a + v"), "'a' reads 'a' before it is bound"),
    (kernel("a = v + b; b = x"), "'a' reads 'b' before it is bound"),
    (kernel("a = v").map_values(lambda e: Var("v", BOOL)), "'a' reads 'v' before it is bound"),
    (kernel("a = v; a = x"), "'a' is bound twice"),
    (kernel("v = x", "v"), "'v' is bound twice"),
    (replace(GOOD, body=(*GOOD.body, Let(Var("c"), X, Phase.CHARGE))), "'c' is bound twice"),
    (kernel("b = v"), "the result 'a' is never bound"),
    (replace(GOOD, results=(Port(Var("c"), Role.OUTPUT),)), "the result 'c' is never bound"),
    (kernel("a = v", "a a"), "two ports share a name: a, a"),
    (kernel("a = v", inputs="v x x"), "two ports share a name: v, x, x"),
    (kernel("a = v > 0"), "'a' differs in type from its value"),
    (kernel("c = v + x", "c"), "'c' differs in type from its value"),
    (kernel("a = -(v > 0)"), "'a' has a bool as operand"),
    (kernel("a = select(v, v, x)"), "'a' has a real as operand"),
    (kernel("a = select(v > 0, v > 0, x)"), "'a' has a bool as operand"),
    (kernel("c = v > 0 and v", "c"), "'c' has a real as operand"),
    (kernel("c = not v", "c"), "'c' has a real as operand"),
    (kernel("c = (v > 0) == v", "c"), "'c' has a bool as operand"),
    (kernel("a = v * (x + (v > 0))"), "'a' has a bool as operand"),
    (kernel("c = spike(v, x)", "c"), "'c' has a slope that reads more than its argument"),
]


@pytest.mark.parametrize(("broken", "message"), BROKEN, ids=[m for _, m in BROKEN])
def test_broken_kernels(broken, message):
    """The message names the kernel and the Let."""
    with refused(lnm.InternalError, "k", message):
        verify(broken)


def test_a_spike_on_a_bare_state_keeps_a_valid_slope():
    """`fire=v` makes z a copy of h: cse once replaced it in the argument and not in the slope."""
    v, x = lnm.state("v"), lnm.input("x")
    neuron = lnm.Neuron(charge={v: v + x}, fire=v)
    text = str(lnm.lower(neuron, on_pass=lambda _, kernel: verify(kernel)).forward)
    assert "fired = spike(h; slope 1 / ((pi**2) * h**2 + 1))" in text


@pytest.mark.parametrize(
    ("kernel_name", "ports", "dropped", "message"),
    [
        ("prepare", "results", "p0", ("lif", "the port 'p0' has no partner")),
        ("backward", "results", "grad_p0", ("lif_prepare_backward", "the port 'sum_p0'")),
    ],
)
def test_kernels_that_do_not_fit_together(kernel_name, ports, dropped, message):
    """A step reads what `prepare` gives; its adjoint gives what `prepare_backward` sums."""
    program = verify_program(lnm.lower(lnm.get("lif")))
    kernel = getattr(program, kernel_name)
    kept = tuple(p for p in getattr(kernel, ports) if p.var.name != dropped)
    broken = replace(program, **{kernel_name: replace(kernel, **{ports: kept})})
    with refused(lnm.InternalError, *message):
        verify_program(broken)


def test_an_adjoint_differentiates_prepared_parameters_only():
    """`grad_p0` without a `p0` in `prepare` ended in a KeyError of the interpreter."""
    program = lnm.lower(lnm.get("lif"))
    forgotten = Port(Var("grad_p9"), Role.PARAM)
    body = (*program.backward.body, Let(forgotten.var, ir.ZERO, Phase.ADJOINT))
    results = (*program.backward.results, forgotten)
    broken = replace(program, backward=replace(program.backward, body=body, results=results))
    with refused(lnm.InternalError, "lif_backward", "the port 'grad_p9' has no partner"):
        verify_program(broken)


@st.composite
def constants(draw: Any, states: tuple[Any, ...]) -> Any:
    """Draw an expression of numbers and of states that the charge sets to a number."""
    leaf = st.sampled_from((0.5, -0.25, lnm.exp(-1), lnm.sqrt(2), *states, *states))
    pairs = (lnm.max, lnm.min, lambda a, b: a + b, lambda a, b: a * b, lambda a, b: a / (2 + b * b))
    units = (lnm.tanh, lnm.sigmoid, lnm.stop_gradient, lambda a: lnm.bind(a, "k"), lambda a: -a)

    def larger(inner: Any) -> Any:
        pair = st.tuples(st.sampled_from(pairs), inner, inner).map(lambda t: t[0](t[1], t[2]))
        return pair | st.tuples(st.sampled_from(units), inner).map(lambda t: t[0](t[1]))

    return draw(st.recursive(leaf, larger, max_leaves=5))


@few
@given(st.data(), st.booleans())
def test_constants_have_no_gradient(data, has_parameter):
    """A hoisted constant once had one that `prepare` did not know."""
    v, w, u, x = lnm.state("v"), lnm.state("w"), lnm.state("u"), lnm.input("x")
    a, b, c = (data.draw(constants(part)) for part in ((), (), (w, u)))
    more = lnm.param("k", init=0.3) * v if has_parameter else 0.3 * v
    neuron = lnm.Neuron(
        charge={v: more + x, w: 0.5, u: a},
        fire=0.1 * v + c * data.draw(st.sampled_from((1, x))) - 1,
        reset={v: v * b, w: v},
    )
    for scheme in ("horner", "estrin"):
        program = verify_program(lnm.lower(neuron, scheme))
        assert has_parameter or not program.backward.result_names(Role.PARAM)
