"""Functions defined by `where` are printed by their names."""

from __future__ import annotations

import pytest
import sympy

import lnm_codegen as lnm

v, x = lnm.state("v"), lnm.input("x")


@pytest.mark.parametrize(
    ("expr", "text"),
    [
        (lnm.clip(v + x, -2, 3), "clip(v + x, -2, 3)"),
        (lnm.clip(v + x, x, 3), "clip(v + x, x, 3)"),
        (lnm.max(v, 0.5), "max(v, 1/2)"),
        (lnm.min(v, x), "min(v, x)"),
        (lnm.abs(x), "abs(x)"),
        (lnm.where(v < -2.0, -2, v), "max(v, -2)"),
        (lnm.where(v > 2.0, 2, v), "min(v, 2)"),
        (2 * lnm.max(v, lnm.abs(x)) + 1, "2*max(v, abs(x)) + 1"),
        (lnm.where(lnm.spike, 0, v), "where(spike, 0, v)"),
        (lnm.where(v < -2, -1, v), "where(v < -2, -1, v)"),
        (lnm.where(v < -2, -2, x), "where(v < -2, -2, x)"),
        (lnm.where(v >= x, x, v), "where(v >= x, x, v)"),
        (lnm.where(v > x, v, x), "where(v > x, v, x)"),
        (lnm.where(v < -2, -2, lnm.where(x > 3, 3, x)), "where(v < -2, -2, min(x, 3))"),
    ],
)
def test_a_function_is_printed_by_its_name(expr, text):
    assert str(expr) == text


def test_clamps_of_families_are_one_clip():
    """v_min is applied first, then v_max; with v_min < v_max that is a clip."""
    text = str(lnm.get("lnm", degree=1, v_min=-2.0, v_max=3.0))
    assert "charge  v <- clip(theta_0 + theta_1*v + x, -2, 3)\n" in text
    inner = lnm.where(v < 3, 3, v)
    assert str(lnm.where(inner > 2, 2, inner)) == "min(max(v, 3), 2)"


def test_latex_has_the_names_too():
    assert sympy.latex(lnm.clip(v, -2, 3)) == r"\operatorname{clip}\left(v, -2, 3\right)"
    assert sympy.latex(lnm.max(v, x)) == r"\max\left(v, x\right)"
    assert sympy.latex(lnm.abs(x)) == r"\left|x\right|"
    assert sympy.latex(lnm.where(v < -2, -2, v)) == r"\max\left(v, -2\right)"
    assert r"\begin{cases}" in sympy.latex(lnm.where(v < -2, -1, v))
