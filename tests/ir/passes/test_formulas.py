"""Formulas of prepared parameters."""

from __future__ import annotations

import math

import pytest

import lnm_codegen as lnm
from lnm_codegen.compiler.emit import fixed_model_of, formulas

Q12_12 = lnm.Fixed(24, 12)


FUNCTIONS = {
    "exp": math.exp,
    "sigmoid": lambda w: 1 / (1 + math.exp(-w)),
    "select": lambda c, a, b: a if c else b,
}


@pytest.mark.parametrize("family", ["lif", "izhikevich", "adlif", "glif", "alif", "lnm"])
def test_a_formula_gives_the_value(family: str) -> None:
    """Every computed result has one; evaluated in order, they equal the prepared numbers."""
    neuron = lnm.get(family)
    model = fixed_model_of(neuron, Q12_12)
    prepare = model.program.prepare
    values = dict(FUNCTIONS)
    values |= {c.name: c.reals[0] for c in model.coefficients if not c.formula}
    values |= {p.name: float(p.init) for p in neuron.params if isinstance(p.init, int | float)}
    expected = {c.name: c.reals[0] for c in model.coefficients}
    found = formulas(prepare)
    declared = {p.var for p in prepare.inputs}
    assert set(found) == {p.var.name for p in prepare.results if p.var not in declared}
    for name, text in found.items():
        values[name] = eval(text, {"__builtins__": {}}, values)
        if name in expected:
            assert values[name] == pytest.approx(expected[name], rel=1e-12), (name, text)


def test_izhikevich() -> None:
    """The coefficients that a reader meets as p0 to p7."""
    found = formulas(lnm.quantize(lnm.get("izhikevich"), Q12_12).prepare)
    assert found["p0"] == "(-v_rest - v_c) * a0 * inv_tau + 1"
    assert found["inv_tau"] == "1 / tau"


def test_they_stand_in_the_circuit() -> None:
    """In the comments of the Verilog and of the C model, and in the manifest."""
    files = lnm.emit(lnm.get("lif", tau=3.0), "verilog", name="unit", spec=Q12_12).files
    for path in ("rtl/unit_core.v", "model/unit_model_coefficients.h", "manifest.json"):
        assert "1 / tau" in files[path], path
