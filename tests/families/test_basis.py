"""`lnm` in Chebyshev's and Legendre's basis: another parameterisation of the same neuron."""

from __future__ import annotations

import pickle
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.polynomial import Chebyshev, Legendre, Polynomial

import lnm_codegen as lnm
from lnm_codegen.families.lnm import polynomials
from lnm_codegen.ir.count import count

NUMPY = {"chebyshev": Chebyshev, "legendre": Legendre}
bases = pytest.mark.parametrize("basis", NUMPY)


@settings(max_examples=8, deadline=None)
@given(
    st.sampled_from(sorted(NUMPY)),
    st.integers(1, 8),
    st.lists(st.floats(-1, 1), min_size=9, max_size=9),
    st.sampled_from([None, -2.0, -1.3, -0.1]),
    st.sampled_from([1.0, 0.7, 0.5]),
)
def test_the_step_computes_numpys_series(
    basis: str, degree: int, theta: list[float], v_min: float | None, v_threshold: float
) -> None:
    """f is numpy.polynomial's on the domain [v_min or -2, v_threshold], at any degree."""
    theta = theta[: degree + 1]
    neuron = lnm.get(
        "lnm", degree=degree, basis=basis, v_min=v_min, v_threshold=v_threshold, v_reset=None
    )
    low = -2.0 if v_min is None else v_min
    v = np.linspace(low, v_threshold, 33)
    series = NUMPY[basis](theta, domain=[low, v_threshold])(v)
    h = lnm.interpret(neuron, np.zeros((1, 33)), state={"v": v}, theta=theta).states["v"]
    fired = series >= v_threshold + 1e-9
    want = np.maximum(series, low) if v_min is not None else series
    near = np.abs(series - v_threshold) < 1e-9
    scale = 1e-12 * 4.0**degree  # what powers lose to cancellation
    np.testing.assert_allclose(
        h[~near], (want - fired * v_threshold)[~near], rtol=scale, atol=scale
    )


@pytest.mark.parametrize(
    ("basis", "form", "degree"),
    [
        ("chebyshev", "A", 1),
        ("legendre", "B", 3),
        ("chebyshev", "C", 3),
        *(pytest.param(b, "A", d, marks=pytest.mark.slow) for b in NUMPY for d in (2, 8)),
    ],
)
def test_gradients_go_through_the_change_of_basis(basis: str, form: str, degree: int) -> None:
    """c = theta @ M: outputs and states are alike, and d/dtheta = M @ d/dc."""
    rng = np.random.default_rng(degree)
    x, grad = rng.normal(0.3, 0.5, (4, 2, 3)), rng.normal(size=(4, 2, 3))
    theta = rng.normal(0, 0.2, degree + 1)
    ends = {"v": rng.normal(size=(2, 3))}
    rows = polynomials(basis, degree, -2.0, 1.0)
    matrix = np.array([[float(c) for c in row] for row in rows])
    given = {"grad_out": grad, "grad_state": ends}
    arguments: dict[str, Any] = {"degree": degree, "form": form, "v_min": -2.0}
    ours = lnm.interpret(lnm.get("lnm", basis=basis, **arguments), x, theta=theta, **given)
    powers = lnm.interpret(lnm.get("lnm", **arguments), x, theta=theta @ matrix, **given)
    np.testing.assert_array_equal(ours.out, powers.out)
    close = {"rtol": 1e-8, "atol": 1e-8}
    np.testing.assert_allclose(ours.states["v"], powers.states["v"], **close)
    np.testing.assert_allclose(ours.grads["x"], powers.grads["x"], **close)
    np.testing.assert_allclose(ours.grads["theta"], matrix @ powers.grads["theta"], **close)


@bases
@pytest.mark.parametrize(
    ("degree", "scheme"),
    [
        (4, "horner"),
        *(pytest.param(d, s, marks=pytest.mark.slow) for d in (1, 8) for s in ("horner", "estrin")),
    ],
)
def test_a_step_costs_what_it_costs_in_powers(basis: str, degree: int, scheme: str) -> None:
    """The change of basis is work of `prepare`: forward and backward have as many operations."""
    ours = lnm.lower(lnm.get("lnm", degree=degree, basis=basis), scheme)
    powers = lnm.lower(lnm.get("lnm", degree=degree), scheme)
    assert count(ours.forward) == count(powers.forward)
    assert count(ours.backward) == count(powers.backward)


@bases
@pytest.mark.parametrize(
    ("form", "slope", "degree"), [("A", 0.6, 1), ("B", 0.6, 5), ("C", -0.4, 2)]
)
def test_it_begins_as_the_leak(basis: str, form: str, slope: float, degree: int) -> None:
    """By default f is slope*v: two coefficients, the nearest floats to the exact ones."""
    neuron = lnm.get("lnm", degree=degree, basis=basis, form=form, decay=0.6, v_min=-1.7)
    half, middle = Fraction("2.7") / 2, Fraction("-0.7") / 2
    exact = Fraction(str(slope))
    assert neuron.params[0].init == (
        float(exact * middle), float(exact * half), *(0.0,) * (degree - 1),
    )  # fmt: skip


@bases
def test_decimal_ends_are_exact(basis: str) -> None:
    """On [-0.1, 0.7] the coefficients are ratios of decimals, not of the floats beside them."""
    rows = polynomials(basis, 2, -0.1, 0.7)
    t = (Fraction(-3, 4), Fraction(5, 2))  # (2v - 0.6)/0.8
    assert rows[1] == (*t, 0)
    a, b = (
        (Fraction(2), Fraction(-1)) if basis == "chebyshev" else (Fraction(3, 2), Fraction(-1, 2))
    )
    assert rows[2] == (a * t[0] ** 2 + b, 2 * a * t[0] * t[1], a * t[1] ** 2)


@bases
def test_without_theta_0_f_is_0_at_0(basis: str) -> None:
    """theta then weighs P_k(t(v)) - P_k(t(0)), and the leak needs theta_1 alone."""
    theta = [0.6, -0.3, 0.2]
    neuron = lnm.get("lnm", degree=3, basis=basis, learn_theta_0=False, v_reset=None)
    assert neuron.params[0].init == (0.75, 0.0, 0.0)
    v = np.array([-1.5, 0.0, 0.8])
    series = NUMPY[basis]([0.0, *theta], domain=[-2.0, 1.0])
    h = lnm.interpret(neuron, np.zeros((1, 3)), state={"v": v}, theta=theta).states["v"]
    np.testing.assert_allclose(h, series(v) - series(0.0), rtol=1e-12, atol=1e-13)


@bases
def test_a_learned_threshold_leaves_the_interval_alone(basis: str) -> None:
    """The interval ends at the constant given; the parameter moves away from it."""
    neuron = lnm.get("lnm", degree=2, basis=basis, learn_threshold=True)
    x = np.full((1, 1), 0.1)
    given = {"theta": [0.1, 0.4, 0.2], "state": {"v": [0.5]}}
    a = lnm.interpret(neuron, x, v_threshold=5.0, **given).states["v"]
    assert a == lnm.interpret(neuron, x, v_threshold=9.0, **given).states["v"]


def test_the_monomial_basis_is_the_default() -> None:
    """Named or not, the program is the same text."""
    plain, named = lnm.get("lnm", degree=4), lnm.get("lnm", degree=4, basis="monomial")
    assert str(lnm.lower(plain)) == str(lnm.lower(named))
    assert plain.params[0].init == (0.0, 0.5, 0.0, 0.0, 0.0)
    theta = Polynomial([0.1, 0.4, -0.2])
    h = lnm.interpret(
        lnm.get("lnm", degree=2, v_reset=None), np.zeros((1, 1)), theta=theta.coef,
        state={"v": [-0.7]},
    ).states["v"]  # fmt: skip
    np.testing.assert_allclose(h, theta(-0.7), rtol=1e-14)


@pytest.mark.parametrize(
    ("basis", "form", "whole"),
    [("monomial", "A", True), ("chebyshev", "C", False), ("legendre", "A", False)],
)
def test_a_drawn_leak_is_a_line_of_random_slope_by_row(basis: str, form: str, whole: bool) -> None:
    """decay_spread: logit(decay) is N(2, 1) over the rows, f a line through 0 in every basis."""
    neuron = lnm.get(
        "lnm", degree=3, basis=basis, form=form, decay=0.8807970779778823, decay_spread=1.0,
        learn_theta_0=whole, per="channel",
    )  # fmt: skip
    assert pickle.loads(pickle.dumps(neuron)) == neuron
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        layer = lnm.nn.NeuronLayer(neuron, channels=2000, backend="torch", dtype=torch.float64)
        torch.manual_seed(5)
        again = lnm.nn.NeuronLayer(neuron, channels=2000, backend="torch", dtype=torch.float64)
    assert torch.equal(layer.theta, again.theta)
    rows = polynomials(basis, 3, -2.0, 1.0)
    matrix = np.array([[float(c) for c in row] for row in rows])[0 if whole else 1 :]
    f = layer.theta.detach().numpy() @ matrix
    if not whole:
        f[:, 0] = 0.0  # P_k(t) stands for P_k(t) - P_k(t(0))
    decay = f[:, 1] + (1.0 if form == "C" else 0.0)
    assert np.abs(np.delete(f, 1, axis=1)).max() < 1e-12
    logit = np.log(decay / (1 - decay))
    assert logit.mean() == pytest.approx(2.0, abs=0.1)
    assert logit.std() == pytest.approx(1.0, abs=0.1)
