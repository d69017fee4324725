"""Operation counts: exact numbers that follow from the polynomial and the equations."""

from __future__ import annotations

from fractions import Fraction
from types import SimpleNamespace

import pytest

import lnm_codegen as lnm
from lnm_codegen.ir import nodes as ir
from lnm_codegen.ir.count import Count, Values, count, values
from lnm_codegen.ir.nodes import Const, Kernel, Let, Phase, Port, Role, Var

A, B, C, D = (Var(n) for n in "abcd")


def counts_of(neuron: lnm.Neuron, scheme: str = "horner") -> SimpleNamespace:
    """Return the counts of the four kernels of a program."""
    program = lnm.lower(neuron, scheme)
    words = ("prepare", "forward", "backward", "prepare_backward")
    return SimpleNamespace(**{word: count(getattr(program, word)) for word in words})


def kernel(*lets: tuple[str, ir.Expr], results: str) -> Kernel:
    body = tuple(Let(Var(n, ir.type_of(e)), e, Phase.CHARGE) for n, e in lets)
    inputs = tuple(Port(v, Role.INPUT) for v in (A, B, C))
    return Kernel("k", inputs, body, tuple(Port(Var(n), Role.OUTPUT) for n in results.split()))


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        (A, Count()),
        (Const(Fraction(1, 3)), Count()),
        (ir.neg(A), Count()),
        (ir.Detach(A), Count()),
        (ir.add(A, B), Count(additions=1)),
        (ir.sub(A, B), Count(additions=1)),
        (ir.mul(A, B), Count(multiplications=1)),
        (ir.div(A, B), Count(divisions=1)),
        (ir.Power(A, 2), Count(multiplications=1)),
        (ir.Power(A, 5), Count(multiplications=4)),
        (ir.Fma(A, B, C), Count(fused=1)),
        (ir.Compare(ir.CompareOp.LT, A, B), Count(comparisons=1)),
        (ir.Spike(A, ir.div(ir.ONE, A)), Count(comparisons=1)),
        (ir.Select(ir.Compare(ir.CompareOp.LT, A, B), A, B), Count(comparisons=1, selects=1)),
        (
            ir.Binary(
                ir.BinaryOp.AND,
                ir.Compare(ir.CompareOp.LT, A, B),
                ir.Unary(ir.UnaryOp.NOT, ir.Compare(ir.CompareOp.EQ, A, C)),
            ),
            Count(comparisons=2),
        ),
        (
            ir.add(ir.Call(ir.Fn.TANH, A), ir.Call(ir.Fn.EXP, ir.Call(ir.Fn.TANH, B))),
            Count(additions=1, functions=(("exp", 1), ("tanh", 2))),
        ),
        (ir.Fma(ir.neg(ir.mul(A, B)), C, ir.sub(A, B)), Count(1, 1, 1)),
    ],
)
def test_every_node(expression, expected):
    """The cost of a node includes its operands."""
    assert count(kernel(("y", expression), results="y")) == expected


def test_counts_add():
    """Numbers add, functions by name; the total counts a fused multiply-add once."""
    a = Count(1, 2, 3, 4, 5, 6, (("exp", 1), ("sin", 2)))
    b = Count(1, 1, 1, 1, 1, 1, (("cos", 1), ("exp", 2)))
    both = a + b
    assert both == Count(2, 3, 4, 5, 6, 7, (("cos", 1), ("exp", 3), ("sin", 2)))
    assert both.total == 2 + 3 + 4 + 5 + 6 + 7 + 6
    assert a + Count() == a


def test_lif():
    """H = inv_tau*x + p0*v: one product and one fused; z, the spike, its 0 or 1, the reset."""
    program = counts_of(lnm.get("lif"))
    assert program.forward == Count(
        multiplications=1, additions=1, fused=1, comparisons=1, selects=2
    )
    assert program.prepare == Count(additions=1, divisions=1)
    # grad_fired is fused, the slope 1 / (pi**2*z*z + 1) a product, a fused and a quotient;
    # grad_z, grad_v, grad_x and the terms of p0 and inv_tau are products.
    assert program.backward == program.forward + Count(
        multiplications=6, additions=1, fused=2, divisions=1, selects=-1
    )


@pytest.mark.parametrize("degree", range(1, 9))
def test_lnm(degree):
    """Degree d costs d fused multiply-adds, and 2d + 1 backward, which rebuilds the step."""
    program = counts_of(lnm.get("lnm", degree=degree))
    assert program.forward == Count(additions=2, fused=degree, comparisons=1, selects=2)
    # Rebuilt: d. The derivative: d - 1. grad_fired and the slope: 1 each. Products: the slope,
    # grad_z, grad_v, and the d terms grad_theta_k = grad_theta_(k-1) * v.
    assert program.backward == Count(
        multiplications=degree + 3,
        additions=3,
        fused=2 * degree + 1,
        divisions=1,
        comparisons=1,
        selects=1,
    )
    assert program.prepare == Count(multiplications=degree - 1)
    assert program.prepare_backward == Count()


@pytest.mark.parametrize(("degree", "products"), [(1, 0), (2, 1), (3, 1), (4, 2), (7, 2), (8, 3)])
def test_estrin_pays_products_for_a_shorter_chain(degree, products):
    """Estrin needs the powers v**2, v**4, v**8 of its pairs, and as many fused as Horner."""
    forward = counts_of(lnm.get("lnm", degree=degree), "estrin").forward
    assert forward == Count(products, 2, degree, comparisons=1, selects=2)


def test_functions_by_name():
    """Special functions are counted where they run: plif's sigmoid once per call, not per step."""
    program = counts_of(lnm.get("plif"))
    assert dict(program.prepare.functions) == {"sigmoid": 1}
    assert program.forward.functions == program.backward.functions == ()


def test_values():
    """A copy is no value of its own; `live` is the widest point, the values read among them."""
    k = kernel(
        ("p", ir.mul(A, B)),
        ("copy", Var("p")),
        ("q", ir.add(Var("copy"), C)),
        ("r", ir.mul(Var("q"), Var("q"))),
        results="r copy",
    )
    assert values(k) == Values(read=3, computed=3, written=2, live=3)
    wide = kernel(("p", ir.mul(A, B)), ("q", ir.mul(A, C)), ("r", ir.mul(B, C)), results="p q r")
    assert values(wide).live == 4
    assert values(kernel(results="a")) == Values(read=3, computed=0, written=1, live=1)
