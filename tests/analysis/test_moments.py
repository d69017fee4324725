"""Moments of a polynomial of a normal variable, against Gauss-Hermite quadrature."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lnm_codegen.analysis import charge_spread
from lnm_codegen.errors import ModelError
from tests.refusals import refused

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
