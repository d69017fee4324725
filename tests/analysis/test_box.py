"""Search for invariant boxes: its exact evaluations, and the step in floats and in rationals."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from fractions import Fraction as Q

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import lnm_codegen as lnm
from lnm_codegen.analysis import Interval, Invariant, Undecided, invariant, is_invariant
from lnm_codegen.analysis.box import WORK, Box, BoxStep, invariant_box
from lnm_codegen.analysis.invariant import STEPS
from tests.two_states import RESETS, matrix_neuron

CLAMPS = {"v_min": -1.0, "v_max": 1.5, "w_min": -0.5, "w_max": 2.0}
ROTATING = (0.32104, 0.009353, 0.45087, 1.03768)
"""A matrix of spectral radius 1.04 that a reset of both states may hold."""
TURNED = (0.8495, 0.6943, 0.8899, -0.4774)
"""Another one, of 1.21."""


class Counted(BoxStep):
    """A step that keeps the work of each exact evaluation, in order."""

    def __init__(self, neuron: lnm.Neuron, x_max: float) -> None:
        super().__init__(neuron, {"x": (-x_max, x_max)}, None)
        self.evaluations: list[int] = []

    def __call__(self, box: Mapping[str, Interval]) -> Box:
        before = self.work
        found = super().__call__(box)
        self.evaluations.append(self.work - before)
        return found


def linear(theta: tuple[float, ...], **arguments: float | str) -> lnm.Neuron:
    return lnm.get(
        "lnm", states=2, degree=1, reset="both", theta_v=theta[:2], theta_w=theta[2:], **arguments
    )


def test_a_box_that_grows_in_floats_is_not_evaluated_exactly() -> None:
    """Only the first step is; once this row took 284 evaluations."""
    step = Counted(linear(ROTATING, v_min=-1.0, v_max=1.5, w_min=-0.5), 1.0)
    assert invariant_box(step) == "the interval still grows"
    assert len(step.evaluations) == 1
    assert step.work < 3000


def test_the_search_of_an_escape_ends_where_the_frontier_extends_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Resets move the ends of the frontier back and forth, which is no growth."""
    module, calls = sys.modules["lnm_codegen.analysis.invariant"], []
    inner = module._representatives
    monkeypatch.setattr(module, "_representatives", lambda r: calls.append(0) or inner(r))
    neuron = linear(TURNED, v_min=-1.0, v_threshold=2.0)
    assert isinstance(invariant(neuron, {"x": (-0.05, 0.05)}), Undecided)
    assert len(calls) < STEPS // 4


def loose() -> lnm.Neuron:
    """Return a cubic whose box grows slowly: ranges are wider than what inputs reach."""
    v = (0.03, 0.57, -0.24, 0.11, 0.15, 0.23, -0.17, 0.08, -0.19)
    w = (0.15, -0.79, 0.21, 0.26, -0.12, -0.2, 0.33, 0.15, 0.25)
    return lnm.get(
        "lnm", states=2, degree=3, reset="both", theta_v=v, theta_w=w, v_min=-1.0, v_max=1.5
    )


@pytest.mark.slow
def test_the_search_ends_at_its_budget_and_says_so() -> None:
    """The last evaluation alone passes the budget."""
    step = Counted(loose(), 0.05)
    assert invariant_box(step) == "no interval is found within the work of the search"
    assert step.work - step.evaluations[-1] <= WORK < step.work
    found = invariant(loose(), {"x": (-0.05, 0.05)})
    assert isinstance(found, Undecided)
    assert found.reason.startswith("no interval is found within the work of the search; its step")


def test_clamps_of_both_states_are_found_at_once() -> None:
    """Floats nearly find the box of a quintic; 4 exact evaluations confirm it, once 9."""
    theta_v, theta_w = [1.1, 0.7, *[0.0] * 18], [-0.8, 0.9, *[0.0] * 18]
    theta_v[14], theta_v[17], theta_w[10] = 0.2, 0.3, 0.3
    neuron = lnm.get("lnm", states=2, degree=5, theta_v=theta_v, theta_w=theta_w, **CLAMPS)
    step = Counted(neuron, 0.05)
    found = invariant_box(step)
    assert isinstance(found, tuple)
    assert len(step.evaluations) <= 4


def test_a_slow_leak_is_extrapolated() -> None:
    """A slope of 0.99 takes 2,200 steps to the limit; the search once took 110 evaluations."""
    step = Counted(lnm.get("lif", tau=100.0, decay_input=False), 1.0)
    found = invariant_box(step)
    assert isinstance(found, tuple)
    assert float(found[0]["v"].low) == pytest.approx(-100, abs=1e-5)
    assert len(step.evaluations) < 60


def test_a_step_without_a_range_far_away_is_decided_near() -> None:
    """Affine up to 50, exponential beyond: the plane as a whole has no range."""
    v, w, x = lnm.state("v"), lnm.state("w"), lnm.input("x")
    h = lnm.where(v < 50, 0.5 * v + x, lnm.exp(v) * lnm.exp(v))
    neuron = lnm.Neuron(charge={v: h, w: 0.5 * w + v}, fire=v - 1, name="far")
    assert BoxStep(neuron, {"x": (-1, 1)}, None).plane is None
    assert is_invariant(neuron, {"v": (-2, 2), "w": (-4, 4)}, {"x": (-1, 1)})
    found = invariant(neuron, {"x": (-1, 1)})
    assert isinstance(found, Invariant)
    assert float(found.states["w"].high) == pytest.approx(4, abs=1e-5)


numbers = st.integers(-64, 64).map(lambda k: Q(k, 32))
intervals = st.tuples(numbers, numbers).map(lambda e: Interval(min(e), max(e)))
steps = st.one_of(
    st.tuples(*[st.integers(-32, 32).map(lambda k: k / 16)] * 4, st.sampled_from(RESETS)).map(
        lambda t: matrix_neuron(t[:4], t[4])
    ),
    st.sampled_from([
        loose(), linear(ROTATING, **CLAMPS), lnm.get("izhikevich"), lnm.get("alif", form="lsnn"),
    ]),
)  # fmt: skip


@settings(max_examples=25, deadline=None)
@given(steps, intervals, intervals)
def test_the_step_in_floats_lies_in_the_exact_one(
    neuron: lnm.Neuron, v: Interval, w: Interval
) -> None:
    """So a box that a state of the grid leaves by more than rounding is not invariant."""
    step = BoxStep(neuron, {s.name: (-1, 1) for s in neuron.inputs}, None)
    box = dict(zip(step.names, (v, w), strict=True))
    exact, near = step.ends(step(box)), step.sampled(step.ends(box))
    slack = 1e-9 * (1 + abs(exact).max())
    assert (exact[0] - slack <= near[0]).all()
    assert (near[1] <= exact[1] + slack).all()
    assert not (step.leaves(box) and step.keeps(box))


@settings(max_examples=15, deadline=None)
@given(steps, intervals, intervals)
def test_corners_give_a_box_inside_the_ranges(neuron: lnm.Neuron, v: Interval, w: Interval) -> None:
    """Of two states that are affine in pieces; the image of the corners is exact."""
    step = BoxStep(neuron, {s.name: (-1, 1) for s in neuron.inputs}, None)
    assume(step.plane is not None)
    box = dict(zip(step.names, (v, w), strict=True))
    found = step.pieces(box)
    assert all(found.range(f"{n}_next").holds(i) for n, i in step(box).items())
