"""`backward`: the adjoint of each node, against SymPy's derivative and finite differences."""

from __future__ import annotations

import numpy as np
import pytest
import sympy

import lnm_codegen as lnm
from lnm_codegen.compiler.build import build
from lnm_codegen.ir import nodes as ir
from lnm_codegen.ir.interpret import run
from lnm_codegen.ir.nodes import Detach, Role
from lnm_codegen.ir.passes.backward import backward
from lnm_codegen.ir.passes.polynomials import collect
from lnm_codegen.ir.passes.simplify import dce, fold
from lnm_codegen.ir.verify import verify
from tests.ir.kernels import body

v, w, x = lnm.state("v"), lnm.state("w"), lnm.input("x")
p = lnm.param("p", init=0.7)


def adjoint(neuron: lnm.Neuron) -> ir.Kernel:
    return verify(dce(backward(dce(collect(fold(build(neuron)))))))


EXPRESSIONS = [
    v + x, v - x, x - v, v * x, -v, v / x, x / v, v * p, p / v, v**2, v**5 * p, v**-3,
    (v + x) ** 3, (v - p) * (x + v), v * x / (v + x + 3), lnm.exp(v * x), lnm.log(v + x),
    lnm.sqrt(v * p), lnm.tanh(v - x * p), lnm.sin(v * 2), lnm.cos(v * x + p), 2**v, v**x,
    lnm.exp(-(v**2) / (p + x**2)) * lnm.tanh(v) + v,
    lnm.poly(v, [p, x, -p, 3]), lnm.exp(lnm.exp(v / 3)) / lnm.exp(x),
]  # fmt: skip


@pytest.mark.parametrize("e", [*EXPRESSIONS, lnm.sigmoid(v * x)], ids=str)
def test_against_sympy(e):
    """Each operator and function; in states, inputs and parameters."""
    neuron = lnm.Neuron(charge={v: e}, output={"out": v, "x": x, "p": p})
    k = adjoint(neuron)
    at = {v: 0.6, x: 1.3, p: 0.7}
    values = {s.name: value for s, value in at.items()}
    values |= dict.fromkeys(k.input_names(Role.GRAD), 0.0) | {"grad_out": 2.0}
    found = run(k, values)
    known = e.replace(lnm.sigmoid, lambda a: 1 / (1 + sympy.exp(-a)))
    for symbol in (v, x, p):
        exact = 2 * float(sympy.diff(known, symbol).subs(at).evalf(30))
        assert found[f"grad_{symbol.name}"] == pytest.approx(exact, rel=1e-13, abs=1e-14)


def test_hard_reset():
    """select: grad to the branch taken; the spike: slope * grad * (v_reset - h).

    Detached, no term goes through the spike of reset, and the copy is not in the adjoint.
    """
    neuron = lnm.Neuron(charge={v: v + x}, fire=v - 1, reset=lnm.hard_reset(v, 0.25))
    text = body(adjoint(neuron))
    start = text.index(next(line for line in text if line.startswith("grad_")))
    assert text[start:] == [
        "grad_fired = grad_v_next * (0.25 - h) + grad_spike",
        "slope_fired = 1 / ((pi**2) * z**2 + 1)",
        "grad_z = grad_fired * slope_fired",
        "grad_h = select(fired, 0, grad_v_next) + grad_z",
        "grad_v = grad_h",
        "grad_x = grad_h",
    ]
    k = adjoint(neuron.with_detach_reset(True))
    assert "grad_fired = grad_spike" in body(k) or "grad_z = grad_spike * slope_fired" in body(k)
    assert not any(isinstance(n, Detach) for let in k.body for n in ir.walk(let.value))


NEGATED = [
    lnm.where(x > 0, -p, v), lnm.where(x > 0, v, -p), lnm.where(x < 0, -p, v - p),
    lnm.where(x > 0, -p, v - p) * p, lnm.max(-p, v), lnm.clip(v, -p, p), lnm.where(x > 0, -v, p),
]  # fmt: skip


@pytest.mark.parametrize("e", NEGATED, ids=str)
def test_a_negated_branch_passes_its_gradient(e):
    """-p stays in the select, since a negation needs no preparation; its gradient was once 0."""
    neuron = lnm.Neuron(charge={v: e}, output={"out": v, "x": x, "p": p})
    h, lanes = 1e-6, np.array([[1.3, -0.4]])
    for p_at in (0.7, -0.5):

        def out(dp, dv, p_at=p_at):
            state = {"v": np.full(2, -0.9 + dv)}
            return lnm.interpret(neuron, lanes, state=state, p=p_at + dp).outputs["out"][0]

        for lane in (0, 1):
            seed = np.eye(2)[lane : lane + 1]
            given = {"grad_out": (seed, 0.0, 0.0), "state": {"v": np.full(2, -0.9)}, "p": p_at}
            found = lnm.interpret(neuron, lanes, **given).grads
            for name, move in (("p", (h, 0)), ("v", (0, h))):
                slope = (out(*move) - out(-move[0], -move[1]))[lane] / (2 * h)
                assert float(found[name].sum()) == pytest.approx(slope, abs=1e-8), name


def test_a_spike_of_a_negated_parameter():
    """z = -p: the slope at -p, times -1."""
    neuron = lnm.Neuron(charge={v: x}, fire=-p, surrogate=lnm.surrogate.straight_through())
    found = lnm.interpret(neuron, np.zeros((1, 1)), p=0.7, grad_out=2.0).grads
    assert float(found["p"]) == -2.0


def test_ports():
    """The ports are those of the kernel, a gradient per result, and a gradient per input."""
    k, forward = adjoint(lnm.get("cuba_lif")), build(lnm.get("cuba_lif"))
    assert k.inputs[: len(forward.inputs)] == forward.inputs
    assert k.input_names(Role.GRAD) == ("grad_spike", "grad_current_next", "grad_v_next")
    assert [(r.var.name, r.role) for r in k.results] == [
        (f"grad_{q.var.name}", q.role) for q in forward.inputs
    ]
    assert k.name == "cuba_lif_backward"
    y = lnm.input("y")  # an input without influence has the gradient 0
    k = adjoint(lnm.Neuron(charge={v: v + x}, output=v, reset={w: lnm.where(y > 0, w, -w)}))
    assert "grad_y = 0" in body(k)
    sums = lnm.lower(lnm.get("lif", learn_tau=True)).prepare_backward.input_names(Role.GRAD)
    assert sums == ("sum_v_threshold", "sum_p0", "sum_inv_tau")


def test_a_long_sum_of_gradients_is_split():
    """A value that 100 others read: parts of at most 32 terms, and the whole sum."""
    terms = [lnm.bind(v * x + k) for k in range(100)]
    k = adjoint(lnm.Neuron(charge={v: lnm.bind(sum(terms))}, output={"out": v, "x": x}))
    lines = [line for line in body(k) if line.startswith("grad_v")]
    assert [line.split(" = ")[0] for line in lines] == [
        "grad_v_part", "grad_v_part_2", "grad_v_part_3", "grad_v",
    ]  # fmt: skip
    assert max(line.count("+") for line in lines) < 32
    found = run(k, dict.fromkeys(k.input_names(*Role), 0.0) | {"v": 2, "x": 3, "grad_out": 1})
    assert (found["grad_v"], found["grad_x"]) == (300, 200)
