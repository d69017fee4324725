"""Factor of gradients in a silent step at the threshold, of charge and reset together."""

from __future__ import annotations

import numpy as np
import pytest

import lnm_codegen as lnm
from lnm_codegen.analysis.linear.threshold import ThresholdGradient, advice, threshold_gradient
from tests.analysis.linear.matrices import free


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
