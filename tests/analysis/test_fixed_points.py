from fractions import Fraction as Q

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lnm_codegen as lnm
from lnm_codegen.analysis import fixed_points
from lnm_codegen.errors import ModelError, UnsupportedError
from tests.analysis.test_ranges import with_functions
from tests.refusals import refused
from tests.strategies import examples

get = lnm.get


def shown(neuron, x=0.0):
    return [
        (round(float(p.v.low), 5), round(float(p.slope.low), 5), p.kind, p.alternates, p.fires)
        for p in fixed_points(neuron, {"x": x}).points
    ]


@pytest.mark.parametrize(
    ("neuron", "x", "expected"),
    [
        (get("lif"), 0.75, [(0.75, 0.5, "stable", False, False)]),
        (get("lif"), 1.0, [(1.0, 0.5, "stable", False, True)]),  # fires at >=
        (get("li"), 1.0, [(1.0, 0.5, "stable", False, None)]),
        (get("if"), 0.5, []),
        (
            get("qif"), 0.0,
            [(0.0, 0.6, "stable", False, False), (0.8, 1.4, "unstable", False, False)],
        ),
        (get("lnm", degree=2, theta=(0.25, 0, 1)), 0.0, [(0.5, 1.0, "neutral", False, False)]),
        (get("lnm", degree=1, theta=(1, -1)), 0.0, [(0.5, -1.0, "neutral", True, False)]),
        (get("lnm", degree=1, theta=(1, -3)), 0.0, [(0.25, -3.0, "unstable", True, False)]),
        (get("lnm", degree=3, theta=(0, 1, 0, -1)), 0.0, [(0.0, 1.0, "neutral", False, False)]),
        (
            get("lnm", degree=3, theta=(0.05, 0.6, -0.10, 0.15)), 0.0,
            [
                (-1.40314, 1.76659, "unstable", False, False),
                (0.12196, 0.5823, "stable", False, False),
                (1.94785, 1.91778, "unstable", False, True),
            ],
        ),
        # below the clamp the polynomial counts no more: h = v_min there
        (
            get("lnm", degree=1, theta=(-1, 2), v_min=-2.0), 0.0,
            [(-2.0, 0.0, "stable", False, False), (1.0, 2.0, "unstable", False, True)],
        ),
    ],
)  # fmt: skip
def test_known_fixed_points(neuron, x, expected):
    assert shown(neuron, x) == expected


def pieces(left, right, jump=0.0):
    """Return a neuron with the charge left*v below 0 and right*v + jump above."""
    v, x = lnm.state("v"), lnm.input("x")
    above = lnm.where(v > 0, right * v + jump, 0)
    return lnm.Neuron(charge={v: lnm.where(v < 0, left * v, above) + 0 * x + x}, fire=v - 99)


@pytest.mark.parametrize(
    ("left", "right", "kind"),
    [
        (0.0, 1.5, "unstable"), (1.5, 0.0, "unstable"), (0.5, 0.9, "stable"),
        (-0.25, 3.0, "unstable"), (0.5, -3.0, "stable"), (-3.0, 0.5, "stable"),
        (-3.0, 1.0, "neutral"), (-0.25, -3.0, "stable"), (-0.5, -3.0, "unstable"),
        (-0.5, -2.0, "neutral"), (0.5, 1.0, "neutral"),
    ],
)  # fmt: skip
def test_both_sides_of_an_edge_decide(left, right, kind):
    """A run from either side confirms it: it returns, keeps its distance, or leaves."""
    neuron = pieces(left, right)
    assert [(p.v.low, p.kind) for p in fixed_points(neuron).points] == [(0, kind)]
    state = {"v": np.array([-1e-3, 1e-3])}
    found = lnm.interpret(neuron, np.zeros((60, 2)), state=state).states["v"]
    farthest = np.abs(found).max()
    assert (farthest > 1e-2) == (kind == "unstable")
    assert (farthest < 1e-5) == (kind == "stable")


def test_an_edge_where_the_charge_jumps_and_the_rectifier_of_klif():
    """max(0, k*v/2) with k = 3: a potential above 0 grows until it fires."""
    assert [p.kind for p in fixed_points(pieces(0.5, 0.5, jump=0.25)).points] == [
        "unstable", "stable",
    ]  # fmt: skip
    for k, kind in ((1.0, "stable"), (2.0, "neutral"), (3.0, "unstable")):
        assert shown(get("klif", k=k)) == [(0.0, 0.0, kind, False, False)]


def test_points_beyond_the_interval_of_the_search_are_not_listed():
    """The pieces hold in [-2**20, 2**20] alone: beyond it a clamp may act."""
    v, x = lnm.state("v"), lnm.input("x")
    h = (1 - Q(1, 10**7)) * v + x
    neuron = lnm.Neuron(charge={v: lnm.min(h, 2**21)}, fire=v - 2**22)
    assert fixed_points(neuron, {"x": 1}).points == ()
    assert [p.v.low for p in fixed_points(neuron, {"x": Q(1, 10)}).points] == [10**6]


def test_a_neuron_that_keeps_its_potential_has_them_everywhere():
    found = fixed_points(get("if"))
    assert found.everywhere
    assert found.points == ()


@examples(15)
@given(
    st.tuples(*(st.integers(-8, 8).map(lambda k: k / 8) for _ in range(4))),
    st.integers(-4, 4).map(lambda k: k / 8),
)
def test_the_charge_leaves_them_where_they_are(theta, x):
    """lnm.interpret takes each to itself; the slope is what a small step beside it gives."""
    neuron = get("lnm", degree=3, theta=theta, v_threshold=1e6).with_outputs()
    found = fixed_points(neuron, {"x": x})
    roots = np.roots([theta[3], theta[2], theta[1] - 1, theta[0] + x])
    real = {round(r.real, 3) for r in roots if abs(r.imag) < 1e-9}
    if not found.everywhere:
        assert real <= {
            round(float(p.v.low), 3) + d for p in found.points for d in (0, 1e-3, -1e-3)
        }
    for p in found.points:
        v = float(p.v.low)
        after = lnm.interpret(neuron, np.full((1, 2), x), state={"v": np.array([v, v + 1e-6])})
        h = after.states["v"]
        assert h[0] == pytest.approx(v, abs=1e-9 * (1 + abs(v)) ** 3)
        slope = (h[1] - h[0]) / 1e-6
        assert slope == pytest.approx(float(p.slope.low), abs=1e-4 * (1 + abs(v)) ** 2)
        assert p.v.width <= Q(1, 2**60)


def decaying():
    v, x = lnm.state("v"), lnm.input("x")
    reset = {v: lnm.where(lnm.spike, 0, v / 2)}
    return lnm.Neuron(charge={v: v + x}, fire=v - 1, reset=reset, name="decaying")


def test_a_reset_that_only_a_spike_needs_is_accepted():
    """Also one written as a product, which SymPy turns into 1.0*v."""
    v, x = lnm.state("v"), lnm.input("x")
    for after in (v * (1.0 - lnm.spike), v - lnm.spike, lnm.where(lnm.spike, 0, v)):
        neuron = lnm.Neuron(charge={v: v / 2 + x}, fire=v - 1, reset={v: after})
        assert [p.v.low for p in fixed_points(neuron).points] == [0]


@pytest.mark.parametrize(
    ("neuron", "inputs", "error", "problem", "accepted"),
    [
        (
            decaying(), {}, UnsupportedError,
            "the reset changes 'v' without a spike, so h = v is no fixed point",
            "a reset that acts at spikes only",
        ),
        (
            get("izhikevich"), {}, UnsupportedError,
            "2 states (v, w), so the charge is not univariate", "a neuron with one state",
        ),
        (
            with_functions(), {}, UnsupportedError,
            "the charge is not a polynomial of 'v'", "polynomials and selects",
        ),
        (get("lif"), {"x": (0, 1)}, ModelError, "input 'x' is [0, 1]", "one number"),
        (get("lif"), {"y": 0}, ModelError, "no input 'y'", "x"),
    ],
)  # fmt: skip
def test_mistakes_are_one_line(neuron, inputs, error, problem, accepted):
    with refused(error, neuron.name, problem, accepted):
        fixed_points(neuron, inputs)
