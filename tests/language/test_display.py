"""Text and LaTeX of a neuron. `text/test_written.py` has those of random neurons and families."""

from __future__ import annotations

from typing import Any

import pytest
import sympy

import lnm_codegen as lnm
from lnm_codegen.language.neuron import equations

v, x = lnm.state("v"), lnm.input("x")
Z = lnm.surrogate.Z
LOW, HIGH = lnm.where(v < -2, -2, v), lnm.where(v < 3, 3, v)


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


def test_long_values_are_cut() -> None:
    """At most six numbers of a vector, and lines of at most 160 characters."""
    theta = lnm.param("theta", size=40, init=[0.125] * 40)
    n = lnm.Neuron(charge={v: lnm.poly(v, theta) + x}, fire=v - 1)
    lines = repr(n).splitlines()
    numbers = ", ".join(["0.125"] * 6)
    assert f"  param   theta = [{numbers}, ...], learnable per layer" in lines
    assert len(lines[1]) == 162
    assert lines[1].endswith("...")
    assert r"\left[" not in n._repr_latex_().split("parameters")[1]
    assert rf"\theta = [{numbers}, \ldots]" in n._repr_latex_()


def test_drawn_values() -> None:
    """A function as `init` is shown by its name; numbers that a layer draws are marked."""

    def my_draw(generator: Any, shape: Any) -> Any:
        raise AssertionError

    n = lnm.Neuron(charge={v: lnm.param("p", init=my_draw) * v + x}, fire=v - 1)
    assert "  param   p drawn by my_draw, learnable per layer" in repr(n).splitlines()
    assert r"p \sim \mathrm{my\_draw}" in n._repr_latex_()
    text = repr(lnm.get("rf", omega=(2.0, 4.0), b_offset=1.0, per="channel"))
    assert "  param   omega = 3, drawn in a layer, learnable per channel\n" in text
    assert "  param   b_offset = 1, learnable per channel\n" in text


def test_many_bound_values_are_counted() -> None:
    """A brief text counts more than 20 bound values; `equations` and TOML keep all of them."""
    neuron = lnm.ode(
        "dv/dt = -v/tau + x + i : 1\ndi/dt = -i/10 : 1", parameters={"tau": 4}, dt=1,
        method="exact", threshold="v > 1", reset="v = 0", learnable=["tau"],
    )  # fmt: skip
    count = len(neuron.bindings)
    assert count > 20
    lines = repr(neuron).splitlines()
    assert lines[1] == f"  bound   {count} values (neuron.bindings holds them)"
    assert lines[2].startswith("  charge  v <- ")
    assert sum(line.startswith("bound") for line in equations(neuron)) == count


def test_long_numbers_have_eight_digits() -> None:
    third = lnm.bind(sympy.Rational(10**20 + 1, 3 * 10**20) * x, "third")
    n = lnm.Neuron(charge={v: lnm.where(v > 0.1, third + v / 3, 0)}, fire=v - 0.123456789012)
    assert repr(n).splitlines()[1:4] == [
        "  bound   third = 0.33333333*x",
        "  charge  v <- where(v > 0.1, third + v/3, 0)",
        "  fire    spike = [v - 0.12345679 >= 0]",
    ]


def test_a_negative_zero_is_zero() -> None:
    """-ln(tau - 1) of plif is -0.0 at its default."""
    plif = lnm.get("plif")
    assert str(plif.params[0].init) == "-0.0"
    assert "param   w = 0, learnable" in repr(plif)
    assert "state   v = 0\n" in repr(plif.with_init(v=-0.0))
    assert "-0" not in repr(lnm.get("lnm", degree=2, theta=(-0.0, 0.5, -0.0)))


@pytest.mark.parametrize(
    ("expr", "text"),
    [
        (lnm.clip(v + x, -2, 3), "clip(v + x, -2, 3)"),
        (lnm.clip(v + x, x, 3), "clip(v + x, x, 3)"),
        (lnm.max(v, 0.5), "max(v, 1/2)"),
        (lnm.min(v, x), "min(v, x)"),
        (lnm.where(v < -2.0, -2, v), "max(v, -2)"),
        (lnm.where(v > 2.0, 2, v), "min(v, 2)"),
        (2 * lnm.max(v, lnm.abs(x)) + 1, "2*max(v, abs(x)) + 1"),
        (lnm.where(lnm.spike, 0, v), "where(spike, 0, v)"),
        (lnm.where(v < -2, -1, v), "where(v < -2, -1, v)"),
        (lnm.where(v < -2, -2, x), "where(v < -2, -2, x)"),
        (lnm.where(v >= x, x, v), "where(v >= x, x, v)"),
        (lnm.where(v > x, v, x), "where(v > x, v, x)"),
        (lnm.where(v < -2, -2, lnm.where(x > 3, 3, x)), "where(v < -2, -2, min(x, 3))"),
        (lnm.where(LOW > 3, 3, LOW), "clip(v, -2, 3)"),
        (lnm.where(HIGH > 2, 2, HIGH), "min(max(v, 3), 2)"),
    ],
)
def test_a_function_is_printed_by_its_name(expr: Any, text: str) -> None:
    """Functions defined by `where`; clamps of one side each, low < high, are one clip."""
    assert str(expr) == text


def test_functions_in_latex() -> None:
    for expr, text in (
        (lnm.clip(v, -2, 3), r"\operatorname{clip}\left(v, -2, 3\right)"),
        (lnm.max(v, x), r"\max\left(v, x\right)"),
        (lnm.abs(x), r"\left|x\right|"),
        (lnm.where(v < -2, -2, v), r"\max\left(v, -2\right)"),
        (
            lnm.where(Z > 0, Z, 0),
            r"\begin{cases} z & z > 0 \\ 0 & \text{otherwise} \end{cases}",
        ),
    ):
        assert sympy.latex(expr) == text
