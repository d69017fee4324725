"""Legends: below the axes of a new figure; small, or none, inside given axes."""

from __future__ import annotations

import itertools

import matplotlib as mpl
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import lnm_codegen as lnm
from lnm_codegen.analysis.report import analyze
from lnm_codegen.plot.family import family_figure
from tests.plot.neurons import millivolts

CASES = (
    ("step_response", lnm.get("izhikevich")),
    ("step_response", millivolts()),
    ("impulse_response", lnm.get("rf")),
    ("charge", lnm.get("lnm", degree=3)),
    ("phase_plane", lnm.get("rf")),
    ("poles", lnm.get("izhikevich")),
)


def assert_below(axes: Axes) -> None:
    """The legend lies within the figure, below the axes and the labels of their x axis."""
    figure = axes.figure
    legend = axes.get_legend()
    assert legend is not None
    box = legend.get_window_extent()
    assert box.y1 < axes.xaxis.get_tightbbox().y0
    assert -1 <= box.x0 < box.x1 <= figure.bbox.x1 + 1
    assert box.y0 >= -1
    others = [one for one in figure.axes if one is not axes]
    assert not any(box.overlaps(one.get_window_extent()) for one in others)


@pytest.mark.parametrize(("name", "neuron"), CASES)
def test_a_new_figure_has_its_legend_below_the_data(name, neuron):
    mpl.use("Agg")
    from matplotlib import pyplot

    axes = getattr(lnm.plot, name)(neuron)
    axes.figure.draw_without_rendering()
    assert_below(axes)
    pyplot.close(axes.figure)


@pytest.mark.parametrize(("name", "neuron"), CASES)
def test_a_legend_of_given_axes_is_small_or_omitted(name, neuron):
    """Its names stay on the lines, for a legend of the whole figure."""
    sizes = ((6.4, 4.8), (2.2, 2), (1.5, 1.2))
    large, *others = (Figure(figsize=size).subplots() for size in sizes)
    for ax in (large, *others):
        assert getattr(lnm.plot, name)(neuron, ax=ax) is ax
        assert len(ax.get_legend_handles_labels()[1]) + len(ax.figure.axes) >= 3
        legend, inside = ax.get_legend(), ax.get_window_extent()
        if legend is not None:
            box = legend.get_window_extent()
            assert box.width * box.height <= 0.15 * inside.width * inside.height
            assert all(inside.x0 <= x <= inside.x1 for x in (box.x0, box.x1))
    assert large.get_legend() is not None
    if name != "impulse_response":  # two short names
        assert others[-1].get_legend() is None


def test_a_legend_of_two_axes_avoids_the_lines_of_both():
    ax = Figure().subplots()
    lnm.plot.step_response(millivolts(), x=2.5, ax=ax)
    box = ax.get_legend().get_window_extent()
    for one in ax.figure.axes:
        for line in one.lines:
            at = line.get_transform().transform(line.get_xydata())
            assert box.count_contains(at) == 0


@pytest.mark.parametrize(
    "family", ["rf", *(pytest.param(n, marks=pytest.mark.slow) for n in ("izhikevich", "alif"))]
)
def test_the_panels_of_a_family_have_legends_below_the_data(family):
    neuron = lnm.get(family)
    figure = family_figure(analyze(neuron, {neuron.inputs[0].name: (-0.1, 0.1)}))
    figure.draw_without_rendering()
    with_legend = [axes for axes in figure.axes if axes.get_legend() is not None]
    assert len(with_legend) >= 3
    for axes in with_legend:
        assert_below(axes)


@pytest.mark.parametrize("width", [1.6, 3.0, 6.4])
def test_ticks_of_poles_stay_apart(width):
    figure = Figure(figsize=(width, width), layout="constrained")
    ax = lnm.plot.poles(lnm.get("rf"), ax=figure.subplots())
    figure.draw_without_rendering()
    boxes = [t.get_window_extent() for t in ax.get_xticklabels() if t.get_text()]
    assert len(boxes) >= 2
    assert all(a.x1 < b.x0 for a, b in itertools.pairwise(boxes))
