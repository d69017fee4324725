"""Plots: drawn, labelled, and their lines are the computed data."""

from __future__ import annotations

import sys

import matplotlib as mpl
import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

import lnm_codegen as lnm
from lnm_codegen.analysis.linear.modes import distinct_points, find_points, modes_of
from lnm_codegen.analysis.linear.step import StepMap
from lnm_codegen.errors import ModelError, ToolError, UnsupportedError
from lnm_codegen.nn import NeuronLayer
from lnm_codegen.plot.poles import continued, draw_poles
from lnm_codegen.plot.subject import MOST_CURVES
from tests.analysis.linear.matrices import fitzhugh_nagumo, free
from tests.refusals import refused

FUNCTIONS = ("step_response", "impulse_response", "fi_curve", "charge", "phase_plane", "poles")


@pytest.fixture
def ax() -> Axes:
    return Figure().subplots()


def line(ax: Axes, label: str) -> Line2D:
    (found,) = (one for one in ax.lines if one.get_label() == label)
    return found


def labels(ax: Axes) -> list[str]:
    return [text.get_text() for text in ax.get_legend().get_texts()]


def channels(a: list[list[float]]) -> NeuronLayer:
    """Return a layer of `free` with a matrix for each channel."""
    layer = NeuronLayer(free().with_per("channel"), channels=len(a), backend="torch")
    with torch.no_grad():
        layer.A.copy_(torch.tensor(a))
    return layer


def test_without_matplotlib_the_remedy_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with refused(ToolError, "plot.poles", "matplotlib", remedy="train"):
        lnm.plot.poles(free())


@pytest.mark.parametrize("name", FUNCTIONS)
def test_axes_in_and_out(name, ax):
    """Each draws into the given axes, or into a new figure, and labels what it drew."""
    draw = getattr(lnm.plot, name)
    assert draw(free(), ax=ax) is ax
    assert ax.lines
    assert ax.get_xlabel()
    assert ax.get_ylabel()
    assert ax.get_title().startswith("free: ")
    mpl.use("Agg")
    from matplotlib import pyplot

    new = draw(free())
    assert new.figure is not ax.figure
    pyplot.close(new.figure)
    layer = channels([[0.5, -0.6, 0.6, 0.5], [0.9, 0, 0, 0.2]])
    assert draw(layer, row=1, ax=Figure().subplots()).lines
    assert draw(layer, ax=Figure().subplots()).lines


def test_a_step_response_is_that_of_interpret(ax):
    """At a spike the line goes to the charged state; dashed is the loop without spikes."""
    lnm.plot.step_response(free(), x=1.5, steps=20, ax=ax)
    x = np.full((20, 1, 1), 1.5)
    found = lnm.interpret(free(), x)
    v, w = (found.trajectory[n][:, 0, 0] for n in "vw")
    t, drawn = line(ax, "v").get_data()
    keep = np.append(np.diff(t) > 0, True)
    assert drawn[keep][:-1] == pytest.approx(v)
    assert line(ax, "w").get_ydata()[:-1] == pytest.approx(w)
    fired = np.flatnonzero(found.out[:, 0, 0]) + 1
    assert line(ax, "spike").get_xdata().tolist() == fired.tolist()
    assert len(fired) > 1
    assert (~keep).sum() == len(fired)
    assert (drawn[~keep] >= 1).all()
    a = b = 0.0
    silent = [0.0]
    for _ in range(20):
        a, b = 0.5 * a - 0.6 * b + 1.5, 0.6 * a + 0.5 * b
        silent.append(a)
    assert line(ax, "v without spikes").get_ydata() == pytest.approx(silent)
    assert labels(ax) == ["v", "v without spikes", "w", "w without spikes", "spike"]
    low, high = ax.get_ylim()
    assert low <= drawn.min() < drawn.max() <= high


def test_a_quiet_response_has_one_line_a_state(ax):
    """By default the input is 0.7 times the distance to the threshold."""
    lnm.plot.impulse_response(free(), steps=5, ax=ax)
    assert labels(ax) == ["v", "w"]
    assert line(ax, "v").get_ydata() == pytest.approx([0, 0.7, 0.35, -0.077, -0.2905, -0.24353])
    assert ax.get_title() == "free: x = 0.7 in the first step"


def test_the_height_of_a_response_is_that_of_the_states(ax):
    """The quadratic neuron explodes without its reset; the axes do not."""
    lnm.plot.step_response(lnm.get("izhikevich"), x=1.0, ax=ax)
    assert ax.get_ylim()[1] < 6


def test_an_fi_curve_is_the_mean_of_spikes(ax):
    lnm.plot.fi_curve(free(), x=(0.0, 2.0), steps=40, ax=ax)
    x, rate = ax.lines[0].get_data()
    spikes = lnm.interpret(free(), np.broadcast_to(x, (40, 1, len(x)))).out
    assert rate == pytest.approx(spikes.mean((0, 1)))
    assert (x[0], x[-1]) == (0, 2)
    assert ax.get_ylim()[1] == pytest.approx(1.08 * rate.max())


def test_inputs_of_an_fi_curve_follow_the_neuron(ax):
    """In mV a neuron needs inputs of mV."""
    lnm.plot.fi_curve(lnm.get("lif", v_threshold=20.0, decay_input=False), ax=ax)
    x, rate = ax.lines[0].get_data()
    assert x[-1] >= 20
    assert rate[0] == 0 < rate[-1]


def test_a_charge_is_the_polynomial_with_its_points(ax):
    lnm.plot.charge(lnm.get("lnm", degree=3, theta=(0.05, 0.6, -0.1, 0.15), v_min=-2.0), ax=ax)
    v, h = line(ax, "h").get_data()
    assert h == pytest.approx((0.05 + 0.6 * v - 0.1 * v**2 + 0.15 * v**3).clip(min=-2))
    assert line(ax, "threshold").get_ydata()[0] == 1
    stable = line(ax, "stable fixed point").get_xdata()
    assert [-2, np.roots([0.15, -0.1, -0.4, 0.05])[2]] == pytest.approx(sorted(stable))
    assert labels(ax)[0] == "diagonal, h = v"


def test_a_charge_has_one_mark_at_a_double_root(ax):
    v, x = lnm.state("v"), lnm.input("x")
    lnm.plot.charge(lnm.Neuron(charge={v: v + (v - 0.5) ** 2 + x}, fire=v - 1), ax=ax)
    assert line(ax, "neutral fixed point").get_xdata() == pytest.approx([0.5], abs=1e-6)
    assert not {"stable fixed point", "unstable fixed point"} & set(labels(ax))


def test_a_charge_has_no_marks_if_the_reset_acts_without_a_spike(ax):
    """The fixed point of the step, 0.5, is none of the charge, which is drawn."""
    v, x = lnm.state("v"), lnm.input("x")
    reset = {v: lnm.where(lnm.spike, 0, v / 2)}
    lnm.plot.charge(lnm.Neuron(charge={v: v + x}, fire=v - 1, reset=reset), x=0.5, ax=ax)
    assert not [label for label in labels(ax) if "fixed point" in label]


def test_a_plane_has_nullclines_trajectories_and_points(ax):
    """On the lines of a nullcline the step keeps the state."""
    neuron = fitzhugh_nagumo()
    lnm.plot.phase_plane(neuron, x=0.5, starts=[(0.0, 0.5)], steps=30, ax=ax)
    step = StepMap(neuron)
    lines = [c for c in ax.collections if hasattr(c, "levels") and not c.filled]
    assert len(lines) == 2
    for k, contour in enumerate(lines):
        (path,) = contour.get_paths()
        at = path.vertices.T[:, :, None]
        assert np.abs(step.next(at, {"x": 0.5})[k] - at[k]).max() < 1e-3
    x = np.full((31, 1, 1), 0.5)
    found = lnm.interpret(neuron, x, state={"v": 0.0, "w": 0.5}).trajectory
    v, w = line(ax, "trajectory").get_data()
    assert v == pytest.approx(found["v"][:, 0, 0])
    assert w == pytest.approx(found["w"][:, 0, 0])
    points = distinct_points(step, find_points(step, {"x": 0.5}), {"x": 0.5})
    assert np.array(line(ax, "unstable fixed point").get_data()) == pytest.approx(points)
    assert {"nullcline of v", "nullcline of w"} <= set(labels(ax))
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("v", "w")


def test_a_plane_shows_resets_and_where_the_neuron_fires(ax):
    lnm.plot.phase_plane(free(), x=0.9, starts=[(0.0, 0.0)], steps=10, ax=ax)
    v, w = (part[:2] for part in line(ax, "reset").get_data())
    assert v[0] - v[1] == pytest.approx(1)
    assert w[0] == w[1]
    assert "fires in the next step" in labels(ax)


def test_poles_are_the_eigenvalues_by_class(ax):
    a = [[0.5, -0.6, 0.6, 0.5], [0.5, -0.5, 0.5, 0.5], [0.5, 0, 0, 0.25]]
    layer = channels(a)
    lnm.plot.poles(layer, ax=ax)
    assert labels(ax) == ["unit circle", "real poles (1)", "oscillator (2)"]
    x, y = line(ax, "oscillator (2)").get_data()
    expected = np.linalg.eigvals(np.reshape(a[:2], (2, 2, 2))).ravel()
    assert sorted(x + 1j * y) == pytest.approx(sorted(expected))
    x, y = line(ax, "unit circle").get_data()
    assert x**2 + y**2 == pytest.approx(np.ones(len(x)))
    assert ax.get_aspect() == 1
    assert (
        sum(
            label.startswith("oscillator")
            for label in modes_of(free(), {"A": np.array(a)}, 3).labels
        )
        == 2
    )


@pytest.mark.parametrize(
    ("a", "texts"),
    [((0.9, 0, 0, 0.9), ["×2"]), ((0.9, 0.1, 0, 0.9001), ["×2"]), ((0.9, 0, 0, 0.8), [])],
)
def test_poles_at_one_point_are_counted(a, texts, ax):
    """Of one set only: those of several sets may lie anywhere."""
    lnm.plot.poles(free(a), ax=ax)
    assert [text.get_text() for text in ax.texts] == texts
    other = Figure().subplots()
    lnm.plot.poles(channels([a, a]), ax=other)
    assert not other.texts


def test_the_disc_grows_with_the_poles(ax):
    lnm.plot.poles(free((2.0, 0, 0, 0.5)), ax=ax)
    assert ax.get_xlim()[1] == pytest.approx(2.16)


def test_paths_follow_an_eigenvalue():
    """Where two real eigenvalues swap their order, each path stays with its own."""
    history = np.array([[[0.5, 0.4]], [[0.46, 0.45]], [[0.5, 0.43]]], complex)
    history[2, 0] = [0.52, 0.42]
    crossed = np.array([[[0.5, 0.4]], [[0.45, 0.44]], [[0.6, 0.3]]], complex)
    assert np.array_equal(continued(history), history)
    swapped = crossed.copy()
    swapped[1, 0] = swapped[1, 0, ::-1]
    assert np.array_equal(continued(swapped)[1, 0], crossed[1, 0])


def test_paths_of_poles_are_named_once(ax):
    modes = modes_of(free(), {"A": np.full((3, 4), 0.1)}, 3)
    draw_poles(ax, modes, np.stack([modes.eigenvalues, 0.5 * modes.eigenvalues]))
    names = ax.get_legend_handles_labels()[1]
    assert [names.count(n) for n in ("path in training", "before training")] == [1, 1]


def test_many_sets_are_thinned_to_curves(ax):
    layer = channels([[0.01 * k, 0, 0, 0.5] for k in range(80)])
    lnm.plot.charge(layer, ax=ax)
    assert len(ax.lines) == 1 + MOST_CURVES
    assert ax.lines[1].get_ydata()[0] == 0
    assert ax.lines[-1].get_ydata() == pytest.approx(0.79 * ax.lines[-1].get_xdata(), rel=1e-6)


def test_a_plot_of_what_it_is_not_is_refused():
    with refused(ModelError, "plot.poles", "'lif'", "a neuron or a NeuronLayer"):
        lnm.plot.poles("lif")
    with refused(ModelError, "plot.poles", "row is 3", "from 0 to 1"):
        lnm.plot.poles(channels([[0.0] * 4] * 2), row=3)
    with refused(ModelError, "plot.poles", "not known yet", remedy="Call the layer once"):
        lnm.plot.poles(NeuronLayer(free().with_per("channel")))
    with refused(UnsupportedError, "plot.phase_plane: lif", "1 state (v)", "2 states"):
        lnm.plot.phase_plane(lnm.get("lif"))
    with refused(ModelError, "plot.phase_plane", "starts is", "((v, w), ...)"):
        lnm.plot.phase_plane(free(), starts=[1.0])
    with refused(ModelError, "plot.fi_curve", "x is (1, 0)", "low < high"):
        lnm.plot.fi_curve(free(), x=(1, 0))
    with refused(ModelError, "plot.step_response", "steps is 0", "an integer >= 1"):
        lnm.plot.step_response(free(), steps=0)
