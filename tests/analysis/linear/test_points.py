"""Fixed points by Newton's method."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import assume, given, settings

import lnm_codegen as lnm
from lnm_codegen.analysis.linear.modes import distinct_points, find_points, nearest_point
from lnm_codegen.analysis.linear.step import StepMap
from lnm_codegen.analysis.report import linear_analysis
from tests.analysis.linear.matrices import entries, fitzhugh_nagumo, free


@settings(deadline=None, max_examples=30)
@given(entries)
def test_a_linear_step_has_one_point(a):
    """(1 - A) s = (x, 0)."""
    matrix = np.eye(2) - np.reshape(a, (2, 2))
    assume(abs(np.linalg.det(matrix)) > 1e-3)
    step = StepMap(free(a))
    found = distinct_points(step, find_points(step, {"x": 0.5}), {"x": 0.5})
    assert found.shape == (2, 1)
    assert found[:, 0] == pytest.approx(np.linalg.solve(matrix, [0.5, 0]), rel=1e-6, abs=1e-9)


def test_points_of_other_neurons():
    """Two of Izhikevich's quadratic; one of FitzHugh-Nagumo, a root of a cubic."""
    step = StepMap(lnm.get("izhikevich"))
    found = distinct_points(step, find_points(step))
    assert found == pytest.approx(np.array([[-0.1, 0.8], [0.0, 0.0]]), abs=1e-9)
    step = StepMap(fitzhugh_nagumo())
    points = find_points(step)
    ((v,), (w,)) = distinct_points(step, points)
    assert w == pytest.approx(v - v**3 / 3, abs=1e-9)
    assert 0.8 * w == pytest.approx(v + 0.7, abs=1e-9)
    assert nearest_point(step, points)[0][:, 0] == pytest.approx([v, w])


def test_a_line_of_points_counts_once_and_none_is_none():
    """Without leak every v is a fixed point at x = 0, and none is one at x = 1."""
    step = StepMap(lnm.get("if"))
    assert distinct_points(step, find_points(step)).tolist() == [[0.0]]
    points = find_points(step, {"x": 1.0})
    assert distinct_points(step, points, {"x": 1.0}).shape == (1, 0)
    at, found = nearest_point(step, points)
    assert (at.tolist(), found.tolist()) == ([[0.0]], [False])


def kinds(charge, init=0.0, threshold=1.0):
    """Return the fixed points of a charge of v and of w <- w/2 + v/10, with their kinds."""
    v, w, x = lnm.state("v", init=init), lnm.state("w"), lnm.input("x")
    neuron = lnm.Neuron(
        charge={v: charge(v) + x, w: w / 2 + v / 10}, fire=v - threshold, name="near"
    )
    ((_, points),) = linear_analysis(neuron, [{"x": 0.0}]).points
    return [(round(p.states["v"], 4), p.kind) for p in points]


def test_a_double_root_is_one_neutral_point():
    """A small residual is reached far from it, on both sides: these were points of their own."""
    ((_, (point,)),) = linear_analysis(lnm.get("izhikevich"), [{"x": 0.2025}]).points
    assert point.states == pytest.approx({"v": 0.35, "w": 0.0}, abs=1e-6)
    assert point.kind == "neutral"
    for power, factor in itertools.product((2, 3), (1, 50)):
        assert kinds(lambda v, n=power, f=factor: v + f * (v - 0.5) ** n) == [(0.5, "neutral")]
    far = kinds(lambda v: v + (v + 60) ** 2 / 15, init=-65.0, threshold=-50.0)
    assert far == [(-60.0, "neutral")]


@pytest.mark.parametrize("gap", [1e-10, 1e-13])
def test_near_a_double_root_is_a_pair_or_none(gap):
    assert kinds(lambda v: v + (v - 0.5) ** 2 + gap) == []
    pair = kinds(lambda v: v + (v - 0.5) ** 2 - 1e4 * gap)
    assert sorted(kind for _, kind in pair) == ["stable", "unstable"]
