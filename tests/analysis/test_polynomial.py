"""Polynomials of one variable: ranges, signs and roots in rationals; moments."""

from __future__ import annotations

import math
from fractions import Fraction as Q

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lnm_codegen.analysis import charge_spread
from lnm_codegen.analysis.interval import Interval
from lnm_codegen.analysis.polynomial import (
    bernstein,
    is_nonnegative,
    real_roots,
    refined,
    shares_root,
    value_at,
    value_range,
)
from lnm_codegen.errors import ModelError
from tests.analysis.exactly import EIGHTHS, intervals
from tests.refusals import refused

coefficients = st.lists(EIGHTHS, max_size=6).map(tuple)


def test_the_cubic_of_the_hardware_notes():
    """Naive intervals give [-2.601, 2.641] there; the exact range is [-0.813, 1.680]."""
    found = value_range((Q("0.02"), Q("0.85"), Q("0.11"), Q("-0.06")), Interval(Q(-2), Q(2)))
    assert found.high == Q("1.68")  # at v = 2, not at the maximum of the whole line
    assert float(found.low) == pytest.approx(-0.8135032, abs=1e-7)


def test_a_rational_extreme_is_exact():
    assert value_range((Q(0), Q(-1), Q(1)), Interval(Q(0), Q(3))) == Interval(Q(-1, 4), Q(6))


@given(coefficients, intervals())
def test_a_range_holds_every_value_and_no_more(p, ends):
    """Sampled values lie inside; the ends are met within what NumPy's roots can tell."""
    t = Interval(*ends)
    found = value_range(p, t)
    points = [t.low + t.width * Q(k, 32) for k in range(33)]
    assert all(value_at(p, x) in found for x in points)
    slope = np.polynomial.Polynomial([float(c) for c in p] or [0.0]).deriv()
    critical = [x.real for x in slope.roots() if abs(x.imag) < 1e-3 and t.low <= x.real <= t.high]
    values = [float(value_at(p, x)) for x in (*points, *(Q(float(c)) for c in critical))]
    assert float(found.low) == pytest.approx(min(values), abs=1e-5)
    assert float(found.high) == pytest.approx(max(values), abs=1e-5)


@given(coefficients, intervals(), st.sampled_from([0, 30, 60]))
def test_a_range_is_outward_to_the_last_bit(p, ends, scale):
    """Sturm's theorem, which took no part in it, finds nothing below the lower end or above."""
    t = Interval(*ends)
    p = tuple(c * 2**scale for c in p) or (Q(0),)
    found = value_range(p, t)
    assert is_nonnegative((p[0] - found.low, *p[1:]), t)
    assert is_nonnegative((found.high - p[0], *(-c for c in p[1:])), t)


@given(coefficients, intervals())
def test_bernstein_coefficients_hold_the_range(p, ends):
    t = Interval(*ends)
    if p:
        b = bernstein(p, t)
        assert (b[0], b[-1]) == (value_at(p, t.low), value_at(p, t.high))
        found = value_range(p, t)
        assert min(b) <= found.low + Q(1, 2**60)
        assert max(b) >= found.high - Q(1, 2**60)


@given(coefficients, EIGHTHS, intervals())
def test_nonnegative_is_decided_without_tolerance(p, root, ends):
    """A square is; touching zero is; 2**-200 below is not, where the zero lies inside."""
    t = Interval(*ends)
    touching = product(product(p, p), (root * root, -2 * root, Q(1)))  # p(t)**2 * (t - root)**2
    assert is_nonnegative(touching, t)
    lowered = tuple(c - (Q(1, 2**200) if k == 0 else 0) for k, c in enumerate(touching or (Q(0),)))
    if root in t or not any(p):
        assert not is_nonnegative(lowered, t)


def product(p, q):
    total = [Q(0)] * max(len(p) + len(q) - 1, 0)
    for i, a in enumerate(p):
        for j, b in enumerate(q):
            total[i + j] += a * b
    return tuple(total)


@given(coefficients, intervals())
def test_nonnegative_agrees_with_the_range(p, ends):
    t = Interval(*ends)
    found = value_range(p, t)
    if abs(found.low) > Q(1, 2**50):
        assert is_nonnegative(p, t) == (found.low > 0)


def test_a_root_that_is_not_rational_is_decided_too():
    """(t**2 - 2)**2 touches 0 at the square root of 2; times (t**2 - 2) it changes its sign."""
    two = (Q(-2), Q(0), Q(1))
    t = Interval(Q(1), Q(2))
    assert is_nonnegative(product(two, two), t)
    assert not is_nonnegative(product(product(two, two), two), t)


def test_roots_are_isolated_and_refined():
    p = product((Q(-2), Q(0), Q(1)), (Q(1), Q(1)))  # (t**2 - 2)*(t + 1)
    found = [(round(float(i.low), 6), n) for i, n in real_roots(p)]
    assert found == [(-1.414214, 1), (-1.0, 1), (1.414214, 1)]
    last = refined(p, real_roots(p)[-1][0])
    assert last.width <= Q(1, 2**60)
    assert value_at(p, last.low) * value_at(p, last.high) < 0
    assert shares_root(p, (Q(-2), Q(0), Q(1)), last)
    assert not shares_root(p, (Q(-2), Q(0), Q(1)), Interval(Q(-1), Q(-1)))


number = st.floats(-2, 2)


@given(st.lists(number, min_size=1, max_size=6), number, st.floats(0, 1.5), st.floats(0, 1))
def test_against_quadrature(
    theta: list[float], mean: float, deviation: float, x_deviation: float
) -> None:
    """Exact for polynomials: 24 nodes integrate up to degree 47."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(24)
    values = np.polynomial.polynomial.polyval(mean + deviation * nodes, theta)
    weights = weights / weights.sum()
    centre = float(weights @ values)
    spread = math.sqrt(float(weights @ (values - centre) ** 2) + x_deviation**2)
    found = charge_spread(theta, mean, deviation, x_deviation)
    size = 1 + float(np.abs(values).max())
    assert found == pytest.approx((centre, spread), abs=1e-6 * size)


def test_a_line() -> None:
    assert charge_spread([0.1, 0.5], 1.0, 2.0) == pytest.approx((0.6, 1.0))


def test_refusal() -> None:
    with refused(ModelError, "charge_spread", "deviation is -1.0", "a finite number >= 0"):
        charge_spread([0.0, 1.0], 0.0, -1.0)
