"""Formats and specs as text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

import lnm_codegen as lnm
from lnm_codegen.compiler.formats import format_of, load_spec, spec_text
from lnm_codegen.errors import ModelError

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
    ("text", "message"),
    [
        ("16", "format '16': not a format. Accepted: width.fraction, such as 16.12, or Q4.12."),
        ("16.16", "format '16.16': Fixed: frac is 16. Accepted: 0 to 15 of 16 bits, as the sign"
                  " takes one."),
        ("0.0", "format '0.0': Fixed: width is 0. Accepted: 2 to 32 bits."),
        ("-4.2", "format '-4.2': not a format. Accepted: width.fraction, such as 16.12, or Q4.12."),
    ],
)  # fmt: skip
def test_what_is_no_format(text, message):
    with pytest.raises(ModelError) as caught:
        format_of(text)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = ", "not TOML: "),
        ("rounding = 'half_up'", "default: missing. Give a format in quotes: width.fraction,"),
        ("default = 16.12", "default: 16.12. Accepted: a format in quotes: width.fraction, such"),
        ("default = '16.12'\nrounding = 'up'", "Fixed: rounding is 'up'. Accepted: 'half_up',"),
        ("default = '16.12'\n[nodes]\nv = '40.2'", "nodes: '40.2': Fixed: width is 40."),
        ("default = '16.12'\n[node]\nv = '16.12'", "unknown key 'node'. Accepted: default,"),
    ],
)
def test_what_is_no_spec(tmp_path, text, message):
    file = tmp_path / "spec.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ModelError) as caught:
        load_spec(file)
    assert str(caught.value).startswith(f"{file}: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_one_rounding_for_a_file():
    spec = lnm.FixedSpec(lnm.Fixed(16, 12), {"v": lnm.Fixed(16, 12, "truncate")})
    with pytest.raises(ModelError) as caught:
        spec_text(spec)
    assert str(caught.value) == (
        "v: rounds by 'truncate', the default by 'half_up'. Accepted in a file: one rounding for"
        " all."
    )
