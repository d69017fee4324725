"""Formats and specs as text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

import lnm_codegen as lnm
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
