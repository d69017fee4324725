"""Scale of random inputs at which a neuron spikes: found by trial, 1 where it need not change."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lnm_codegen as lnm
from lnm_codegen.compiler.stimulus import (
    DOUBLINGS,
    ENOUGH,
    spike_names,
    spiking_scale,
    step_values,
    unit_of,
)


def drawn(count=1, low=-1.0, high=2.0):
    rng = np.random.default_rng(0)
    return [rng.uniform(low, high, (24, 1, 32)) for _ in range(count)]


def leaky(threshold, rest=0.0):
    """dv/dt in steps of a tenth of the time constant, with a hard reset to rest."""
    v, x = lnm.state("v", init=rest), lnm.input("x")
    charge = v + (x - (v - rest)) / 10
    return lnm.Neuron(charge={v: charge}, fire=v - threshold, reset=lnm.hard_reset(v, rest))


@settings(max_examples=8, deadline=None)
@given(st.floats(1e-4, 1e4), st.sampled_from([0.0, -65.0, 20.0]))
def test_a_threshold_of_any_size_is_reached(distance, rest):
    """Each spike occurs and is absent in `ENOUGH` of steps, at a power of 2, as outputs confirm.

    The distance of threshold and rest in mV, V or numbers of 1 does not matter.
    """
    neuron, x = leaky(rest + distance, rest), drawn()
    drive = spiking_scale(neuron, *x)
    assert math.frexp(drive.scale)[0] == 0.5
    assert ENOUGH <= drive.rates["spike"] <= 1 - ENOUGH
    spikes = lnm.interpret(neuron, drive.scale * x[0]).out
    assert drive.rates["spike"] == pytest.approx(spikes.mean())


@pytest.mark.parametrize("name", ["if", "lif", "glif", "qif", "cuba_lif", "ternary", "lnm"])
def test_a_neuron_that_spikes_keeps_scale_1(name):
    drive = spiking_scale(lnm.get(name), *drawn())
    assert drive.scale == 1
    assert min(drive.rates.values()) >= ENOUGH


@pytest.mark.parametrize("name", ["rf", "brf", "adlif"])
def test_scale_1_was_too_small(name):
    """These families integrate slowly: no input in [-1, 2] makes them spike."""
    neuron, x = lnm.get(name), drawn()
    assert lnm.interpret(neuron, *x).out.mean() < ENOUGH
    drive = spiking_scale(neuron, *x)
    assert drive.scale > 1
    assert lnm.interpret(neuron, drive.scale * x[0]).out.mean() >= ENOUGH


def test_too_many_spikes_reduce_the_scale():
    """An input that is never negative fires at each step; smaller ones do not."""
    drive = spiking_scale(leaky(1e-3), *drawn(low=0.5))
    assert drive.scale < 1
    assert ENOUGH <= drive.rates["spike"] <= 1 - ENOUGH


def test_a_neuron_that_diverges_has_a_smaller_scale():
    """v**2 + x runs away for most inputs in [-1, 2]; the scale at which all stay is smaller."""
    v, x = lnm.state("v"), lnm.input("x")
    neuron = lnm.Neuron(charge={v: v**2 + x}, fire=v - 0.125)
    drive = spiking_scale(neuron, *drawn())
    assert drive.scale < 1
    found = step_values(neuron, [drive.scale * x for x in drawn()])
    assert np.isfinite(found["v_next"]).all()


def test_a_spike_that_cannot_occur():
    """The scale stays 1 where no input reaches the threshold, or where the spike does not end."""
    v, x = lnm.state("v"), lnm.input("x")
    bounded = lnm.tanh(v / 2 + x)
    for threshold, rate in ((2, 0.0), (-2, 1.0)):
        drive = spiking_scale(lnm.Neuron(charge={v: bounded}, fire=v - threshold), *drawn())
        assert (drive.scale, drive.rates) == (1.0, {"spike": rate})


def test_every_spike_has_to_occur():
    """One spike at scale 1, the other far above: the scale lets both occur."""
    v, x = lnm.state("v"), lnm.input("x")
    near, far = lnm.spike_named("near"), lnm.spike_named("far")
    spikes = {near: v - 1, far: v - 50}
    neuron = lnm.Neuron(charge={v: v / 2 + x}, fire=spikes, output=near + far)
    drive = spiking_scale(neuron, *drawn())
    assert set(drive.rates) == {"near", "far"}
    assert min(drive.rates.values()) >= ENOUGH


def test_without_spikes_and_the_number_of_tries(monkeypatch):
    """A neuron without spikes runs at no scale; one that cannot spike at each, once."""
    import lnm_codegen.compiler.stimulus as stimulus

    tried = []
    plain = stimulus.step_values
    monkeypatch.setattr(
        stimulus, "step_values", lambda *args: tried.append(args[1][0].max()) or plain(*args)
    )
    assert spiking_scale(lnm.get("li"), *drawn()).rates == {}
    assert tried == []
    v, x = lnm.state("v"), lnm.input("x")
    spiking_scale(lnm.Neuron(charge={v: lnm.tanh(x)}, fire=v - 2), *drawn())
    assert len(set(tried)) == len(tried) == 1 + 2 * DOUBLINGS


def test_values_of_every_step():
    """The Lets of the forward kernel along a sequence are those of the interpreter's run."""
    neuron, x = lnm.get("ternary"), drawn()
    found, whole = step_values(neuron, x), lnm.interpret(neuron, *x)
    assert np.array_equal(found["v_next"][:-1], whole.trajectory["v"][1:])
    assert list(spike_names(neuron).values()) == ["up", "down"]
    up, down = (found[let] for let in spike_names(neuron))
    assert np.array_equal(up.astype(float) - down, whole.out)


def test_the_unit_of_states():
    assert unit_of(leaky(1.0)) == 1
    assert unit_of(leaky(1.0, rest=-65.0)) == 65


def test_a_spike_keeps_its_name_where_another_value_has_that_of_its_variable():
    """The variable of the spike `up` is `fired_up`, unless the neuron has a value of that name."""
    v, x = lnm.state("v"), lnm.input("x")
    up = lnm.spike_named("up")
    neuron = lnm.Neuron(
        charge={v: v + x}, fire={lnm.spike: v - 1, up: v - 2},
        output={"fired": lnm.spike, "fired_up": up}, reset=lnm.hard_reset(v),
    )  # fmt: skip
    assert spike_names(neuron) == {"fired_2": "spike", "fired_up_2": "up"}
    assert [*spiking_scale(neuron, *drawn()).rates] == ["spike", "up"]
