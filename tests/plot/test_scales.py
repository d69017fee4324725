"""Axes of states: states of one scale share them, and no state is flat."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

import lnm_codegen as lnm
from lnm_codegen.plot.axes import MOST_RATIO, grouped, padded
from tests.plot.neurons import millivolts

NUMBERS = st.floats(-1e4, 1e4).map(lambda x: round(x, 3))
ENDS = st.tuples(NUMBERS, NUMBERS).map(lambda pair: (min(pair), max(pair)))


@given(st.lists(ENDS, min_size=1, max_size=5))
def test_each_state_has_axes_on_which_it_is_seen(ends):
    groups = grouped(ends)
    assert sorted(k for group in groups for k in group) == list(range(len(ends)))
    for group in groups:
        whole = max(ends[k][1] for k in group) - min(ends[k][0] for k in group)
        sizes = [ends[k][1] - ends[k][0] for k in group if ends[k][0] != ends[k][1]]
        assert not sizes or whole <= MOST_RATIO * min(sizes) or len(group) == 1


@pytest.mark.parametrize(
    ("ends", "groups"),
    [
        ([(0, 1), (0, 0.2)], [[0, 1]]),
        ([(0, 1), (0, 0.19)], [[0], [1]]),
        ([(-65, -50), (0, 2)], [[0], [1]]),
        ([(0, 1), (0, 0)], [[0, 1]]),  # a constant state needs no axes of its own
        ([(-65, -50), (0, 0)], [[0, 1]]),
        ([(-65, -64), (0, 0)], [[0], [1]]),
        ([(0, 1), (0, 0.1), (0, 0.9), (0, 0.05)], [[0, 2], [1, 3]]),
        ([(0, 100), (0, 1), (0, 0.01)], [[0], [1], [2]]),
    ],
)
def test_groups(ends, groups):
    assert grouped(ends) == groups


@given(ENDS)
def test_limits_contain_the_values(ends):
    low, high = padded(ends)
    assert low < ends[0] <= ends[1] < high
    if ends[0] != ends[1]:
        assert math.isclose(high - low, 1.2 * (ends[1] - ends[0]), rel_tol=1e-9)


def extent_of(axes: Axes, label: str) -> float:
    """Return the share of the height that a line takes."""
    (line,) = (one for one in axes.lines if one.get_label() == label)
    low, high = axes.get_ylim()
    return float(line.get_ydata().max() - line.get_ydata().min()) / (high - low)


@pytest.mark.parametrize("name", ["step_response", "impulse_response"])
def test_a_state_in_millivolts_and_a_small_one_are_both_seen(name):
    ax = Figure().subplots()
    assert getattr(lnm.plot, name)(millivolts(), ax=ax) is ax
    main, twin = ax.figure.axes
    assert main is ax
    assert (main.get_ylabel(), twin.get_ylabel()) == ("v", "w")
    assert extent_of(main, "v") > 0.4
    assert extent_of(twin, "w") > 0.4
    assert main.get_ylim()[1] < -15
    names = [text.get_text() for text in ax.get_legend().get_texts()]
    assert {"v", "w"} <= set(names)
    assert main.get_zorder() > twin.get_zorder()


def test_three_scales_have_three_axes():
    """The third lies further to the right, and the labels do not overlap."""
    v, w, q, x = lnm.state("v"), lnm.state("w"), lnm.state("q"), lnm.input("x")
    neuron = lnm.Neuron(
        charge={v: 0.9 * v + x, w: 0.9 * w + 0.01 * x, q: 0.9 * q + 100 * x}, fire=v - 20, name="n"
    )
    figure = Figure(layout="constrained")
    lnm.plot.step_response(neuron, x=1.0, ax=figure.subplots())
    figure.draw_without_rendering()
    main, second, third = figure.axes
    assert [one.get_ylabel() for one in (main, second, third)] == ["v", "w", "q"]
    colors = [line.get_color() for line in (main.lines[0], second.lines[0], third.lines[0])]
    sides = ("left", "right", "right")
    for one, side, color in zip(figure.axes, sides, colors, strict=True):
        assert one.spines[side].get_edgecolor() == to_rgba(color)
        assert one.yaxis.get_ticklabels()[0].get_color() == color
    near, far = (one.yaxis.get_tightbbox() for one in (second, third))
    assert main.get_window_extent().x1 <= near.x0 + 5
    assert near.x1 < far.x0 + 5
    assert far.x1 <= figure.bbox.x1 + 1


def test_states_of_one_scale_share_axes():
    ax = Figure().subplots()
    lnm.plot.step_response(lnm.get("rf"), ax=ax)
    assert ax.figure.axes == [ax]
    assert ax.get_ylabel() == "state"


def test_a_constant_response_has_limits():
    ax = Figure().subplots()
    lnm.plot.step_response(millivolts(), x=0.0, ax=ax)
    low, high = ax.get_ylim()
    assert low < -65
    assert high > 0
    lnm.plot.step_response(lnm.get("lif"), x=0.0, ax=ax)
    assert ax.get_ylim() == (-1, 1)
