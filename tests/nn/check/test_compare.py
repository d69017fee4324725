"""Comparison of backends behind `lnm check`: draws, neurons left out, differences found."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import lnm_codegen as lnm
from lnm_codegen.errors import ModelError
from lnm_codegen.families import FAMILIES
from lnm_codegen.nn import check as compare
from tests.refusals import refused


@pytest.fixture(autouse=True)
def _eager_alone(monkeypatch):
    """Run only the backend that needs no compiler: these tests do not depend on it."""
    monkeypatch.setattr(compare, "BACKENDS", ("auto", "torch"))


def clipped(per="layer"):
    """A neuron whose reset to 0 meets `v >= 0`, an exact tie, at every spike."""
    v, w, x, drive = lnm.state("v"), lnm.state("w"), lnm.input("x"), lnm.input("drive")
    gain = lnm.param("gain", init=0.5, per=per)
    return lnm.Neuron(
        charge={v: lnm.max(v, 0) * gain + x, w: w / 2 + drive},
        fire=v - 0.7,
        reset=lnm.hard_reset(v, 0.0),
        output={"spike": lnm.spike, "w": w},
        surrogate=lnm.surrogate.rectangle(),
    )


@pytest.mark.parametrize("per", ["layer", "channel", "neuron"])
def test_agrees(per):
    """Several inputs, states and outputs; every granularity; an exact tie is no reason to skip."""
    found = compare.compare_backends(clipped(per))
    assert found.agrees
    assert (found.left_out, found.neurons) == (0, int(np.prod(compare.SHAPE[1:])))
    assert [r.dtype for r in found.runs] == ["float32", "float64"]
    assert list(found.runs[0].differences) == [
        "spike", "w", "final v", "final w", "grad x", "grad drive", "grad v", "grad w",
        "grad gain",
    ]  # fmt: skip


def test_what_runs_away_is_left_out():
    """Some neurons of this one diverge from most of their inputs; the others are compared."""
    v, x = lnm.state("v"), lnm.input("x")
    b = lnm.param("b", init=lambda generator, shape: _half_wild(shape), per="neuron")
    found = compare.compare_backends(lnm.Neuron(charge={v: b * v + x}, output=v))
    assert found.agrees
    assert found.left_out == found.neurons // compare.SHAPE[3]
    assert found.spikes == {}


def _half_wild(shape):
    """2 for the first neuron of each channel, 0.5 for the others."""
    import torch

    values = torch.full(shape, 0.5)
    values[:, 0] = 2.0
    return values


@pytest.mark.parametrize("name", ["spike", "final v", "grad x", "grad theta"])
@pytest.mark.parametrize("wrong", [1.001, np.nan])
def test_finds(monkeypatch, name, wrong):
    """A quantity that is off by 1e-3, or not finite, in one neuron."""
    plain = compare._run_layer

    def spoilt(*arguments):
        found = plain(*arguments)
        value = found[name].reshape(-1)
        value[np.argmax(np.abs(value))] *= wrong
        return found | {name: value.reshape(found[name].shape)}

    monkeypatch.setattr(compare, "_run_layer", spoilt)
    found = compare.compare_backends(lnm.get("lnm", degree=2))
    assert not found.agrees
    for run in found.runs:
        assert not run.differences[name] <= run.limit
        others = [d for n, d in run.differences.items() if n != name]
        assert max(others) <= run.limit


@pytest.mark.parametrize("name", ["rf", "brf", "adlif"])
def test_slow_neurons_spike(name):
    """No input in [-1, 2] makes these spike, so spikes and resets were once not compared."""
    found = compare.compare_backends(lnm.get(name))
    assert found.agrees
    assert found.scale > 1
    assert 0.02 <= found.spikes["spike"] <= 0.98
    assert found.constant_spikes == ()


def test_a_wrong_reset_is_found(monkeypatch):
    """A backend that omits adlif's jump b of w at a spike; without spikes w agreed."""
    plain = compare._run_layer

    def without_jump(case, *arguments):
        params = case.params | {"b": np.zeros_like(case.params["b"])}
        return plain(replace(case, params=params), *arguments)

    monkeypatch.setattr(compare, "_run_layer", without_jump)
    neuron = lnm.get("adlif", b=1.0)
    found, silent = (compare.compare_backends(neuron, scale=scale) for scale in (None, 1))
    assert not found.agrees
    assert all(r.differences["final w"] > 0.01 for r in found.runs)
    assert all(r.differences["final w"] <= r.limit for r in silent.runs)
    assert silent.constant_spikes == ("spike",)


MILLIVOLTS = {
    "hodgkin_huxley": {"dt": 0.1},
    "hodgkin_huxley-level": {"crossing": False},
    "hodgkin_huxley-learned": {"learnable": True, "per": "channel"},
    "izhikevich": {"form": "norse", "learnable": True},
    "izhikevich-bursting": {"form": "norse", "c": -50.0, "d": 2.0},
}
QUICK = ("izhikevich",)


def in_millivolts(case):
    return lnm.get(case.partition("-")[0], **MILLIVOLTS[case])


@pytest.mark.parametrize(
    "case", [pytest.param(c, marks=() if c in QUICK else pytest.mark.slow) for c in MILLIVOLTS]
)
def test_neurons_in_millivolts_agree(case):
    """They were called wrong, or compared without a spike.

    Terms of the gradient of Izhikevich's d reach 343 and cancel to a sum of 229, of which rounding
    in float32 took 6e-4. Gates of Hodgkin and Huxley's axon began in [-0.5, 0.5], and only axons
    that did not spike were kept.
    """
    found = compare.compare_backends(in_millivolts(case))
    assert found.agrees
    assert found.left_out < found.neurons / 10
    assert 0.01 < found.spikes["spike"] < 0.5


@pytest.mark.parametrize(
    ("case", "name"),
    [
        ("izhikevich", "grad d"),
        pytest.param("izhikevich", "final u", marks=pytest.mark.slow),
        pytest.param("hodgkin_huxley-learned", "grad g_na", marks=pytest.mark.slow),
        pytest.param("hodgkin_huxley-learned", "final m", marks=pytest.mark.slow),
    ],
)
def test_a_wrong_result_in_millivolts_is_found(monkeypatch, case, name):
    """A backend whose result is off by 0.1 %; its other results agree."""
    plain = compare._run_layer

    def spoilt(*arguments):
        found = plain(*arguments)
        return found | {name: found[name] * 1.001}

    monkeypatch.setattr(compare, "_run_layer", spoilt)
    found = compare.compare_backends(in_millivolts(case))
    assert not found.agrees
    wrong = {n for run in found.runs for n, d in run.differences.items() if not d <= run.limit}
    assert wrong == {name}


@pytest.mark.slow
@pytest.mark.parametrize("word", ["a", "d"])
def test_a_backend_with_another_constant_in_millivolts_is_found(monkeypatch, word):
    """A parameter that a backend reads 1 % too large."""
    plain = compare._run_layer

    def other(case, *arguments):
        params = case.params | {word: case.params[word] * np.float32(1.01)}
        return plain(replace(case, params=params), *arguments)

    monkeypatch.setattr(compare, "_run_layer", other)
    found = compare.compare_backends(in_millivolts("izhikevich"))
    assert not any(run.agrees for run in found.runs)


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_agrees_at_its_defaults(name):
    """It spikes, and at most a tenth of the neurons is left out."""
    found = compare.compare_backends(lnm.get(name))
    assert found.agrees
    assert found.left_out <= found.neurons / 10
    assert found.constant_spikes == ()


@pytest.mark.parametrize(
    ("threshold", "constant", "rate"), [(0.9, (), None), (2, ("spike",), 0), (-2, ("spike",), 1)]
)
def test_a_spike_that_is_not_compared(threshold, constant, rate):
    """A potential in [-1, 1] never reaches 2 and always exceeds -2, at any scale."""
    v, x = lnm.state("v"), lnm.input("x")
    found = compare.compare_backends(lnm.Neuron(charge={v: lnm.tanh(x)}, fire=v - threshold))
    assert found.agrees
    assert found.constant_spikes == constant
    assert rate is None or found.spikes == {"spike": rate}


@pytest.mark.parametrize("scale", [0, -1.0, float("nan"), 1e10, "2"])
def test_an_invalid_scale(scale):
    with refused(ModelError, "check", f"scale is {scale!r}", "a number > 0 and <= 1e+09 or None"):
        compare.compare_backends(lnm.get("lif"), scale=scale)


def test_an_input_that_diverges_at_the_scale():
    """The message has the interval of the inputs."""
    v, x = lnm.state("v"), lnm.input("x")
    neuron = lnm.Neuron(charge={v: 2 * v + x}, fire=v - 1, name="doubling")
    problem = "doubling diverges, is within rounding of a tie, or amplifies rounding, for most"
    problem += " inputs drawn in [-1, 2]"
    with refused(ModelError, "check", problem, remedy="Use other parameters, or another --scale."):
        compare.compare_backends(neuron)
