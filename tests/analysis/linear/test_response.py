"""Responses against hand-written loops."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings

import lnm_codegen as lnm
from lnm_codegen.analysis.linear.step import (
    StepMap,
    farthest,
    firing_rates,
    impulse_response,
    linear_step_response,
    simulate,
)
from tests.analysis.linear.matrices import entries, free


@settings(deadline=None, max_examples=30)
@given(entries)
def test_linear_responses_are_those_of_a_loop(a):
    matrix, gain = np.reshape(a, (1, 2, 2)), np.array([[1.0, 0.0]])
    impulse = impulse_response(matrix, gain, 6)
    step = linear_step_response(matrix, gain, 6)
    for x_seq, found in (([1, 0, 0, 0, 0, 0], impulse), ([1] * 6, step)):
        v = w = 0.0
        for t, x in enumerate(x_seq):
            v, w = a[0] * v + a[1] * w + x, a[2] * v + a[3] * w
            assert found[t, :, 0].tolist() == pytest.approx([v, w], rel=1e-9, abs=1e-9)


@settings(deadline=None, max_examples=30)
@given(entries)
def test_a_simulation_is_a_loop_with_resets(a):
    found = simulate(StepMap(free(a)), {"x": np.full((12, 1), 0.7)}, 12, np.array([[0.2], [-0.1]]))
    v, w = 0.2, -0.1
    assert found.states[0, :, 0].tolist() == [v, w]
    for t in range(12):
        v, w = a[0] * v + a[1] * w + 0.7, a[2] * v + a[3] * w
        assert found.charged[t, :, 0].tolist() == pytest.approx([v, w])
        fired = v >= 1
        if abs(v - 1) < 1e-9:
            return
        assert found.spikes[t, 0] == fired
        v -= fired
        assert found.states[t + 1, :, 0].tolist() == pytest.approx([v, w])


def test_rates_are_those_of_interpret():
    """One rate for each input and parameter set."""
    a = np.array([[0.5, -0.6, 0.6, 0.5], [0.9, 0.0, 0.0, 0.5]])
    currents = np.array([-1.0, 0.3, 0.9, 2.0])
    rates = firing_rates(StepMap(free(), {"A": a}, 2), currents, 50)
    for r in range(2):
        x = np.broadcast_to(currents, (50, 1, 4))
        spikes = lnm.interpret(free(), x, A=a[r]).out
        assert rates[:, r] == pytest.approx(spikes.mean((0, 1)))


def test_the_farthest_state_of_a_run():
    """A doubling state is 2**8 away after 8 steps; one that becomes NaN is lost."""
    step = StepMap(free((2.0, 0, 0, 0.5)))
    centre = np.zeros((2, 1, 1))
    start = np.array([[[-1.0], [0.0]], [[0.5], [0.5]]])
    assert farthest(step, centre, start, np.array([8])).tolist() == [2.0**8]
    assert farthest(step, centre, start, np.array([2000])).tolist() == [np.inf]


def test_each_row_runs_for_its_own_steps():
    step = StepMap(free(), {"A": np.array([[2.0, 0, 0, 0.5]] * 2)}, 2)
    start = np.array([[[-1.0, -1.0]], [[0.0, 0.0]]])
    assert farthest(step, np.zeros((2, 1, 2)), start, np.array([3, 8])).tolist() == [8.0, 256.0]
