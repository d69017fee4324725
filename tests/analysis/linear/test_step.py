"""The step with and without a spike, its Jacobian, and responses against hand-written loops."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given

import lnm_codegen as lnm
from lnm_codegen.analysis.linear.step import (
    StepMap,
    farthest,
    firing_rates,
    impulse_response,
    linear_step_response,
    simulate,
)
from lnm_codegen.analysis.report import analyze
from lnm_codegen.errors import ModelError, UnsupportedError
from lnm_codegen.insight.energy.cost import neuron_operations
from tests.analysis.linear.matrices import entries, fitzhugh_nagumo, free
from tests.refusals import refused
from tests.strategies import examples


@examples(15)
@given(entries)
def test_the_jacobian_of_a_linear_charge_is_its_matrix(a):
    step = StepMap(free(), {"A": np.array(a)})
    matrix, gain = step.jacobian(np.array([[0.3], [-0.2]]))
    assert matrix[0] == pytest.approx(np.reshape(a, (2, 2)))
    assert gain[0].tolist() == [[1.0], [0.0]]


@pytest.mark.parametrize("name", ["izhikevich", "cuba_lif", "alif", "glif", "qif", "fhn"])
def test_the_jacobian_is_the_derivative_of_the_step(name):
    """Central differences of `next`, where no spike and no clamp acts."""
    step = StepMap(fitzhugh_nagumo() if name == "fhn" else lnm.get(name))
    rng = np.random.default_rng(0)
    at = rng.uniform(-0.2, 0.2, (len(step.states), 3, 1))
    matrix, gain = step.jacobian(at, {step.inputs[0]: 0.1})
    for j in range(len(step.states)):
        move = np.zeros_like(at)
        move[j] = 1e-6
        slope = (step.next(at + move, {"x": 0.1}) - step.next(at - move, {"x": 0.1})) / 2e-6
        assert matrix[..., :, j] == pytest.approx(np.moveaxis(slope, 0, -1), abs=1e-7)
    slope = (step.next(at, {"x": 0.1 + 1e-6}) - step.next(at, {"x": 0.1 - 1e-6})) / 2e-6
    assert gain[..., :, 0] == pytest.approx(np.moveaxis(slope, 0, -1), abs=1e-7)


def test_no_spike_resets_anything():
    """`next` leaves a state above threshold; `fire` is the step that `interpret` makes."""
    neuron = lnm.get("izhikevich", b=0.25)
    step = StepMap(neuron)
    at = np.array([[0.95], [0.1]])
    free_, (after, charged, spikes) = step.next(at, {"x": 1.0}), step.fire(at, {"x": 1.0})
    assert step.margin(at, {"x": 1.0})[0] == pytest.approx(charged[0, 0] - 1)
    assert spikes[0]
    assert free_[:, 0] == pytest.approx(charged[:, 0])
    found = lnm.interpret(neuron, np.ones((1, 1, 1)), state={"v": 0.95, "w": 0.1})
    assert after[:, 0] == pytest.approx([found.states["v"].item(), found.states["w"].item()])
    assert after[1, 0] == pytest.approx(charged[1, 0] + 0.25)


def test_a_state_that_stores_the_spike_becomes_0():
    """alif stores the spike of a step, which has no charge: without spikes it is 0."""
    step = StepMap(lnm.get("alif"))
    after = step.next(np.array([[0.0], [0.0], [1.0]]))
    assert after[step.states.index("s_prev"), 0] == 0


def test_rows_are_their_own():
    """Parameter sets, their selection, and numbers for all sets."""
    a = np.array([[0.5, 0.0, 0.0, 0.25], [1.0, 2.0, 3.0, 4.0]])
    step = StepMap(free(), {"A": a}, 2)
    assert step.jacobian(step.start())[0] == pytest.approx(a.reshape(2, 2, 2))
    assert step.select(np.array([1, 1, 0])).jacobian(np.zeros((2, 3)))[0] == pytest.approx(
        a[[1, 1, 0]].reshape(3, 2, 2)
    )
    assert StepMap(free(), {"A": a[0]}, 3).jacobian(np.zeros((2, 3)))[0].shape == (3, 2, 2)
    assert StepMap(lnm.get("lif", v_threshold=7.0)).scale().tolist() == [7.0]
    assert StepMap(lnm.get("li")).scale().tolist() == [1.0]


def test_what_has_no_step_is_refused():
    with refused(UnsupportedError, "curve", "no state"):
        x = lnm.input("x")
        StepMap(lnm.Neuron(output=x, name="curve"))
    with refused(ModelError, "free", "no parameter 'B'", "A"):
        StepMap(free(), {"B": 1.0})


def test_the_scale_is_the_distance_of_the_start_to_the_threshold():
    """A charge at rest does not count: theta_0 moves the charged potential."""
    assert StepMap(lnm.get("lnm", degree=1, theta=(0.4, 0.5))).scale().tolist() == [1.0]
    assert StepMap(lnm.get("ternary")).scale().tolist() == [0.5]
    step = StepMap(lnm.get("lif", v_reset=-65.0, v_threshold=-50.0))
    assert step.scale().tolist() == [15.0]


def test_the_threshold_is_that_of_the_fire_expression():
    """In any spelling and units; the least of several spikes that a rising potential reaches."""
    v, x, vth = lnm.state("v"), lnm.input("x"), lnm.param("vth", init=0.7)
    for fire in (v - vth, 10 * v - 10 * vth, v / vth - 1, lnm.min(v, 9) - vth):
        neuron = lnm.Neuron(charge={v: 0.5 * v + x}, fire=fire)
        assert StepMap(neuron, {"vth": np.array([0.7, 2.0])}, 2).threshold() == pytest.approx(
            [0.7, 2.0], abs=1e-12
        )
    assert StepMap(lnm.get("lif", v_reset=-65.0, v_threshold=-50.0)).threshold() == [-50.0]
    assert StepMap(lnm.get("ternary")).threshold() == [0.5]
    assert StepMap(lnm.get("leaky")).threshold() == pytest.approx([1.0])  # fires at v > 1
    for fire in (v**2 - 1, 1 - v):
        assert np.isnan(StepMap(lnm.Neuron(charge={v: 0.5 * v + x}, fire=fire)).threshold())
    assert np.isnan(StepMap(lnm.get("li")).threshold())


def test_initial_states_may_be_parameters():
    """A set begins at its own value; a random state counts as 0."""
    start = lnm.param("start", init=0.25)
    v, w, x = lnm.state("v", init=start), lnm.state("w", init=lambda g, s: None), lnm.input("x")
    neuron = lnm.Neuron(charge={v: 0.5 * v + x, w: 0.5 * w}, fire=v - 1)
    assert StepMap(neuron).start().tolist() == [[0.25], [0.0]]
    step = StepMap(neuron, {"start": np.array([0.5, -1.0])}, 2)
    assert step.start().tolist() == [[0.5, -1.0], [0.0, 0.0]]
    assert step.select(np.array([1])).scale().tolist() == [2.0]


def test_the_jacobian_sees_through_bound_values_and_stopped_gradients():
    """Two sub-steps of halves, and a stopped factor: derivatives of the values."""
    v, w, x = lnm.state("v"), lnm.state("w"), lnm.input("x")
    (half,) = lnm.substeps(2, lambda v: 0.5 * v + 0.1 * v**2, v=v)
    after = lnm.bind(w * lnm.spike + 0.5 * w, "after")
    neuron = lnm.Neuron(
        charge={v: half + x, w: w * lnm.stop_gradient(w)}, fire=v - 1, reset={w: after}
    )
    step = StepMap(neuron)
    at = np.array([[0.4], [0.3]])
    matrix, _ = step.jacobian(at)
    inner = 0.5 * 0.4 + 0.1 * 0.16
    slope = (0.5 + 0.2 * inner) * (0.5 + 0.2 * 0.4)
    assert matrix[0] == pytest.approx(np.array([[slope, 0], [0, 0.5 * 0.6]]))
    assert step.next(at)[1, 0] == pytest.approx(0.5 * 0.09)


def test_an_input_that_a_silent_step_does_not_read():
    """It has no effect there: x sets only the shape, or the potential after a spike."""
    text = "dv/dt = (1.5 - v)/tau : 1"
    alone = lnm.ode(text, dt=1, threshold="v > 1", reset="v = 0", parameters={"tau": 2})
    v, x = lnm.state("v"), lnm.input("x")
    after = lnm.Neuron(
        charge={v: 0.5 * v + 0.75}, fire=v - 1, reset={v: lnm.where(lnm.spike, x, v)}
    )
    for neuron in (alone, after):
        step = StepMap(neuron)
        matrix, gain = step.jacobian(np.zeros((1, 1)), {"x": 3.0})
        assert (matrix.tolist(), gain.tolist()) == ([[[0.5]]], [[[0.0]]])
        assert step.margin(np.zeros((1, 1)), {"x": 9.0}).tolist() == [-0.25]
        assert step.scale().tolist() == [1.0]
        found = analyze(neuron, {"x": (0, 0)})
        assert (found.threshold.gain, neuron_operations(neuron).mul) == (
            pytest.approx(1, abs=1e-4),
            1,
        )


@examples(15)
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


@examples(15)
@given(entries)
def test_a_simulation_is_a_loop_with_resets(a):
    step = StepMap(free(), {"A": np.array(a)})
    found = simulate(step, {"x": np.full((12, 1), 0.7)}, 12, np.array([[0.2], [-0.1]]))
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
