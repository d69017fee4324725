"""Eigenvalues, frequency and damping time, against NumPy and against their definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from lnm_codegen.analysis.linear.modes import EDGE, Pole, eigenvalues, number, stability
from tests.analysis.linear.matrices import entries


@settings(deadline=None)
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


@settings(deadline=None)
@given(r=st.floats(0.05, 1.2), phi=st.floats(0.001, math.pi))
def test_frequency_and_damping_time_are_those_of_a_rotation(r, phi):
    """After a damping time the deviation is 1/e; after 1/f steps it has turned once."""
    assume(abs(r - 1) > 1e-3)
    rotation = r * np.array([[math.cos(phi), -math.sin(phi)], [math.sin(phi), math.cos(phi)]])
    pole = Pole(complex(eigenvalues(rotation)[0]))
    assert pole.radius == pytest.approx(r)
    assert pole.radius**pole.damping_time == pytest.approx(math.exp(-1))
    assert pole.frequency == pytest.approx(phi / (2 * math.pi), abs=1e-6)
    turned = np.exp(1j * 2 * math.pi * pole.frequency)
    assert abs(turned - pole.value / abs(pole.value)) < 1e-5


@settings(deadline=None)
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
