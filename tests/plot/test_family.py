"""Figure of `lnm analyze FAMILY --figure`: panels of a neuron with several states."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import lnm_codegen as lnm
from lnm_codegen.analysis.report import analyze
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.plot.family import family_figure
from tests.analysis.linear.matrices import free


def panels(neuron: Neuron, x: float = 1.0) -> dict[str, Axes]:
    figure: Figure = family_figure(analyze(neuron, {s.name: (-x, x) for s in neuron.inputs}))
    return {axes.get_title().partition(":")[0]: axes for axes in figure.axes}


@pytest.mark.parametrize(
    ("family", "plane"),
    [
        ("rf", ["phase plane without input"]),
        pytest.param("alif", [], marks=pytest.mark.slow),
        pytest.param("brf", [], marks=pytest.mark.slow),
    ],
)
def test_both_responses_are_drawn(family, plane):
    found = panels(lnm.get(family))
    assert {"poles", "step response", "impulse response", "firing rate", *plane} <= set(found)
    for name, draw in (("step", lnm.plot.step_response), ("impulse", lnm.plot.impulse_response)):
        ours = found[f"{name} response"]
        alone = draw(lnm.get(family), ax=Figure().subplots())
        assert len(ours.lines) == len(alone.lines)
        for one, other in zip(ours.lines, alone.lines, strict=True):
            np.testing.assert_array_equal(one.get_xydata(), other.get_xydata())


def test_a_response_without_spikes_has_no_resets():
    """adlif changes w in its reset at every step."""
    (v, w) = panels(lnm.get("adlif"))["step response"].lines
    assert len(v.get_xdata()) == len(w.get_xdata()) == 65


@pytest.mark.parametrize(
    "family", ["adlif", *(pytest.param(name, marks=pytest.mark.slow) for name in ("rf", "brf"))]
)
def test_a_neuron_silent_over_the_given_inputs_has_the_range_of_its_curve(family):
    """The given inputs are shaded, and named in the legend."""
    axes = panels(lnm.get(family))["firing rate"]
    curve = axes.lines[0]
    expected = lnm.plot.fi_curve(lnm.get(family), ax=Figure().subplots()).lines[0]
    assert curve.get_xdata()[[0, -1]].tolist() == [-1, expected.get_xdata()[-1]]
    assert curve.get_ydata().max() > 0
    assert axes.get_legend_handles_labels()[1] == ["x in [-1, 1]"]
    assert not axes.texts


def test_a_neuron_that_fires_has_the_given_inputs():
    axes = panels(free(), 2.0)["firing rate"]
    assert axes.lines[0].get_xdata()[[0, -1]].tolist() == [-2, 2]
    assert axes.get_legend() is None


def test_a_neuron_that_never_fires_says_so():
    v, w, x = lnm.state("v"), lnm.state("w"), lnm.input("x")
    charge = {v: lnm.clip(0.5 * v - 0.6 * w + x, -1, 1), w: 0.6 * v + 0.5 * w}
    texts = panels(lnm.Neuron(charge=charge, fire=v - 2, name="n"))["firing rate"].texts
    assert [text.get_text() for text in texts] == ["silent for -1 <= x <= 8"]
    texts = panels(lnm.Neuron(charge=charge, output=v, name="n"))["firing rate"].texts
    assert [text.get_text() for text in texts] == ["no spikes"]


def test_one_trajectory_of_the_plane_fires():
    axes = panels(lnm.get("lnm", states=2, degree=1))["phase plane without input"]
    assert "reset" in axes.get_legend_handles_labels()[1]


def charge_of(charge: str, threshold: float, start: float, x: float) -> Axes:
    """Return the figure of a neuron with its inputs in [-x, x]."""
    v, a, b = lnm.state("v", init=start), lnm.input("x"), lnm.input("y")
    h = {"difference": v / 2 + a - b, "square": v / 2 + a**2,
         "quadratic": v + 0.02 * (v + 65) * (v + 45) + a}[charge]  # fmt: skip
    neuron = lnm.Neuron({v: h}, v - threshold, {v: v - 0.5 * lnm.spike}, name="n")
    figure: Figure = family_figure(analyze(neuron, {s.name: (-x, x) for s in neuron.inputs}))
    return figure.axes[0]


@pytest.mark.parametrize(
    ("charge", "low", "high"), [("difference", -2.0, 2.0), ("square", 0.0, 1.0)]
)
def test_the_band_of_a_charge_has_every_input(charge, low, high):
    """Also where both ends of the intervals give the same charge."""
    (band,) = charge_of(charge, 1.0, 0.0, 1.0).collections
    points = band.get_paths()[0].vertices
    beside = points[:, 1] - points[:, 0] / 2
    assert (beside.min(), beside.max()) == (pytest.approx(low), pytest.approx(high))


def test_a_charge_without_ranges_is_drawn_around_its_threshold():
    """In mV, far from 0: the threshold and both fixed points are inside."""
    axes = charge_of("quadratic", -50.0, -65.0, 30.0)
    low, high = axes.get_xlim()
    assert low < -65 < -45 < high < 0


def test_the_figure_shows_curve_diagonal_threshold_and_points():
    found = analyze(
        lnm.get("lnm", degree=3, theta=(0.05, 0.6, -0.1, 0.15), v_min=-2.0), {"x": (-1, 1)}
    )
    axis = family_figure(found).axes[0]
    _, labels = axis.get_legend_handles_labels()
    assert labels == [
        "h for x in [-1, 1]", "diagonal, h = v", "h without input", "threshold",
        "invariant [-2, 1]", "stable fixed point", "unstable fixed point",
    ]  # fmt: skip
    curve = next(line for line in axis.lines if line.get_label() == "h without input")
    v, h = curve.get_data()
    expected = (0.05 + 0.6 * v - 0.1 * v**2 + 0.15 * v**3).clip(min=-2)
    assert abs(h - expected).max() < 1e-12


def test_the_figure_of_two_states_has_five_panels():
    """Poles, both responses, f-I curve over the given inputs, and phase plane."""
    axes = family_figure(analyze(free(), {"x": (-2, 2)})).axes
    titles = [axis.get_title() for axis in axes]
    assert titles == [
        "poles", "step response: x = 0.7", "impulse response: x = 0.7 in the first step",
        "firing rate", "phase plane without input",
    ]  # fmt: skip
    assert axes[3].lines[0].get_xdata()[[0, -1]].tolist() == [-2, 2]
    assert all(axis.get_xlabel() and axis.get_ylabel() for axis in axes)
