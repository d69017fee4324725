"""Invariant intervals and boxes: known ones, their search, and every run inside."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from fractions import Fraction as Q

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import lnm_codegen as lnm
from lnm_codegen.analysis import Escape, Interval, Invariant, Undecided, invariant, is_invariant
from lnm_codegen.analysis.box import WORK, Box, BoxStep, invariant_box
from lnm_codegen.analysis.invariant import STEPS
from lnm_codegen.errors import ModelError, UnsupportedError
from tests.analysis.test_ranges import with_sine
from tests.refusals import refused
from tests.strategies import examples
from tests.two_states import RESETS, matrix_neuron

get = lnm.get
RUNAWAY = (0.05, 0.6, -0.10, 0.15)


def run(neuron, x, steps=300, lanes=64, seed=0):
    """Return every state that a random input of the extreme kind reaches, by name."""
    rng = np.random.default_rng(seed)
    shape = (steps, lanes)
    extreme = rng.choice([x[0], x[1]], shape)
    held = np.repeat(rng.choice([x[0], x[1]], (1, lanes)), steps, axis=0)
    mixed = np.where(rng.random(shape) < 0.2, extreme, held)
    result = lnm.interpret(neuron, *(mixed for _ in neuron.inputs))
    return {
        n: np.concatenate([a.reshape(-1), result.states[n]]) for n, a in result.trajectory.items()
    }


@pytest.mark.parametrize(
    ("neuron", "x", "expected"),
    [
        (get("lif"), (-1, 1), {"v": (-1, 1)}),
        (get("lif", v_reset=None), (-3, 3), {"v": (-3, 1)}),  # h - V at most 2 - 1
        (get("lif", tau=100.0, decay_input=False), (-1, 1), {"v": (-100, 1)}),
        (get("if"), (0, 1), {"v": (0, 1)}),
        (get("li"), (-1, 2), {"v": (-1, 2)}),
        (get("ternary"), (-1, 1), {"v": (-0.5, 0.5)}),
        (get("cuba_lif"), (-1, 1), {"current": (-2, 2), "v": (-8, 0.5)}),
        (get("lnm", degree=3, theta=RUNAWAY, v_min=-2.0), (-1, 1), {"v": (-2, 1)}),
    ],
)
def test_known_intervals(neuron, x, expected):
    """A leak a under |x| <= X reaches X/(1 - a) below; above, the reset ends it."""
    found = invariant(neuron, {"x": x})
    assert isinstance(found, Invariant)
    for name, (low, high) in expected.items():
        assert float(found.states[name].low) == pytest.approx(low, abs=1e-5)
        assert float(found.states[name].high) == pytest.approx(high, abs=1e-5)


@pytest.mark.parametrize(
    ("neuron", "x"),
    [
        (get("lnm", degree=3, theta=(0.02, 0.85, 0.11, -0.06)), (-1, 1)),
        (get("lnm", degree=3, theta=(0.02, 0.85, 0.11, -0.06), v_reset=None), (-1, 1)),
        (get("izhikevich", a=0.3, b=0.2), (-0.1, 0.1)),
        (get("qif"), (-0.2, 1)),
        (get("plif", tau=5.0), (-1, 1)),
    ],
)
def test_a_certificate_holds_every_run_and_is_not_wide(neuron, x):
    found = invariant(neuron, {"x": x})
    assert isinstance(found, Invariant)
    assert is_invariant(neuron, found.states, {"x": x})
    seen = run(neuron, x)
    for name, inside in found.states.items():
        assert float(inside.low) - 1e-9 <= seen[name].min()
        assert seen[name].max() <= float(inside.high) + 1e-9
        assert inside.low <= Q(float(found.reached[name].low))
    v = found.states["v"]
    if len(neuron.states) == 1:  # else the box has corners that nothing reaches
        assert seen["v"].min() - float(v.low) < 0.05 * float(v.width) + 1e-6


@pytest.mark.parametrize("side", ["low", "high"])
def test_no_smaller_interval_is_invariant(side):
    """Each end of the cubic's interval, moved in by a millionth, is left in one step."""
    neuron = get("lnm", degree=3, theta=(0.02, 0.85, 0.11, -0.06))
    v = invariant(neuron, {"x": (-1, 1)}).states["v"]
    step = Q(1, 10**6)
    ends = (v.low + step, v.high) if side == "low" else (v.low, v.high - step)
    assert is_invariant(neuron, {"v": v}, {"x": (-1, 1)})
    assert not is_invariant(neuron, {"v": ends}, {"x": (-1, 1)})


@examples(20)
@given(
    st.tuples(*(st.integers(-8, 8).map(lambda k: k / 16) for _ in range(4))),
    st.sampled_from([0.0, None]),
    st.integers(1, 8).map(lambda k: k / 8),
)
def test_every_verdict_is_true(theta, v_reset, x):
    """Random cubics: a certificate is not left, an escape escapes."""
    neuron = get("lnm", degree=3, theta=theta, v_reset=v_reset)
    found = invariant(neuron, {"x": (-x, x)})
    if isinstance(found, Invariant):
        seen = run(neuron, (-x, x), steps=60)["v"]
        inside = found.states["v"]
        assert float(inside.low) - 1e-9 <= seen.min() <= seen.max() <= float(inside.high) + 1e-9
    elif isinstance(found, Escape):
        check_escape(neuron, found, x)


def check_escape(neuron, found, x):
    sequence = np.array(found.inputs["x"])
    assert np.abs(sequence).max() <= x
    last = lnm.interpret(neuron, sequence.reshape(-1, 1)).states["v"][0]
    assert not abs(last) <= found.bound


@pytest.mark.parametrize(
    ("neuron", "x"),
    [
        (get("if"), 1.0),
        (get("lnm", degree=3, theta=RUNAWAY), 0.35),
        (get("lnm", degree=2, theta=(0, 0.5, 0.8), v_reset=None), 2.0),
        (get("qif", v_reset=None), 3.0),
    ],
)
def test_an_unstable_neuron_has_an_escape(neuron, x):
    """The input sequence keeps its bound and the potential passes 100 under it."""
    found = invariant(neuron, {"x": (-x, x)})
    assert isinstance(found, Escape)
    assert found.bound == 100.0
    check_escape(neuron, found, x)


def test_a_neuron_without_certificate_and_escape_is_undecided():
    """The perfect integrator under tiny inputs passes 100 only after 10**5 steps."""
    found = invariant(get("if"), {"x": (-0.001, 0.001)})
    assert isinstance(found, Undecided)
    assert found.reason == (
        "the interval still grows, and no input sequence was found that drives a state past 100"
    )


def test_mistakes_are_one_line():
    with refused(ModelError, "lif", "bound is 0", "a number > 0"):
        invariant(get("lif"), {"x": (-1, 1)}, bound=0)
    with refused(UnsupportedError, "with_sine, h", "'sin' is not monotone"):
        invariant(with_sine(), {"x": (-1, 1)})
    with refused(
        ModelError, "lif", "no interval for input 'x'", remedy="Give x = (low, high); in text"
    ):
        invariant(get("lif"), {})


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


@examples(25)
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


@examples(15)
@given(steps, intervals, intervals)
def test_corners_give_a_box_inside_the_ranges(neuron: lnm.Neuron, v: Interval, w: Interval) -> None:
    """Of two states that are affine in pieces; the image of the corners is exact."""
    step = BoxStep(neuron, {s.name: (-1, 1) for s in neuron.inputs}, None)
    assume(step.plane is not None)
    box = dict(zip(step.names, (v, w), strict=True))
    found = step.pieces(box)
    assert all(found.range(f"{n}_next").holds(i) for n, i in step(box).items())
