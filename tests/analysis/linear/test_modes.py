"""Classes of behaviour, point by point of their definition, and the rows of a layer."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings

import lnm_codegen as lnm
from lnm_codegen.analysis.linear.modes import (
    FLAT,
    POLE_CLASSES,
    SLOW,
    classify_poles,
    modes_of,
    stability,
)
from lnm_codegen.analysis.report import RESPONSE_STEPS, linear_analysis
from tests.analysis.linear.matrices import entries, fitzhugh_nagumo, free


def rotation(r: float, phi: float) -> tuple[float, float, float, float]:
    c, s = r * math.cos(phi), r * math.sin(phi)
    return c, -s, s, c


@pytest.mark.parametrize(
    ("a", "label"),
    [
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
        (rotation(1.0001, 0.7), "unstable but reset"),
    ],
)
def test_classes(a, label):
    found = modes_of(free(a))
    assert found.labels == (label,)
    assert label in POLE_CLASSES
    assert found.at() == {"v": 0.0, "w": 0.0}
    assert found.fixed[0]


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


@settings(deadline=None, max_examples=10)
@given(entries, entries)
def test_rows_do_not_disturb_each_other(a, b):
    """Two sets at once give what each gives alone."""
    both = modes_of(free(), {"A": np.array([a, b])}, 2)
    alone = [modes_of(free(one)) for one in (a, b)]
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
