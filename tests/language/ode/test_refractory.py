"""Refractory periods: steps, conditions, and states that are paused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import lnm_codegen as lnm
from tests.refusals import refused

TEXT = "dv/dt = (x - v)/tau : 1 (unless refractory)\ndw/dt = (v - w)/tau : 1"
SLOW = pytest.mark.slow


def spikes(
    refractory: Any, method: Any = "euler", steps: int = 40
) -> tuple[np.ndarray, np.ndarray]:
    """Return the steps of the spikes and v before each step, under a constant input."""
    values = {"tau": 4, "t_r": 3} if "t_r" in str(refractory) else {"tau": 4}
    neuron = lnm.ode(TEXT, parameters=values, dt=1, method=method, threshold="v > 1",
                     reset="v = 0", refractory=refractory)  # fmt: skip
    result = lnm.interpret(neuron, np.full((steps, 1), 3.0))
    return np.nonzero(result.out[:, 0])[0], result.trajectory["v"][:, 0]


@pytest.mark.parametrize(
    "method",
    ["euler", "exponential_euler", *(pytest.param(m, marks=SLOW) for m in ("rk2", "exact"))],
)
def test_a_time_blocks_that_many_steps(method: str) -> None:
    """After a spike at step n the next one waits for step n + time/dt at least; v is paused."""
    plain, _ = spikes(None, method)
    interval = plain[1] - plain[0]
    for time in (0, 1, 2, 5):
        found, v = spikes(time, method)
        assert found[0] == plain[0]
        assert set(np.diff(found)) == {interval + max(time - 1, 0)}
        assert np.all(v[found[0] + 1 : found[0] + 1 + max(time, 1)] == 0)
        assert v[found[0] + 1 + max(time, 1)] > 0


def test_a_time_of_a_parameter_is_a_number() -> None:
    """It is read at its initial value, and is no parameter of the neuron."""
    np.testing.assert_array_equal(spikes("t_r")[0], spikes(3)[0])
    np.testing.assert_array_equal(spikes("t_r - 2*dt/2")[0], spikes(2)[0])


def test_a_parameter_of_the_time_is_a_constant_everywhere() -> None:
    """`with_init` set the membrane's tau and left the period's."""
    neuron = lnm.ode("dv/dt = (x - v)/tau : 1", parameters={"tau": 4}, dt=1, threshold="v > 1",
                     reset="v = 0", refractory="tau")  # fmt: skip
    assert neuron.params == ()
    with refused(lnm.ModelError, "ode", "no state or parameter 'tau'"):
        neuron.with_init(tau=2)
    x = np.full((12, 1), 5.0)
    assert np.nonzero(lnm.interpret(neuron, x).out[:, 0])[0].tolist() == [0, 4, 8]


def test_without_the_flag_the_state_goes_on() -> None:
    """The period then blocks spikes alone."""
    text = TEXT.replace(" (unless refractory)", "")
    neuron = lnm.ode(
        text, parameters={"tau": 4}, dt=1, threshold="v > 1", reset="v = 0", refractory=9
    )
    result = lnm.interpret(neuron, np.full((40, 1), 3.0))
    assert set(np.diff(np.nonzero(result.out[:, 0])[0])) == {9}
    assert result.trajectory["v"].max() > 1


def test_a_condition_ends_the_period() -> None:
    """One spike for each time above threshold, although z >= 0 in every step of it."""
    text = "dv/dt = x - v : 1"
    arguments: dict[str, Any] = {"dt": 1, "threshold": "v > 1"}
    x = np.array([0, 2, 2, 2, 0, 0, 2, 2, 0.0])[:, None]
    free = lnm.interpret(lnm.ode(text, **arguments), x).out[:, 0]
    held = lnm.interpret(lnm.ode(text, **arguments, refractory="v > 1"), x).out[:, 0]
    assert free.tolist() == [0, 1, 1, 1, 0, 0, 1, 1, 0]
    assert held.tolist() == [0, 1, 0, 0, 0, 0, 1, 0, 0]


def test_the_name_of_the_counter_is_free() -> None:
    """A state `refractory` of the text keeps its name."""
    neuron = lnm.ode("drefractory/dt = x : 1", dt=1, threshold="refractory > 1", refractory=3)
    assert [s.name for s in neuron.states] == ["refractory", "refractory_2"]


@pytest.mark.parametrize(
    ("refractory", "problem"),
    [
        (-1, "the time -1 is -1 steps dt"),
        ("2**40", "steps dt"),
        ("v", "unknown name 'v'"),
        ([1], "refractory is [1]"),
    ],
)
def test_refusals(refractory: Any, problem: str) -> None:
    """A time is a number of parameters and dt."""
    with refused(lnm.ModelError, None, problem):
        spikes(refractory)
