"""Text and LaTeX of a neuron."""

from __future__ import annotations

import re
from typing import Any

import pytest
import sympy
from hypothesis import given

import lnm_codegen as lnm
from lnm_codegen.families import FAMILIES
from lnm_codegen.language.neuron import equations
from tests.strategies import few, neurons


def test_repr() -> None:
    """Equations, slopes and declarations, a line each."""
    n = lnm.get("lnm", degree=1, v_reset=None, per="channel", detach_reset=True)
    assert repr(n).splitlines() == [
        "neuron lnm",
        "  charge  v <- theta_0 + theta_1*v + x",
        "  fire    spike = [v - v_threshold >= 0]",
        "  reset   v <- -spike*v_threshold + v",
        "  output  spike = spike",
        "  slope   d spike/dz = 1/(pi**2*z**2 + 1)  (atan)",
        "  reset   spikes inside it have no derivative (detach_reset)",
        "  state   v = 0",
        "  input   x",
        "  param   theta = [0, 0.5], learnable per channel",
        "  param   v_threshold = 1, constant",
    ]


def test_long_values_are_cut() -> None:
    """At most six numbers of a vector, and lines of at most 160 characters."""
    v, x = lnm.state("v"), lnm.input("x")
    theta = lnm.param("theta", size=40, init=[0.125] * 40)
    n = lnm.Neuron(charge={v: lnm.poly(v, theta) + x}, fire=v - 1)
    lines = repr(n).splitlines()
    numbers = ", ".join(["0.125"] * 6)
    assert f"  param   theta = [{numbers}, ...], learnable per layer" in lines
    assert len(lines[1]) == 162
    assert lines[1].endswith("...")
    assert r"\left[" not in n._repr_latex_().split("parameters")[1]
    assert rf"\theta = [{numbers}, \ldots]" in n._repr_latex_()


def test_a_drawn_value() -> None:
    """An `init` that is a function is shown by its name."""

    def my_draw(generator: Any, shape: Any) -> Any:
        raise AssertionError

    v, x, p = lnm.state("v"), lnm.input("x"), lnm.param("p", init=my_draw)
    n = lnm.Neuron(charge={v: p * v + x}, fire=v - 1)
    assert "  param   p drawn by my_draw, learnable per layer" in repr(n).splitlines()
    assert r"p \sim \mathrm{my\_draw}" in n._repr_latex_()


def test_latex() -> None:
    """Symbols of the field: theta, v_threshold; names of several letters stand upright."""
    n = lnm.get("cuba_lif")
    assert n._repr_latex_().splitlines() == [
        r"$\displaystyle \begin{array}{ll}",
        r"\mathrm{cuba\_lif} & \\",
        r"\text{charge} & \mathrm{current} \leftarrow \mathrm{current} \, \mathrm{current}_{decay}"
        r" + x \\",
        r"\text{charge} & v \leftarrow \mathrm{current} \, \mathrm{current}_{decay} + v \,"
        r" \mathrm{voltage}_{decay} + x \\",
        r"\text{fire} & \mathrm{spike} = \left[v - v_{threshold} \geq 0\right] \\",
        r"\text{reset} & v \leftarrow \begin{cases} 0 & \mathrm{spike} \\ v & \text{otherwise}"
        r" \end{cases} \\",
        r"\text{output} & \mathrm{spike} = \mathrm{spike} \\",
        r"\text{states} & \mathrm{current} = 0,\; v = 0 \\",
        r"\text{inputs} & x \\",
        r"\text{parameters} & \mathrm{current}_{decay} = 0.5,\; \mathrm{voltage}_{decay} = 0.75,\;"
        r" v_{threshold} = 0.5",
        r"\end{array}$",
    ]
    assert r"\theta_{0} + \theta_{1} \, v" in lnm.get("lnm", degree=1)._repr_latex_()
    assert r"\theta = [0, 0.5]" in lnm.get("lnm", degree=1)._repr_latex_()


def test_drawn_values() -> None:
    """The numbers of a neuron without a layer are marked where a layer draws others."""
    text = repr(lnm.get("rf", omega=(2.0, 4.0), b_offset=1.0, per="channel"))
    assert "  param   omega = 3, drawn in a layer, learnable per channel\n" in text
    assert "  param   b_offset = 1, learnable per channel\n" in text


def is_balanced(latex: str) -> bool:
    """Report whether braces, `left`, `begin` and `$` of LaTeX have their ends."""
    text = re.sub(r"\\[{}\\$]", "", latex)
    depth = 0
    for sign in text:
        depth += {"{": 1, "}": -1}.get(sign, 0)
        if depth < 0:
            return False
    begins, ends = (re.findall(rf"\\{word}{{(\w+)}}", latex) for word in ("begin", "end"))
    sides = [len(re.findall(rf"\\{word}(?![a-z])", latex)) for word in ("left", "right")]
    return not depth and sorted(begins) == sorted(ends) and sides[0] == sides[1]


@pytest.mark.parametrize("name", FAMILIES)
def test_families(name: str) -> None:
    """Every built-in family is displayed with its equations and parameters."""
    n = lnm.get(name)
    assert repr(n).startswith(f"neuron {name}\n")
    for line in equations(n):
        assert line[:150] in repr(n)
    for p in n.params:
        assert f"  param   {p.name} " in repr(n)
    assert is_balanced(n._repr_latex_())


@few
@given(neurons(stops=True, binds=True))
def test_random_neurons(n: lnm.Neuron) -> None:
    """Any neuron has both forms, in lines of bounded length."""
    assert all(len(line) <= 162 for line in repr(n).splitlines())
    latex = n._repr_latex_()
    assert is_balanced(latex)
    assert (latex[0], latex[-1], latex.count("$")) == ("$", "$", 2)


def test_the_balance_can_fail() -> None:
    """The check of the tests above finds what it looks for."""
    assert is_balanced(r"\left[\frac{a}{b}\right]")
    for wrong in ("{", "}{", r"\left[a]", r"\begin{array}", r"\begin{a}\end{b}"):
        assert not is_balanced(wrong)


def test_many_bound_values_are_counted() -> None:
    """A brief text counts more than 20 bound values; `equations` and TOML keep all of them."""
    neuron = lnm.ode(
        "dv/dt = -v/tau + x + i : 1\ndi/dt = -i/10 : 1",
        parameters={"tau": 4},
        dt=1,
        method="exact",
        threshold="v > 1",
        reset="v = 0",
        learnable=["tau"],
    )
    count = len(neuron.bindings)
    assert count > 20
    lines = repr(neuron).splitlines()
    assert lines[1] == f"  bound   {count} values (neuron.bindings holds them)"
    assert lines[2].startswith("  charge  v <- ")
    assert sum(line.startswith("bound") for line in equations(neuron)) == count


def test_long_numbers_have_eight_digits() -> None:
    v, x = lnm.state("v"), lnm.input("x")
    third = lnm.bind(sympy.Rational(10**20 + 1, 3 * 10**20) * x, "third")
    n = lnm.Neuron(charge={v: lnm.where(v > 0.1, third + v / 3, 0)}, fire=v - 0.123456789012)
    lines = repr(n).splitlines()
    assert lines[1] == "  bound   third = 0.33333333*x"
    assert lines[2] == "  charge  v <- where(v > 0.1, third + v/3, 0)"
    assert lines[3] == "  fire    spike = [v - 0.12345679 >= 0]"


def test_a_negative_zero_is_zero() -> None:
    """-ln(tau - 1) of plif is -0.0 at its default."""
    plif = lnm.get("plif")
    assert str(plif.params[0].init) == "-0.0"
    assert "param   w = 0, learnable" in repr(plif)
    vector = plif.with_init(v=-0.0)
    assert "state   v = 0\n" in repr(vector)
    assert "-0" not in repr(lnm.get("lnm", degree=2, theta=(-0.0, 0.5, -0.0)))
