"""Operation counts: exact numbers that follow from the polynomial and the equations."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

import lnm_codegen as lnm
from lnm_codegen.ir.count import Count, Values, count, values
from lnm_codegen.ir.nodes import Role
from tests.ir.kernels import kernel, lets


def counts_of(neuron: lnm.Neuron, scheme: str = "horner") -> SimpleNamespace:
    """Return the counts of the four kernels of a program."""
    program = lnm.lower(neuron, scheme)
    words = ("prepare", "forward", "backward", "prepare_backward")
    return SimpleNamespace(**{word: count(getattr(program, word)) for word in words})


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("v", Count()),
        ("1/3", Count()),
        ("-v", Count()),
        ("detach(v)", Count()),
        ("v + w", Count(additions=1)),
        ("v - w", Count(additions=1)),
        ("v * w", Count(multiplications=1)),
        ("v / w", Count(divisions=1)),
        ("v**2", Count(multiplications=1)),
        ("v**5", Count(multiplications=4)),
        ("fma(v, w, x)", Count(fused=1)),
        ("v < w", Count(comparisons=1)),
        ("spike(v; slope 1 / v)", Count(comparisons=1)),
        ("select(v < w, v, w)", Count(comparisons=1, selects=1)),
        ("v < w and not v == x", Count(comparisons=2)),
        ("tanh(v) + exp(tanh(w))", Count(additions=1, functions=(("exp", 1), ("tanh", 2)))),
        ("fma(-(v * w), x, v - w)", Count(1, 1, 1)),
    ],
)
def test_every_node(expression, expected):
    """The cost of a node includes its operands."""
    assert count(kernel(expression)) == expected


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
    inputs = {Role.INPUT: "abc"}
    lines = ["p = a * b", "copy = p", "q = copy + c", "r = q * q"]
    k = lets(*lines, results="r copy", inputs=inputs)
    assert values(k) == Values(read=3, computed=3, written=2, live=3)
    wide = lets("p = a * b", "q = a * c", "r = b * c", results="p q r", inputs=inputs)
    assert values(wide).live == 4
    none = lets(results="a", inputs=inputs)
    assert values(none) == Values(read=3, computed=0, written=1, live=1)
