from fractions import Fraction as Q

import pytest
from hypothesis import given
from hypothesis import strategies as st

import lnm_codegen as lnm
from lnm_codegen.analysis import is_invariant, keeps_potential, ranges
from lnm_codegen.errors import ModelError


def test_the_edge_belongs_to_the_set():
    """f(v) = v/2 on [-2, 1]: f(-2) - X >= -2 up to X = 1 exactly, no float beyond."""
    assert keeps_potential((0, 0.5), 1, -2, 1)
    assert not keeps_potential((0, 0.5), 1 + 2**-50, -2, 1)


def test_a_soft_reset_bounds_the_upper_side_too():
    """f(1) + X <= 2 asks for X <= 1.5."""
    assert keeps_potential((0, 0.5), 1.5, -10, 1, soft=True)
    assert not keeps_potential((0, 0.5), 1.51, -10, 1, soft=True)
    assert keeps_potential((0, 0.5), 1.51, -10, 1)


def test_a_cubic_that_only_touches_v_min_stays():
    """f(v) = (v - 1/3)**2 * (v + 2) - 2 touches -2 inside and at the lower end."""
    theta = (Q(2, 9) - 2, Q(1, 9) - Q(4, 3), 2 - Q(2, 3), Q(1))
    assert keeps_potential(theta, 0, -2, 1)
    assert not keeps_potential(theta, Q(1, 2**200), -2, 1)


@given(
    st.lists(st.integers(-8, 8).map(lambda k: Q(k, 8)), min_size=2, max_size=5),
    st.integers(0, 12).map(lambda k: Q(k, 8)),
    st.booleans(),
)
def test_membership_is_what_the_ranges_say(theta, x, soft):
    """The exact test and the range of v_next agree, but within 2**-50 of the edge."""
    neuron = lnm.get(
        "lnm", degree=len(theta) - 1, theta=tuple(map(float, theta)), v_reset=None if soft else 0.0
    )
    after = ranges(neuron, states={"v": (-2, 1)}, inputs={"x": (-x, x)})["v_next"]
    room = min(after.low + 2, 1 - after.high)
    kept = keeps_potential(theta, x, -2, 1, soft=soft)
    if room > Q(1, 2**50):
        assert kept
    if room < -Q(1, 2**50):
        assert not kept
    if is_invariant(neuron, {"v": (-2, 1)}, {"x": (-x, x)}):
        assert kept


def test_an_asymmetric_input():
    assert keeps_potential((0, 0.5), (-1, 100), -2, 1)
    assert not keeps_potential((0, 0.5), (-1.5, 0), -2, 1)
    assert keeps_potential((0, 0.5), (-2, 1.5), -10, 1, soft=True)
    assert not keeps_potential((0, 0.5), (-1, 1.6), -10, 1, soft=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((0, float("nan")), 1, -2, 1), "keeps_potential: theta[1] is nan. Accepted: finite numb"),
        (((0, 1), -1, -2, 1), "keeps_potential: x is [1, -1], upside down. Accepted: low <= high."),
        (((0, 1), 1, 2, 1), "keeps_potential: [v_min, v_threshold] is [2, 1], upside down."),
    ],
)
def test_mistakes_are_one_line(arguments, message):
    with pytest.raises(ModelError) as caught:
        keeps_potential(*arguments)
    assert str(caught.value).startswith(message)
