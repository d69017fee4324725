"""Comparison of backends behind `lnm check`: draws, neurons left out, differences found."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest
import torch

import lnm_codegen as lnm
from lnm_codegen.compiler.stimulus import starts_of
from lnm_codegen.errors import ModelError
from lnm_codegen.families import FAMILIES
from lnm_codegen.nn import check as compare
from lnm_codegen.nn.check import SHAPE, draw_case, spike_rates
from tests.layers import slow
from tests.refusals import refused


@pytest.fixture(autouse=True)
def _eager_alone(monkeypatch):
    """Run only the backend that needs no compiler: these tests do not depend on it."""
    monkeypatch.setattr(compare, "BACKENDS", ("auto", "torch"))


def draw(neuron, scale=None):
    return draw_case(neuron, np.random.default_rng(0), scale)


def digest(case) -> str:
    arrays = (*case.inputs, *case.state.values(), *case.params.values())
    return hashlib.sha256(b"".join(np.ascontiguousarray(a).tobytes() for a in arrays)).hexdigest()


# ---- draws ----


DRAWS = {
    "if": "c6c5214cb7a76d2c", "lif": "02848416b156366f", "qif": "f0980bfac2fc5f7a",
    "cuba_lif": "169034b5fbcdf6e5", "ternary": "ba8d3c60e3520c97",
    "izhikevich": "0de57fb64a34acb7", "lnm": "65ef104c744eef85", "li": "f5fe83b4fc5f5fde",
}  # fmt: skip


@pytest.mark.parametrize("name", DRAWS)
def test_a_neuron_that_spikes_in_the_interval_keeps_its_draw(name):
    """Scale 1, and the inputs, states and parameters of earlier releases bit for bit."""
    case, left_out = draw(lnm.get(name))
    assert case.scale == 1
    assert not left_out.any()
    assert digest(case)[:16] == DRAWS[name]


def test_parameters_that_a_family_draws_do_not_depend_on_earlier_calls():
    """They came from PyTorch's generator, whose seed differs from process to process."""
    torch.manual_seed(1)
    first, _ = draw(lnm.get("rf"))
    after = torch.rand(1)
    torch.manual_seed(1)
    assert torch.equal(after, torch.rand(1))
    assert digest(draw(lnm.get("rf"))[0]) == digest(first)


def test_millivolts():
    """States begin at rest, spikes occur, few neurons are left out; gates begin near their values.

    All were refused as divergent, or began near 0 mV.
    """
    v, x = lnm.state("v", init=-65.0), lnm.input("x")
    neuron = lnm.Neuron({v: v + (x - (v + 65)) / 10}, v + 50, lnm.hard_reset(v, -65))
    case, left_out = draw(neuron)
    assert np.abs(case.state["v"][~left_out] + 65).max() <= 0.5
    assert left_out.mean() < 0.1
    assert 0.01 <= spike_rates(case, ~left_out)["spike"] <= 0.98
    assert compare.compare_backends(neuron).agrees
    case, left_out = draw(lnm.get("izhikevich", form="norse"))
    for name, middle in (("v", -70), ("u", -14)):
        assert np.abs(case.state[name][~left_out] - middle).max() <= 0.5
    starts = starts_of(lnm.get("hodgkin_huxley"))
    assert starts["m"] == (0.0529, 0.02645)
    assert starts["v"] == (-65.0, 0.5)
    assert starts_of(lnm.get("qif"))["v"] == (0.0, 0.5)


def test_a_given_scale_multiplies_the_inputs():
    """No search: the rate may be any; the draw is that of scale 1, times the scale."""
    plain, _ = draw(lnm.get("li"))
    case, _ = draw(lnm.get("li"), scale=0.125)
    assert case.inputs[0].shape == SHAPE
    assert np.array_equal(case.inputs[0], 0.125 * plain.inputs[0])
    case, left_out = draw(lnm.get("lif"), scale=0.125)
    assert spike_rates(case, ~left_out) == {"spike": 0.0}
    for scale in (0, -1.0, float("nan"), 1e10, "2"):
        accepted = "a number > 0 and <= 1e+09 or None"
        with refused(ModelError, "check", f"scale is {scale!r}", accepted):
            compare.compare_backends(lnm.get("lif"), scale=scale)


# ---- comparisons ----


def clipped(per):
    """A neuron whose reset to 0 meets `v >= 0`, an exact tie, at every spike."""
    v, w, x, drive = lnm.state("v"), lnm.state("w"), lnm.input("x"), lnm.input("drive")
    return lnm.Neuron(
        charge={v: lnm.max(v, 0) * lnm.param("gain", init=0.5, per=per) + x, w: w / 2 + drive},
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
    assert (found.left_out, found.neurons) == (0, int(np.prod(SHAPE[1:])))
    assert [r.dtype for r in found.runs] == ["float32", "float64"]
    names = "spike, w, final v, final w, grad x, grad drive, grad v, grad w, grad gain"
    assert ", ".join(found.runs[0].differences) == names


def _half_wild(generator, shape):
    """2 for the first neuron of each channel, 0.5 for the others."""
    values = torch.full(shape, 0.5)
    values[:, 0] = 2.0
    return values


def test_what_runs_away_is_left_out():
    """Some neurons diverge from most of their inputs; the others are compared."""
    v, x = lnm.state("v"), lnm.input("x")
    b = lnm.param("b", init=_half_wild, per="neuron")
    found = compare.compare_backends(lnm.Neuron(charge={v: b * v + x}, output=v))
    assert found.agrees
    assert found.left_out == found.neurons // SHAPE[3]
    assert found.spikes == {}
    neuron = lnm.Neuron(charge={v: 2 * v + x}, fire=v - 1, name="doubling")
    problem = "doubling diverges, is within rounding of a tie, or amplifies rounding, for most"
    problem += " inputs drawn in [-1, 2]"
    with refused(ModelError, "check", problem, remedy="Use other parameters, or another --scale."):
        compare.compare_backends(neuron)


MILLIVOLTS = {
    "izhikevich": {"form": "norse", "learnable": True},
    "hodgkin_huxley": {"dt": 0.1},
    "hodgkin_huxley-level": {"crossing": False},
    "hodgkin_huxley-learned": {"learnable": True, "per": "channel"},
    "izhikevich-bursting": {"form": "norse", "c": -50.0, "d": 2.0},
}
QUIET = ("rf", "brf", "adlif")
"""No input in [-1, 2] makes these spike, so resets were once not compared."""


def in_millivolts(case):
    return lnm.get(case.partition("-")[0], **MILLIVOLTS[case])


@pytest.mark.parametrize("name", [*QUIET[1:], *(slow(n) for n in FAMILIES if n not in QUIET[1:])])
def test_every_family_agrees_at_its_defaults(name):
    """It spikes, and at most a tenth of the neurons is left out."""
    found = compare.compare_backends(lnm.get(name))
    assert found.agrees
    assert found.left_out <= found.neurons / 10
    assert found.constant_spikes == ()
    if name in QUIET:
        assert found.scale > 1
        assert 0.02 <= found.spikes["spike"] <= 0.98


@pytest.mark.parametrize("case", ["izhikevich", *map(slow, [*MILLIVOLTS][1:])])
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


def off(factor, index):
    """Return a change of an array, in all neurons or in the one of the greatest value."""

    def changed(array):
        array = np.array(array)
        if index is None:
            return array * factor
        array.reshape(-1)[np.argmax(np.abs(array))] *= factor
        return array

    return changed


@pytest.mark.parametrize(
    ("case", "name", "change"),
    [
        *(("lnm", n, off(1.001, 0)) for n in ("spike", "grad x")),
        ("lnm", "final v", off(np.nan, 0)),
        ("izhikevich", "grad d", off(1.001, None)),
        slow("izhikevich", "final u", off(1.001, None)),
        slow("hodgkin_huxley-learned", "grad g_na", off(1.001, None)),
        slow("hodgkin_huxley-learned", "final m", off(1.001, None)),
    ],
)
def test_a_wrong_result_is_found(monkeypatch, case, name, change):
    """Off by 0.1 %, or not finite, in one neuron or in all; the other results agree."""
    plain = compare._run_layer

    def spoilt(*arguments):
        found = plain(*arguments)
        return found | {name: change(found[name])}

    monkeypatch.setattr(compare, "_run_layer", spoilt)
    neuron = lnm.get("lnm", degree=2) if case == "lnm" else in_millivolts(case)
    found = compare.compare_backends(neuron)
    assert not found.agrees
    wrong = [{n for n, d in run.differences.items() if not d <= run.limit} for run in found.runs]
    assert set.union(*wrong) == {name}
    assert case != "lnm" or set.intersection(*wrong) == {name}


@pytest.mark.parametrize(
    ("neuron", "word", "change"),
    [
        ("adlif", "b", lambda value: 0 * value),
        slow("izhikevich", "a", lambda value: value * np.float32(1.01)),
        slow("izhikevich", "d", lambda value: value * np.float32(1.01)),
    ],
)
def test_a_wrong_parameter_is_found(monkeypatch, neuron, word, change):
    """A backend that reads it 1 % too large, or omits adlif's jump b of w at a spike."""
    plain = compare._run_layer

    def other(case, *arguments):
        params = case.params | {word: change(case.params[word])}
        return plain(replace(case, params=params), *arguments)

    monkeypatch.setattr(compare, "_run_layer", other)
    if neuron != "adlif":
        assert not any(r.agrees for r in compare.compare_backends(in_millivolts(neuron)).runs)
        return
    found, silent = (compare.compare_backends(lnm.get("adlif", b=1.0), scale=s) for s in (None, 1))
    assert not found.agrees
    assert all(r.differences["final w"] > 0.01 for r in found.runs)
    assert all(r.differences["final w"] <= r.limit for r in silent.runs)  # without spikes
    assert silent.constant_spikes == ("spike",)


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
