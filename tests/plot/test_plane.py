"""Phase planes: a trajectory that fires, the threshold, and resets of spikes alone."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.quiver import Quiver

import lnm_codegen as lnm
from lnm_codegen.analysis.linear.step import StepMap
from lnm_codegen.families import FAMILIES
from tests.analysis.linear.matrices import free

TWO = [n for n in sorted(FAMILIES) if len(lnm.get(n).states) == 2]
NEURONS = [
    lnm.get("rf"),
    lnm.get("lnm", states=2, degree=1),
    *(pytest.param(lnm.get(n), marks=pytest.mark.slow) for n in TWO if n != "rf"),
    pytest.param(lnm.get("lnm", states=2, degree=3), marks=pytest.mark.slow),
]


@pytest.fixture
def ax() -> Axes:
    return Figure().subplots()


def lines(ax: Axes, marker: str) -> list[np.ndarray]:
    return [np.asarray(one.get_xydata()) for one in ax.lines if one.get_marker() == marker]


def jumps(ax: Axes) -> np.ndarray:
    """Return the lines of resets, (J, 2, 2): charged states, and states after it."""
    found = [one.get_xydata() for one in ax.lines if one.get_linestyle() == ":"]
    return np.concatenate(found).reshape(-1, 3, 2)[:, :2] if found else np.empty((0, 2, 2))


@pytest.mark.parametrize("neuron", NEURONS, ids=lambda n: n.name)
def test_one_trajectory_fires(neuron, ax):
    """It begins in the shaded region, which is in view; without input nothing else would."""
    lnm.plot.phase_plane(neuron, ax=ax)
    step = StepMap(neuron)
    starts = np.concatenate(lines(ax, "s")).T[..., None]
    assert starts.shape == (2, 3, 1)
    margin = step.margin(starts)[:, 0]
    assert margin[0] > 0
    assert (step.scale() * 0.89 < np.linalg.norm(starts[:, 1:, 0], axis=0)).all()
    for at in starts[..., 0].T:
        assert ax.get_xlim()[0] < at[0] < ax.get_xlim()[1]
        assert ax.get_ylim()[0] < at[1] < ax.get_ylim()[1]
    assert "fires in the next step" in ax.get_legend_handles_labels()[1]
    after, charged, spikes = step.fire(starts)
    assert spikes[0]
    if not np.array_equal(after[:, 0], charged[:, 0]):
        np.testing.assert_allclose(jumps(ax)[0], [charged[:, 0, 0], after[:, 0, 0]])


def test_the_threshold_is_in_view_also_with_starts(ax):
    lnm.plot.phase_plane(free(), starts=[(0.1, 0.0)], ax=ax)
    assert len(lines(ax, "s")) == 1
    assert "fires in the next step" in ax.get_legend_handles_labels()[1]
    corners = np.stack(np.meshgrid(ax.get_xlim(), ax.get_ylim())).reshape(2, 4, 1)
    assert StepMap(free()).margin(corners).max() > 0


def test_a_threshold_out_of_reach_is_not_drawn(ax):
    """v stays below 1 in any step, and the threshold is 2."""
    v, w, x = lnm.state("v"), lnm.state("w"), lnm.input("x")
    neuron = lnm.Neuron(charge={v: lnm.tanh(v + x - w), w: 0.5 * w + 0.5 * v}, fire=v - 2, name="n")
    lnm.plot.phase_plane(neuron, ax=ax)
    assert len(lines(ax, "s")) == 3
    assert not len(jumps(ax))
    assert "fires in the next step" not in ax.get_legend_handles_labels()[1]


def test_a_neuron_without_spikes_has_a_plane(ax):
    v, w, x = lnm.state("v"), lnm.state("w"), lnm.input("x")
    neuron = lnm.Neuron(charge={v: 0.5 * v - 0.6 * w + x, w: 0.6 * v + 0.5 * w}, output=v, name="n")
    lnm.plot.phase_plane(neuron, ax=ax)
    assert len(lines(ax, "s")) == 3


def test_only_spikes_reset(ax):
    """adlif stores its spike in the reset of w, which changes in every step."""
    neuron = lnm.get("adlif")
    lnm.plot.phase_plane(neuron, starts=[(0.5, 0.5), (-0.3, 0.2)], ax=ax)
    assert not len(jumps(ax))
    assert "reset" not in ax.get_legend_handles_labels()[1]
    for path, start in zip(lines(ax, "."), ((0.5, 0.5), (-0.3, 0.2)), strict=True):
        found = lnm.interpret(
            neuron, np.zeros((60, 1, 1)), state=dict(zip("vw", start, strict=True))
        )
        assert not found.out.any()
        after = np.stack([found.trajectory[n][:, 0, 0] for n in "vw"], 1)
        assert path[:-1] == pytest.approx(after)


def test_paths_and_starts_are_named_once(ax):
    lnm.plot.phase_plane(free(), ax=ax)
    names = ax.get_legend_handles_labels()[1]
    assert [names.count(n) for n in ("trajectory", "start", "reset")] == [1, 1, 1]


def test_a_rate_that_overflows_in_view_has_arrows(ax):
    """An exponential of Euler steps is infinite on a part of the plane; it once was a warning."""
    v, w, x = lnm.state("v"), lnm.state("w"), lnm.input("x")
    grown = lnm.exp(lnm.exp(20 * v)) * 1e-3 - v
    neuron = lnm.Neuron(charge={v: v + grown - w + x, w: 0.9 * w + v / 10}, fire=v - 1, name="n")
    lnm.plot.phase_plane(neuron, span=[(-1, 1), (-1, 1)], ax=ax)
    (arrows,) = [one for one in ax.collections if isinstance(one, Quiver)]
    lengths = np.hypot(arrows.U, arrows.V)
    assert np.allclose(lengths, 1)
