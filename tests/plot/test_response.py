"""Responses: default inputs away from the rheobase, resets of spikes alone, and f-I curves."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import lnm_codegen as lnm
from lnm_codegen.analysis.linear.step import StepMap, simulate
from lnm_codegen.errors import UnsupportedError
from lnm_codegen.families import FAMILIES
from lnm_codegen.plot.response import default_input
from tests.refusals import refused

NEURONS = [
    lnm.get("lif"),
    *(pytest.param(lnm.get(n), marks=pytest.mark.slow) for n in sorted(FAMILIES) if n != "lif"),
    pytest.param(lnm.get("lnm", degree=3, v_min=-2), marks=pytest.mark.slow),
    lnm.get("lnm", states=2, degree=1),
]


@pytest.fixture
def ax() -> Axes:
    return Figure().subplots()


@pytest.mark.parametrize("neuron", NEURONS, ids=lambda n: n.name)
def test_rounding_does_not_decide_about_spikes(neuron):
    """Near the default input the spikes are the same; 1/2 was the rheobase of a leak of 1/2."""
    step = StepMap(neuron)
    trains = [
        simulate(step, {step.inputs[0]: default_input(step) * part}, 300).spikes
        for part in (1 - 1e-6, 1, 1 + 1e-6)
    ]
    np.testing.assert_array_equal(trains[0], trains[1])
    np.testing.assert_array_equal(trains[1], trains[2])


def line(ax: Axes, label: str) -> np.ndarray:
    (found,) = (one for one in ax.lines if one.get_label() == label)
    return np.asarray(found.get_xydata())


def test_a_reset_is_drawn_at_spikes_alone(ax):
    """adlif stores its spike in the reset of w: without a spike its line has no corners."""
    lnm.plot.step_response(lnm.get("adlif"), ax=ax)
    found = lnm.interpret(lnm.get("adlif"), np.full((64, 1, 1), 0.7))
    assert not found.out.any()
    for name in "vw":
        assert line(ax, name)[:, 0].tolist() == list(range(65))
        assert line(ax, name)[:-1, 1] == pytest.approx(found.trajectory[name][:, 0, 0])
    assert ax.get_legend_handles_labels()[1] == ["v", "w"]


def test_a_spike_of_adlif_is_a_jump(ax):
    lnm.plot.step_response(lnm.get("adlif"), x=8.0, ax=ax)
    fired = np.flatnonzero(lnm.interpret(lnm.get("adlif"), np.full((64, 1, 1), 8.0)).out) + 1
    assert len(fired) >= 1
    t = line(ax, "v")[:, 0]
    assert t[1:][np.diff(t) == 0].tolist() == fired.tolist()


def test_a_silent_curve_says_so(ax):
    """Over the given inputs; with a spike there is no text."""
    lnm.plot.fi_curve(lnm.get("rf"), x=(-1, 1), ax=ax)
    assert [text.get_text() for text in ax.texts] == ["silent for -1 <= x <= 1"]
    other = lnm.plot.fi_curve(lnm.get("rf"), ax=Figure().subplots())
    assert not other.texts
    assert other.lines[0].get_ydata().max() > 0


def test_a_neuron_without_spikes_has_no_rate():
    with refused(UnsupportedError, "plot.fi_curve: li", "no spikes", "a neuron with spikes"):
        lnm.plot.fi_curve(lnm.get("li"))


def test_the_input_is_named(ax):
    """An input of another name, and the first of two."""
    v, drive, gate = lnm.state("v"), lnm.input("drive"), lnm.input("gate")
    neuron = lnm.Neuron(charge={v: 0.5 * v + drive + 0.1 * gate}, fire=v - 1, name="n")
    assert lnm.plot.fi_curve(neuron, ax=ax).get_xlabel() == "constant input drive"
    other = lnm.plot.impulse_response(neuron, ax=Figure().subplots())
    assert other.get_title() == "n: drive = 0.7 in the first step"
