"""Shortest drives of two states: against sums of powers of the matrix, and runs of `interpret`."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lnm_codegen as lnm
from lnm_codegen.analysis import Escape, Invariant, invariant
from lnm_codegen.analysis.box import BoxStep
from lnm_codegen.analysis.invariant import LONGEST, STEPS
from lnm_codegen.analysis.plane import in_floats, shortest
from tests.two_states import Matrix, matrices, matrix_neuron, rotation


def least_steps(theta: Matrix, x_max: float, bound: float, most: int) -> int:
    """Return the least n with X * sum |A**k e_1| > bound for a state, or most + 1."""
    a, column, total = np.array(theta).reshape(2, 2), np.array([1.0, 0.0]), np.zeros(2)
    for k in range(1, most + 1):
        total += x_max * np.abs(column)
        if total.max() > bound:
            return k
        column = a @ column
    return most + 1


@settings(max_examples=60, deadline=None)
@given(matrices(1.3), st.sampled_from([0.0625, 1.0]))
def test_no_shorter_sequence_passes_the_bound(theta: Matrix, x_max: float) -> None:
    """Without a reset the largest state after n steps is X times a sum of absolute values."""
    plane = BoxStep(matrix_neuron(theta, "none"), {"x": (-x_max, x_max)}, None).plane
    assert plane is not None
    found = shortest(in_floats(plane), (0.0, 0.0), 50.0, 400)
    expected = least_steps(theta, x_max, 50.0, 400)
    assert len(found) == (expected if expected <= 400 else 0)
    if found:
        assert max(map(abs, found[-1][1])) > 50


@pytest.mark.parametrize(("radius", "x_max"), [(1.0, 0.05), (1.001, 0.001)])
@pytest.mark.parametrize("reset", ["soft", "none"])
def test_small_inputs_in_resonance_drive_a_pole_pair_out(
    radius: float, x_max: float, reset: str
) -> None:
    """Longer than any other sequence. On the circle nothing diverges: inputs can bring it back."""
    theta = rotation(radius, 0.3)
    neuron = matrix_neuron(theta, reset)
    inputs, values = {"x": (-x_max, x_max)}, {"v_threshold": 1e6}
    found = invariant(neuron, inputs, values=values)
    assert isinstance(found, Escape)
    assert STEPS < found.steps == least_steps(theta, x_max, 100.0, LONGEST)
    sequence = np.array(found.inputs["x"])
    assert np.abs(sequence).max() <= x_max
    last = lnm.interpret(neuron, sequence.reshape(-1, 1), **values).states[found.state][0]
    assert last == found.value
    assert abs(last) > 100
    assert found.diverges == (radius > 1 and reset == "none")


def test_resets_that_act_are_no_escape() -> None:
    """A hard reset at 1 holds the same rotation, in a proven polygon."""
    neuron = matrix_neuron(rotation(1.0, 0.3), "both")
    plane = BoxStep(neuron, {"x": (-0.05, 0.05)}, None).plane
    assert plane is not None
    assert shortest(in_floats(plane), (0.0, 0.0), 100.0, LONGEST) == []
    assert isinstance(invariant(neuron, {"x": (-0.05, 0.05)}), Invariant)
