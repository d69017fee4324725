from fractions import Fraction as Q

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lnm_codegen as lnm
from lnm_codegen.analysis import Escape, Invariant, Undecided, invariant, is_invariant
from lnm_codegen.errors import ModelError, UnsupportedError
from tests.analysis.test_ranges import with_sine
from tests.refusals import refused

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


@settings(max_examples=20, deadline=None)
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
