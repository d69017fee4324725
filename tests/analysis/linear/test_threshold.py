"""Gradients through the reset: gain, factor at the threshold, and a surrogate's tail."""

from __future__ import annotations

import pickle
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lnm_codegen as lnm
from lnm_codegen.analysis.charge import degree_of
from lnm_codegen.analysis.linear.affine import linear_part
from lnm_codegen.analysis.linear.threshold import (
    ThresholdGradient,
    _reset_neuron,
    advice,
    reset_gain,
    threshold_gradient,
)
from tests.analysis.linear.matrices import free
from tests.strategies import examples

KINDS = (
    lambda gain: lnm.surrogate.atan(2 / gain),
    lambda gain: lnm.surrogate.triangle(1 / gain),
    lambda gain: lnm.surrogate.sigmoid(4 / gain),
)
"""Surrogates of slope 1 / gain at 0: a jump of `gain` then has a gain of 1."""


def millivolts(surrogate: lnm.surrogate.Surrogate | None = None, detach: bool = False):
    """Return a LIF neuron at rest at -65 mV with threshold -50 mV and time constant 20."""
    v, x = lnm.state("v", init=-65.0), lnm.input("x")
    return lnm.Neuron(
        charge={v: v + (-65 - v + x) / 20},
        fire=v + 50,
        reset=lnm.hard_reset(v, -65.0),
        output={"v": v, "s": lnm.spike},
        surrogate=surrogate,
        detach_reset=detach,
    )


@pytest.mark.parametrize(
    ("neuron", "gain"),
    [
        (lnm.get("lif"), 1),
        (lnm.get("lif", v_reset=-65.0, v_threshold=-50.0), 15),
        (lnm.get("lif", v_reset=None, v_threshold=15.0), 15),
        (lnm.get("lif", v_threshold=15.0, surrogate=lnm.surrogate.atan(alpha=2 / 15)), 1),
        (lnm.get("lif", v_threshold=15.0, surrogate=lnm.surrogate.triangle()), 15),
        (lnm.get("lif", v_threshold=15.0).with_detach_reset(True), 0),
        (lnm.get("li"), 0),
        (lnm.get("cuba_lif"), 0.5),
        (lnm.get("izhikevich", b=0.4), 1),
        (free(), 1),
        # What a reset does without a spike is no part of it: a counter, a decay, a memory.
        (lnm.get("refractory_lif", v_threshold=1.5), 1.5),
        (lnm.get("brf"), 1),
        (lnm.get("adlif"), 1),
        (lnm.get("glif"), 0),
        (lnm.get("alif"), 0),
        (lnm.get("fitzhugh_nagumo"), 0),
    ],
)
def test_gains(neuron, gain):
    assert reset_gain(neuron).tolist() == pytest.approx([gain], rel=1e-3, abs=1e-9)


def test_a_threshold_that_moves_adds_its_jump():
    """lsnn: b rises by beta at a spike, and z = v - b falls by it as well."""
    neuron = lnm.get("alif", form="lsnn", v_threshold=1.0, beta=0.5)
    assert reset_gain(neuron)[0] == pytest.approx(1.5, abs=1e-4)


@examples(8)
@given(threshold=st.floats(0.5, 40), alpha=st.floats(0.2, 10))
def test_a_silent_step_at_the_threshold_multiplies_a_gradient_by_1_minus_the_gain(threshold, alpha):
    """A step of `interpret` from just below the threshold, whose charge keeps the potential."""
    v, x = lnm.state("v"), lnm.input("x")
    p = lnm.param("v_threshold", init=threshold)
    surrogate = lnm.surrogate.atan(alpha=alpha)
    neuron = lnm.Neuron(
        charge={v: v + x}, fire=v - p, reset=lnm.hard_reset(v, 0.0), output=v, surrogate=surrogate
    )
    below = {"v": threshold * (1 - 1e-9)}
    found = lnm.interpret(neuron, np.zeros((1, 1, 1)), state=below, grad_state={"v": 1.0})
    gain = reset_gain(neuron)[0]
    assert found.grads["v"].item() == pytest.approx(1 - gain, rel=1e-3, abs=1e-3)
    rows = reset_gain(neuron, {"v_threshold": np.array([threshold, 2 * threshold])}, 2)
    assert rows == pytest.approx([gain, 2 * gain], rel=1e-3)


def test_a_neuron_from_another_process_has_the_same_gain_and_matrix():
    """Its bound values have no definition of their own: the neuron holds them."""
    v, w, x, a = lnm.state("v"), lnm.state("w"), lnm.input("x"), lnm.param("a", init=0.5)
    z, c = lnm.bind(2 * v - 1.5, "z"), lnm.bind(2 * a, "c")
    fired = lnm.Neuron(charge={v: 0.5 * v + x}, fire=z, reset={v: v - lnm.spike * (z + 1)})
    two = lnm.Neuron(charge={v: a * v + x, w: a * (w + v)}, fire=v - c, reset=lnm.hard_reset(v))
    assert reset_gain(fired)[0] == pytest.approx(2, abs=1e-4)
    assert (linear_part(two).scaled, degree_of(fired)) == (None, 1)
    bound = lnm.Neuron(charge={v: lnm.bind(v**2 + x, "b") + x}, fire=v - 1)
    copies = [pickle.loads(pickle.dumps(n)) for n in (fired, two, bound)]
    _reset_neuron.cache_clear()
    linear_part.cache_clear()
    assert reset_gain(copies[0])[0] == pytest.approx(2, abs=1e-4)
    assert (linear_part(copies[1]).scaled, degree_of(copies[2])) == (None, None)


@examples(6)
@given(jump=st.floats(3, 40), current=st.floats(0.3, 0.95), kind=st.sampled_from(KINDS))
def test_a_wider_surrogate_shrinks_gradients_of_silent_steps(jump, current, kind):
    """A LIF neuron that does not fire: detached, its gradient is exact; G times as wide, less."""
    exact, wide = (_silent_gradient(jump, current * jump, s) for s in (None, kind(jump)))
    assert 0 < wide < 0.95 * exact


@pytest.mark.parametrize(
    ("v_reset", "detach", "factor"), [(0.0, False, 1.0247), (0.0, True, 1), (None, False, 0.9765)]
)
def test_below_the_reset_value_a_hard_reset_enlarges_a_gradient(v_reset, detach, factor):
    """A page once said that silent steps make gradients too small. The growth is largest here."""
    neuron = lnm.get("lnm", degree=1, theta=(0.0, 1.0), v_reset=v_reset).with_detach_reset(detach)
    x = np.zeros((100, 1, 1))
    x[0] = -1.05
    found = lnm.interpret(neuron, x, grad_state={"v": 1.0})
    assert not found.out.any()
    assert found.grads["x"][0].item() == pytest.approx(factor**100, rel=5e-3)
    page = (Path(__file__).parents[3] / "docs" / "stability.md").read_text(encoding="utf-8")
    assert "up to 1.0247, at\n      the potential -1.05." in page
    assert f"{1.02472**1000:.0e}" == "4e+10"


def _silent_gradient(jump, current, surrogate):
    """Return the gradient of the potentials by 100 inputs; without a surrogate, detached."""
    v, x = lnm.state("v"), lnm.input("x")
    neuron = lnm.Neuron(
        charge={v: v + (x - v) / 20}, fire=v - jump, reset=lnm.hard_reset(v, 0.0),
        output={"v": v, "s": lnm.spike}, surrogate=surrogate, detach_reset=surrogate is None,
    )  # fmt: skip
    x_seq = np.full((100, 1, 1), current)
    found = lnm.interpret(neuron, x_seq, grad_out=(np.ones_like(x_seq), None))
    assert not found.outputs["s"].any()
    return found.grads["x"].sum()


@pytest.mark.slow
def test_the_table_of_the_page():
    """The gradients in docs/understanding.md: 200 steps; only 16 mV fires, three times."""
    page = (Path(__file__).parents[3] / "docs" / "understanding.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) mV \| (.*) \|$", page, re.M)
    assert [current for current, _ in rows] == ["5", "10", "12", "16"]
    neurons = (
        millivolts(detach=True),
        millivolts(),
        millivolts(lnm.surrogate.atan(alpha=2 / 15)),
        millivolts(lnm.surrogate.triangle()),
    )
    assert threshold_gradient(neurons[1]).factor == pytest.approx(-13.3, rel=1e-4)
    assert "has the factor −13.3, also" in " ".join(page.split())
    for current, cells in rows:
        x = np.full((200, 1, 1), float(current))
        for neuron, cell in zip(neurons, cells.split(" | "), strict=True):
            found = lnm.interpret(neuron, x, grad_out=(np.ones_like(x), None))
            assert found.outputs["s"].sum() == (3 if current == "16" else 0)
            total = found.grads["x"].sum()
            assert cell in (f"{total:.0f}", f"{total:.1e}".replace("e+0", "e").replace("e+", "e"))


def measured(neuron: lnm.Neuron, at: float, x: float) -> float:
    """Return the gradient by the potential of one step of `interpret` from `at`, with input x."""
    found = lnm.interpret(neuron, np.full((1, 1), x), state={"v": at}, grad_state={"v": 1.0})
    assert not found.out.any()
    return float(found.grads["v"].item())


@pytest.mark.parametrize(
    ("neuron", "v", "slope", "factor"),
    [
        (lnm.get("lif", tau=2.0, v_threshold=2.9, decay_input=False), 2.9, 0.5, -0.95),
        (lnm.get("lnm", degree=1, theta=(0.0, 1.9), v_threshold=1.95), 1.95, 1.9, -1.805),
        (lnm.get("lnm", degree=1, theta=(0.0, 1.9)).with_detach_reset(True), 1.0, 1.9, 1.9),
    ],
)
def test_the_factor_is_that_of_a_step_just_below_the_threshold(neuron, v, slope, factor):
    """It once left out the slope of the charge: -1.9 in place of -0.95."""
    found = threshold_gradient(neuron)
    assert (found.factor, found.detached) == pytest.approx((factor, slope), rel=1e-4)
    below = v * (1 - 1e-9)
    assert measured(neuron, below, below * (1 - slope)) == pytest.approx(factor, rel=1e-4)


def test_of_several_states_it_is_the_eigenvalue_of_greatest_modulus():
    """The reset of `free` makes the first row of A 0; of several sets the largest counts."""
    assert threshold_gradient(free()).factor == pytest.approx(0.5, rel=1e-4)
    assert threshold_gradient(free()).detached == pytest.approx(np.hypot(0.5, 0.6))
    rows = {"A": np.array([[0.5, 0, 0, 0.5], [0.5, 0, 0, -0.75]])}
    found = threshold_gradient(free(), rows, 2)
    assert (found.gain, found.factor, found.detached) == pytest.approx((1, -0.75, -0.75), rel=1e-4)
    assert threshold_gradient(lnm.get("li")) == ThresholdGradient()


def test_advice():
    """If the reset makes gradients grow: detach it. A wider surrogate is named with its effect."""
    assert advice(lnm.get("lif"), ThresholdGradient(2.9, -0.95, 0.5)) == ""
    assert advice(lnm.get("lif"), ThresholdGradient(0.0, 1.9, 1.9)) == ""
    assert advice(lnm.get("lif"), ThresholdGradient(15.0, -14.0, 1.0)) == (
        "Near the threshold, each step multiplies gradients by -14, even without a spike. Set"
        " detach_reset=True. A surrogate 15 times as wide, atan(alpha=0.133), prevents this growth,"
        " but shrinks the gradients of silent steps."
    )
    other = lnm.get("lif", surrogate=lnm.surrogate.triangle())
    text = advice(other, ThresholdGradient(4.0, -1.5, 0.5))
    assert "multiplies gradients by -1.5, even" in text
    assert "A surrogate 4 times as wide prevents" in text
    assert advice(other, ThresholdGradient(1.95, -1.8, 1.9)) == (
        "Near the threshold, each step multiplies gradients by -1.8, even without a spike. The"
        " charge alone multiplies them by 1.9: limit its slope."
    )
    both = advice(other, ThresholdGradient(2.5, -2.85, 1.9))
    assert "by 1.9: limit its slope. Set detach_reset=True." in both


@pytest.mark.filterwarnings("error")
def test_values_that_are_not_finite_have_no_factor():
    values = {"theta": np.array([[0.0, np.inf]])}
    assert threshold_gradient(lnm.get("lnm", degree=1), values).factor == 0
