"""Neurons that are leaky integrators, and the first difference of those that are not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lnm_codegen as lnm
from lnm_codegen.analysis.linear.affine import membrane_of
from lnm_codegen.errors import UnsupportedError
from tests.refusals import refused

number = st.floats(-2, 2).map(lambda a: round(a, 3))


def values_of(neuron, **params):
    membrane = membrane_of(neuron)
    found = membrane.values(params, len(next(iter(params.values()), [0])))
    return membrane, {key: value.tolist() for key, value in found.items()}


@settings(max_examples=15)
@given(tau=st.floats(1.1, 50), rest=number, threshold=number, reset=number, decays=st.booleans())
def test_coefficients_of_lif(tau, rest, threshold, reset, decays):
    """v <- v + (x - (v - v_rest))/tau, or the same without the division of x."""
    neuron = lnm.get(
        "lif", tau=tau, v_rest=rest, v_threshold=threshold, v_reset=reset, decay_input=decays
    )
    membrane, found = values_of(neuron)
    expected = {
        "decay": 1 - 1 / tau,
        "gain": 1 / tau if decays else 1.0,
        "drift": rest / tau,
        "threshold": threshold,
        "reset": reset,
        "start": reset,
    }
    assert found.keys() == expected.keys()
    assert all(np.isclose(found[key], value) for key, value in expected.items())
    assert (membrane.potential, membrane.current, membrane.strict) == ("v", "", False)


def test_coefficients_of_each_parameter_set():
    """A function of parameters is a coefficient too."""
    _, found = values_of(lnm.get("plif", per="channel"), w=np.array([0.0, 1.0]))
    assert np.allclose(found["decay"], [0.5, 1 - 1 / (1 + np.exp(-1))])


@pytest.mark.parametrize("threshold", [1, 1.0, 0.7, -2.5])
def test_a_threshold_may_be_a_float(threshold):
    """SymPy's Float(1) is not equal to 1, which is the coefficient of v."""
    v, x = lnm.state("v"), lnm.input("x")
    neuron = lnm.Neuron(charge={v: 0.5 * v + x}, fire=v - threshold, reset=lnm.hard_reset(v, 0))
    _, found = values_of(neuron)
    assert (found["threshold"], found["decay"]) == ([threshold], [0.5])


def test_a_current_is_found():
    """The potential reads the new current."""
    membrane, found = values_of(lnm.get("cuba_lif", current_decay=0.25, voltage_decay=0.5))
    assert (membrane.potential, membrane.current) == ("v", "current")
    assert found["current_decay"] == [0.25]
    assert found["gain"] == found["current_gain"] == [1.0]


def test_a_potential_that_reads_the_old_current_is_another_neuron():
    i, v, x = lnm.state("i"), lnm.state("v"), lnm.input("x")
    neuron = lnm.Neuron(charge={i: i / 2 + x, v: v / 2 + i}, fire=v - 1, reset=lnm.hard_reset(v, 0))
    with refused(UnsupportedError, "neuron", "reads i of the step before", "the new i"):
        membrane_of(neuron)


def clamped_integrator() -> lnm.Neuron:
    """Return a leaky integrator whose reset, which no spike causes, clamps the potential."""
    v, x = lnm.state("v"), lnm.input("x")
    reset = {v: lnm.clip(v, -5, 5)}
    return lnm.Neuron({v: 0.5 * v + x}, reset=reset, output={"out": v}, name="clamped")


@pytest.mark.parametrize(
    ("neuron", "problem", "accepted"),
    [
        (lnm.get("lif", v_reset=None), "the reset of v is", "a hard reset"),
        (clamped_integrator(), "the reset of v is clip(v, -5, 5)", "no reset without a spike"),
        (lnm.get("qif"), "the charge of v is", "an affine function"),
        (lnm.get("lnm"), "the charge of v is", "an affine function"),
        (lnm.get("alif"), "3 states", "at most two states"),
        (lnm.get("rf"), "is no current", "a multiple of w"),
        (lnm.get("ternary"), "2 spikes", "one spike"),
    ],
)
def test_other_neurons_are_refused_by_their_first_difference(neuron, problem, accepted):
    with refused(UnsupportedError, neuron.name, problem, accepted):
        membrane_of(neuron)


def test_loose_leaves_out_the_reset():
    membrane = membrane_of(lnm.get("lif", v_reset=None), loose=True)
    assert membrane.values({}, 1).keys() == {"decay", "gain", "drift", "threshold"}
