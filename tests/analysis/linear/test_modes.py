"""Poles, fixed points and classes of behaviour, against NumPy and their definitions."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import lnm_codegen as lnm
from lnm_codegen.analysis.linear.modes import (
    EDGE,
    FLAT,
    POLE_CLASSES,
    SLOW,
    Pole,
    classify_poles,
    distinct_points,
    eigenvalues,
    find_points,
    modes_of,
    nearest_point,
    number,
    stability,
)
from lnm_codegen.analysis.linear.step import StepMap
from lnm_codegen.analysis.report import RESPONSE_STEPS, linear_analysis
from tests.analysis.linear.matrices import entries, fitzhugh_nagumo, free
from tests.strategies import examples
from tests.two_states import rotation


@examples(50)
@given(entries)
def test_eigenvalues_are_those_of_numpy_by_falling_modulus(a):
    matrix = np.reshape(a, (2, 2))
    found = eigenvalues(matrix)
    assert np.abs(found[0]) >= np.abs(found[1]) - 1e-9
    assert found.sum() == pytest.approx(np.trace(matrix), abs=1e-6)
    assert found.prod() == pytest.approx(np.linalg.det(matrix), abs=1e-6)
    expected = np.linalg.eigvals(matrix)
    distance = np.abs(found[:, None] - expected[None]).min(1)
    assert distance.max() <= 1e-6 * max(1, np.abs(expected).max())


def test_a_pair_begins_above_the_real_axis_and_a_lost_matrix_is_nan():
    found = eigenvalues(np.array([[[0.0, -0.5], [0.5, 0.0]], [[np.inf, 0.0], [0.0, 1.0]]]))
    assert found[0].tolist() == pytest.approx([0.5j, -0.5j])
    assert np.isnan(found[1]).all()


@examples(50)
@given(r=st.floats(0.05, 1.2), phi=st.floats(0.001, math.pi))
def test_frequency_and_damping_time_are_those_of_a_rotation(r, phi):
    """After a damping time the deviation is 1/e; after 1/f steps it has turned once."""
    assume(abs(r - 1) > 1e-3)
    pole = Pole(complex(eigenvalues(np.reshape(rotation(r, phi), (2, 2)))[0]))
    assert pole.radius == pytest.approx(r)
    assert pole.radius**pole.damping_time == pytest.approx(math.exp(-1))
    assert pole.frequency == pytest.approx(phi / (2 * math.pi), abs=1e-6)
    turned = np.exp(1j * 2 * math.pi * pole.frequency)
    assert abs(turned - pole.value / abs(pole.value)) < 1e-5


@examples(50)
@given(share=st.floats(-0.99, 0.99), phi=st.floats(0, math.pi))
def test_a_modulus_of_1_up_to_rounding_never_dies_out(share, phi):
    """Also 1 - 2**-53, which a rotation gives; so `stability` calls it neutral."""
    pole = Pole((1 + share * EDGE) * complex(math.cos(phi), math.sin(phi)))
    assert pole.damping_time == math.inf
    assert stability(pole.radius) == "neutral"
    for r in (1 - 2 * EDGE, 1 + 2 * EDGE):
        assert Pole(r * 1j).damping_time == pytest.approx(-1 / math.log(r))


def test_poles_on_the_real_axis():
    """A negative pole alternates, half a cycle a step; on the circle nothing dies out."""
    assert (Pole(-0.5).frequency, Pole(0.5).frequency) == (0.5, 0.0)
    assert Pole(1).damping_time == math.inf
    assert Pole(0).damping_time == 0
    assert Pole(math.e).damping_time == pytest.approx(-1)
    assert Pole(0.5 + 1e-8j).frequency == 0
    assert [number(z) for z in (0.5 + 0.25j, 0.5 - 0.25j, -1 + 0j)] == [
        "0.5 + 0.25i", "0.5 - 0.25i", "-1",
    ]  # fmt: skip


@examples(20)
@given(entries)
def test_a_linear_step_has_one_point(a):
    """(1 - A) s = (x, 0)."""
    matrix = np.eye(2) - np.reshape(a, (2, 2))
    assume(abs(np.linalg.det(matrix)) > 1e-3)
    step = StepMap(free(), {"A": np.array(a)})
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


CLASSES = [
    ((0.5, 0, 0, 0.75), "real poles"),
    ((0.5, 0, 0.1, 0.91), "integrator"),
    ((0.5, 0, 0, 0.91), "real poles"),  # the input does not reach w
    ((0.5, 0.1, 0, 0.91), "real poles"),
    ((0.5, 0.1, 0, -0.6), "real poles"),
    ((0.5, 0, 0.1, 1 - SLOW - 1e-3), "real poles"),
    ((1, 0, 0, 0.2), "integrator"),
    ((0.5, 0, 0.1, -0.6), "alternating"),
    ((-FLAT / 2, 0, 0, 0.01), "real poles"),
    (rotation(0.8, 0.5), "oscillator"),
    (rotation(1 - SLOW + 1e-3, 0.5), "resonator"),
    (rotation(1, 0.5), "resonator"),
    (rotation(1.02, 0.7), "unstable but reset"),
    (rotation(1.4, 0.7), "diverging"),
    ((0.5, 0, 0, 1.1), "diverging"),  # without an input
    ((1.1, 0, 0, 0.5), "diverging"),  # from below nothing resets it
    ((1.005, 0, 0, 0.5), "diverging"),  # in 1000 steps it reaches 73 scales
    (rotation(1.005, 0.7), "unstable but reset"),
]


def test_classes():
    """As parameter sets of one neuron, and the last one alone."""
    matrices, labels = zip(*CLASSES, strict=True)
    found = modes_of(free(), {"A": np.array(matrices)}, len(labels))
    assert found.labels == labels
    assert {*labels} <= {*POLE_CLASSES}
    assert found.fixed.all()
    assert modes_of(free(matrices[-1])).labels == labels[-1:]
    assert modes_of(free(matrices[-1])).at() == {"v": 0.0, "w": 0.0}


@pytest.mark.slow
def test_a_class_near_the_circle():
    """It takes more steps."""
    assert modes_of(free(rotation(1.0001, 0.7))).labels == ("unstable but reset",)


def test_after_spike_currents_are_not_reached() -> None:
    """A slow current that only spikes move does not make a leaky neuron an integrator."""
    v, i, u, x = lnm.state("v"), lnm.state("i"), lnm.state("u"), lnm.input("x")
    neuron = lnm.Neuron(
        charge={v: 0.5 * v + i + x, i: 0.95 * i, u: 0.3 * u + v},
        fire=v - 1,
        reset={v: lnm.where(lnm.spike, 0, v), i: i - 0.1 * lnm.spike},
    )
    found = modes_of(neuron)
    assert found.reached.tolist() == [[True, False, True]]
    assert (found.unreached(), found.labels) == (("i",), ("real poles",))
    assert found.eigenvalues[0] == pytest.approx([0.95, 0.5, 0.3])
    alone = lnm.Neuron(charge={i: 0.95 * i}, fire=i - 1 + x)
    assert (modes_of(alone).unreached(), modes_of(alone).labels) == ((), ("integrator",))


def test_a_matrix_that_is_not_finite_diverges():
    assert classify_poles(np.array([complex("nan")] * 2), True) == "diverging"
    assert [stability(r) for r in (0.9, 1 + 1e-7, 1.1)] == ["stable", "neutral", "unstable"]


@examples(4)
@given(entries, entries)
def test_rows_do_not_disturb_each_other(a, b):
    """Two sets at once give what each gives alone."""
    both = modes_of(free(), {"A": np.array([a, b])}, 2)
    alone = [modes_of(free(), {"A": np.array(one)}) for one in (a, b)]
    assert both.labels == tuple(one.labels[0] for one in alone)
    assert both.eigenvalues == pytest.approx(np.concatenate([o.eigenvalues for o in alone]))
    assert both.matrix == pytest.approx(np.array([a, b]).reshape(2, 2, 2))


def test_the_point_is_the_nearest_fixed_point_or_the_start():
    found = modes_of(lnm.get("izhikevich"))
    assert found.at()["v"] == pytest.approx(-0.1)
    assert found.eigenvalues[0] == pytest.approx([0.55, 0.5])
    v, w, x = lnm.state("v", init=0.25), lnm.state("w"), lnm.input("x")
    rising = lnm.Neuron(charge={v: v + x + 1, w: 0.5 * w}, fire=v - 9, name="rising")
    found = modes_of(rising)
    assert (found.at(), found.fixed[0]) == ({"v": 0.25, "w": 0.0}, False)


def test_the_report_lists_points_at_each_input():
    """FitzHugh-Nagumo is excitable at rest and oscillates at x = 0.5."""
    found = linear_analysis(fitzhugh_nagumo(), [{"x": 0}, {"x": 0.5}])
    assert found.label == "resonator"
    (at_0, rest), (at_half, moved) = found.points
    assert (at_0, at_half) == ({"x": 0.0}, {"x": 0.5})
    assert ([p.kind for p in rest], [p.kind for p in moved]) == (["stable"], ["unstable"])
    assert not rest[0].fires
    assert found.impulse["v"][:2] == pytest.approx([0.2, 0.2 * found.modes.matrix[0, 0, 0]])
    assert len(found.step["w"]) == RESPONSE_STEPS
    assert found.step["v"][1] == pytest.approx(sum(found.impulse["v"][:2]))
