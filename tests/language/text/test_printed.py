"""Text definitions of neurons that exist: read back, they are the same neuron."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lnm_codegen as lnm
from lnm_codegen.errors import UnsupportedError
from lnm_codegen.language import surrogate
from lnm_codegen.language.text.definition import read
from lnm_codegen.language.text.printed import definition_of
from tests.refusals import refused

NAMES = ("lif", "plif", "alif", "cuba_lif", "izhikevich", "li", "ternary", "lnm", "qif")


@pytest.mark.parametrize("name", NAMES)
def test_a_family_is_read_back(name):
    """The kernels are equal, line by line."""
    neuron = lnm.get(name)
    again = read(definition_of(neuron), "text")
    assert str(lnm.lower(again)) == str(lnm.lower(neuron))
    assert [(p.name, p.per, p.learnable) for p in again.params] == [
        (p.name, p.per, p.learnable) for p in neuron.params
    ]


@given(st.floats(-1, 1).filter(lambda a: a == 0 or abs(a) > 1e-9))
@settings(max_examples=10)
def test_a_float_is_written_with_all_its_digits(value):
    """SymPy writes 15 of 17."""
    v, x = lnm.state("v"), lnm.input("x")
    neuron = lnm.Neuron(charge={v: v * value + x + 0.1}, fire=v - 1)
    again = read(definition_of(neuron), "text")
    charge = dict(again.charge)[again.states[0]]
    assert float(charge.coeff(again.states[0])) == value


def test_a_name_of_python_gets_an_underscore():
    assert read(definition_of(lnm.get("if")), "text").name == "if_"


@pytest.mark.parametrize("name", sorted(surrogate.SURROGATES))
def test_a_surrogate_keeps_its_alpha(name):
    """It is read off the slope."""
    given = {} if name == "straight_through" else {"alpha": 0.7}
    neuron = lnm.get("lif", surrogate=surrogate.SURROGATES[name](**given))
    assert read(definition_of(neuron), "text").surrogates == neuron.surrogates


def test_what_has_no_text_is_refused():
    own = surrogate.from_slope(lambda z: 1 / (1 + z**4))
    with refused(UnsupportedError, "lif", "surrogate 'custom' has no name"):
        definition_of(lnm.get("lif", surrogate=own))
    drawn = lnm.state("v", init=lambda generator, shape: None)
    neuron = lnm.Neuron(charge={drawn: drawn / 2 + lnm.input("x")}, fire=drawn - 1)
    with refused(UnsupportedError, "neuron", "a function initialises state 'v'"):
        definition_of(neuron)
    with refused(UnsupportedError, None, "no text form"):
        definition_of(lnm.normalised(lnm.get("lif")))
