"""Formats, specs and formulas as text."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

import lnm_codegen as lnm
from lnm_codegen.compiler.emit import fixed_model_of, formulas
from lnm_codegen.compiler.formats import format_of, load_spec, spec_text
from lnm_codegen.errors import ModelError
from tests.refusals import refused

ROUNDINGS = ("half_up", "truncate", "convergent")


@st.composite
def formats(draw, rounding="half_up"):
    width = draw(st.integers(2, 32))
    return lnm.Fixed(width, draw(st.integers(0, width - 1)), rounding)


@given(formats(), st.sampled_from(ROUNDINGS))
def test_both_spellings_name_the_same_format(fixed, rounding):
    """`16.12` is width.fraction, `Q4.12` integer.fraction, as a format prints itself."""
    wanted = lnm.Fixed(fixed.width, fixed.frac, rounding)
    assert format_of(f"{fixed.width}.{fixed.frac}", rounding) == wanted
    assert format_of(str(fixed), rounding) == wanted


@given(formats(), st.dictionaries(st.sampled_from(["v", "x", "h_1", "theta_0"]), formats()))
def test_a_spec_comes_back_from_its_text(tmp_path_factory, default, nodes):
    file = tmp_path_factory.mktemp("spec") / "spec.toml"
    spec = lnm.FixedSpec(default, nodes)
    file.write_text(spec_text(spec, ["a line", ""]), encoding="utf-8")
    assert load_spec(file) == spec


@pytest.mark.parametrize(
    ("text", "problem", "accepted"),
    [
        ("16", "not a format", "width.fraction, such as 16.12, or Q4.12"),
        ("16.16", "frac is 16", "an integer from 0 to 15"),
        ("0.0", "width is 0", "an integer from 2 to 32"),
        ("-4.2", "not a format", "width.fraction, such as 16.12, or Q4.12"),
    ],
)
def test_other_texts(text, problem, accepted):
    with refused(ModelError, f"format {text!r}", problem, accepted):
        format_of(text)


@pytest.mark.parametrize(
    ("text", "place", "problem", "accepted"),
    [
        ("x = ", "", "not TOML", ""),
        ("rounding = 'half_up'", ": default", "missing", "a format in quotes: width.fraction"),
        ("default = 16.12", ": default", "the value is 16.12", "a format in quotes"),
        ("default = '16.12'\nrounding = 'up'", ": default '16.12'", "rounding is 'up'", "half_up"),
        ("default = '16.12'\n[nodes]\nv = '40.2'", ": nodes.v '40.2'", "width is 40", "2 to 32"),
        ("default = '16.12'\n[node]\nv = '16.12'", "", "unknown key 'node'", "default, rounding"),
    ],
)
def test_other_files(tmp_path, text, place, problem, accepted):
    file = tmp_path / "spec.toml"
    file.write_text(text, encoding="utf-8")
    with refused(ModelError, f"{file}{place}", problem, accepted):
        load_spec(file)


def test_one_rounding_for_a_file():
    spec = lnm.FixedSpec(lnm.Fixed(16, 12), {"v": lnm.Fixed(16, 12, "truncate")})
    with refused(ModelError, "v", "the rounding is 'truncate'", "'half_up', in a file"):
        spec_text(spec)


# Formulas of prepared parameters.

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


def test_formulas_stand_in_the_circuit() -> None:
    """In the comments of the Verilog and of the C model, and in the manifest."""
    found = formulas(lnm.quantize(lnm.get("izhikevich"), Q12_12).prepare)
    assert found["p0"] == "(-v_rest - v_c) * a0 * inv_tau + 1"
    assert found["inv_tau"] == "1 / tau"
    files = lnm.emit(lnm.get("lif", tau=3.0), "verilog", name="unit", spec=Q12_12).files
    for path in ("rtl/unit_core.v", "model/unit_model_coefficients.h", "manifest.json"):
        assert "1 / tau" in files[path], path
