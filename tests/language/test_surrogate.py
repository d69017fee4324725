"""Surrogates: each slope is the derivative of its primitive and has the formula of the table."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import sympy
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, special

import lnm_codegen as lnm
from lnm_codegen.language.surrogate import SURROGATES, Surrogate
from tests.compiler.test_interpret import SLOPES
from tests.refusals import assert_refused, refused
from tests.strategies import SURROGATES as DRAWN

pi, root_pi = math.pi, math.sqrt(math.pi)

# name: default alpha, peak, area, and a primitive by hand, up to a constant
TABLE: dict[str, tuple[float, Any, Any, Any]] = {
    "atan": (2.0, lambda a: a / 2, lambda a: 1.0, lambda z, a: np.arctan(pi * a * z / 2) / pi),
    "sigmoid": (4.0, lambda a: a / 4, lambda a: 1.0, lambda z, a: special.expit(a * z)),
    "rectangle": (1.0, lambda a: a, lambda a: 1.0, lambda z, a: np.clip(a * z + 0.5, 0, 1)),
    "triangle": (
        1.0, lambda a: a, lambda a: 1.0,
        lambda z, a: np.where(
            np.abs(z) <= 1 / a, a * z - np.sign(z) * (a * z) ** 2 / 2, np.sign(z) / 2
        ),
    ),
    "fast_sigmoid": (
        25.0, lambda a: 1.0, lambda a: 2 / a, lambda z, a: z / (1 + a * np.abs(z)),
    ),
    "soft_sign": (
        2.0, lambda a: a / 2, lambda a: 1.0, lambda z, a: a * z / (1 + a * np.abs(z)) / 2,
    ),
    "erf": (2.0, lambda a: a / root_pi, lambda a: 1.0, lambda z, a: special.erf(a * z) / 2),
    "piecewise_exponential": (
        1.0, lambda a: a / 2, lambda a: 1.0,
        lambda z, a: np.sign(z) * (1 - np.exp(-a * np.abs(z))) / 2,
    ),
    "multi_gaussian": (
        1.0, lambda a: a * (1.15 - 0.05 * np.exp(-1 / 72)) / np.sqrt(2 * np.pi), lambda a: 0.425,
        lambda z, a: sum(
            w * special.ndtr((2 * a * z - m) / s)
            for w, m, s in ((0.575, 0, 1), (-0.075, 1, 6), (-0.075, -1, 6))
        ),
    ),
}  # fmt: skip


def slope_at(surrogate: Surrogate, z: Any) -> np.ndarray:
    """Return the slope as a neuron has it: the gradient of a spike in its z."""
    v, x = lnm.state("v"), lnm.input("x")
    neuron = lnm.Neuron(charge={v: x}, fire=v, surrogate=surrogate)
    z = np.atleast_1d(np.asarray(z, float))
    return lnm.interpret(neuron, z[None], grad_out=np.ones((1, len(z)))).grads["x"][0]


def value_at(primitive: Any, z: np.ndarray) -> np.ndarray:
    """Return a primitive as a neuron has it."""
    v, x = lnm.state("v"), lnm.input("x")
    neuron = lnm.Neuron(charge={v: x}, output=primitive.subs(lnm.surrogate.Z, v))
    return lnm.interpret(neuron, z[None]).out[0]


@pytest.mark.parametrize("name", TABLE)
@settings(max_examples=4, deadline=None)
@given(alpha=st.sampled_from((0.5, 1.0, 2.0, 3.0, 4.0, 25.0)), seed=st.integers(0, 99))
def test_slope_is_the_numerical_derivative_of_the_primitive(
    name: str, alpha: float, seed: int
) -> None:
    """At any alpha and z away from a kink, against a primitive written by hand."""
    z = np.random.default_rng(seed).uniform(-4, 4, 25)
    kinks = {"rectangle": 1 / (2 * alpha), "triangle": 1 / alpha}
    h = 1e-4 / alpha if name not in kinks else 1e-7
    z = z[(abs(z) > 1e-3) & (abs(abs(z) - kinks.get(name, 9.0)) > 1e-5)]
    at = [TABLE[name][3](z + k * h, alpha) for k in (-2, -1, 1, 2)]
    numerical = (at[0] - 8 * at[1] + 8 * at[2] - at[3]) / (12 * h)
    slope = slope_at(SURROGATES[name](alpha=alpha), z)
    np.testing.assert_allclose(slope, numerical, rtol=1e-6, atol=1e-8 * alpha)


@pytest.mark.parametrize("name", ["atan", "sigmoid", "rectangle", "erf"])
def test_own_primitive_is_the_one_of_the_table(name: str) -> None:
    """Where a surrogate has a primitive, it is the table's up to a constant."""
    alpha, *_, g = TABLE[name]
    primitive = SURROGATES[name]().primitive
    for z in (-2.0, -0.3, 0.0, 0.2, 1.5):
        ours = primitive.subs(lnm.surrogate.Z, z) - primitive.subs(lnm.surrogate.Z, 0)
        assert float(ours.doit()) == pytest.approx(float(g(z, alpha) - g(0.0, alpha)), abs=1e-12)


@pytest.mark.parametrize("name", TABLE)
@pytest.mark.parametrize("alpha", [None, 0.7])
def test_peak_and_area(name: str, alpha: float | None) -> None:
    """The slope is greatest at 0, even, and integrates to what the table says."""
    default, peak, area, g = TABLE[name]
    surrogate = SURROGATES[name]() if alpha is None else SURROGATES[name](alpha=alpha)
    a = default if alpha is None else alpha
    slopes = slope_at(surrogate, np.linspace(-3, 3, 601))
    assert slopes[300] == pytest.approx(peak(a), rel=1e-12)
    assert slopes.max() <= peak(a) * (1 + 1e-12)
    np.testing.assert_allclose(slopes, slopes[::-1], rtol=1e-9, atol=1e-12)
    edges = [0.0, 1 / (2 * a), 1 / a, 10 / a]
    parts = [np.linspace(low, high, 6001) for low, high in itertools.pairwise(edges)]
    found = np.split(slope_at(surrogate, np.concatenate(parts)), 3)
    half = sum(integrate.simpson(y, x=z) for y, z in zip(found, parts, strict=True))
    tail = area(a) / 2 - float(g(np.float64(10 / a), a) - g(np.float64(0), a))
    assert 2 * (half + tail) == pytest.approx(area(a), rel=1e-4)


def test_rectangle_is_open() -> None:
    """|z| = 1/(2*alpha), where a neuron at rest may be, is outside, as in SpikingJelly's Rect."""
    edge = np.array([-0.25, -0.25 + 1e-9, 0.25 - 1e-9, 0.25])
    found = slope_at(lnm.surrogate.rectangle(alpha=2.0), edge)
    np.testing.assert_array_equal(found, [0.0, 2.0, 2.0, 0.0])


def test_formulas() -> None:
    """The slope of g is g', which SymPy takes, and that of a branch; a slope has no primitive."""
    z = np.linspace(-2, 2, 9)
    tanh = lnm.surrogate.from_primitive(lambda z: lnm.tanh(3 * z) / 2, name="mine")
    np.testing.assert_allclose(value_at(tanh.primitive, z), np.tanh(3 * z) / 2, rtol=1e-12)
    ramp = lnm.surrogate.from_primitive(lambda z: lnm.clip(z, -1, 1))
    assert (tanh.name, ramp.name) == ("mine", "custom")
    ours = lnm.surrogate.from_slope(lambda z: lnm.exp(-lnm.abs(z)) + z**2)
    assert ours.primitive is None
    for surrogate, slope in (
        (tanh, 1.5 / np.cosh(3 * z) ** 2),
        (ramp, np.where(np.abs(z) <= 1, 1.0, 0.0)),
        (ours, np.exp(-np.abs(z)) + z**2),
        (lnm.surrogate.from_slope(lambda z: 0.25), np.full(9, 0.25)),
        (lnm.surrogate.from_primitive(lambda z: 1), np.zeros(9)),
        (lnm.surrogate.straight_through(), np.ones(9)),
    ):
        np.testing.assert_allclose(slope_at(surrogate, z), slope, rtol=1e-9)


def test_hand_written_slopes_of_the_strategies() -> None:
    """The table that other tests use as an oracle is right at the alphas of the strategies."""
    z = np.linspace(-2.2, 2.2, 23)
    for surrogate in (s for k, s in enumerate(DRAWN) if k != 1):
        np.testing.assert_allclose(slope_at(surrogate, z), SLOPES[surrogate.name](z), rtol=1e-9)


def test_equal_definitions_are_equal() -> None:
    """A surrogate is a value; 0.1 is the decimal 1/10, and an alpha may be a tensor of one."""
    atan = lnm.surrogate.atan
    assert atan() == atan(alpha=2)
    assert hash(atan()) == hash(atan(alpha=2.0))
    assert atan() != atan(alpha=3)
    assert repr(lnm.surrogate.straight_through()) == "<surrogate straight_through: 1>"
    assert lnm.surrogate.from_slope(lambda z: 0.1).slope == sympy.Rational(1, 10)
    for alpha in (torch.tensor(2.5), torch.tensor([2.5]), np.array([2.5])):
        assert atan(alpha) == atan(2.5)


@pytest.mark.parametrize("name", TABLE)
def test_alpha_must_be_positive(name: str) -> None:
    for alpha in (0, -1.5):
        with refused(lnm.ModelError, f"surrogate.{name}", f"alpha is {alpha!r}", "a number > 0"):
            SURROGATES[name](alpha=alpha)


NUMBERS = "numbers and expressions of declared states, inputs, parameters and spikes"
USE_WHERE = "Use lnm.where(condition, a, b)."
REFUSALS = """
surrogate.atan >> a number > 0
    lnm.surrogate.atan(alpha=sympy.I) >> alpha is I
    lnm.surrogate.atan(alpha=sympy.oo) >> alpha is oo
    lnm.surrogate.atan(alpha=lnm.state("v")) >> alpha is v
surrogate.atan: alpha >> finite numbers
    lnm.surrogate.atan(alpha=math.inf) >> inf is not finite
    lnm.surrogate.atan(alpha=math.nan) >> nan is not finite
    lnm.surrogate.atan(alpha=True) >> True is a condition, not a number >> >> USE_WHERE
?
    lnm.surrogate.erf(alpha="2") >> surrogate.erf: alpha: '2' is a str >> NUMBERS
    lnm.surrogate.sigmoid(alpha=None) >> surrogate.sigmoid: alpha: None is a NoneType >> NUMBERS
    lnm.surrogate.sigmoid(alpha=lnm.param("alpha", init=1.0))
        >> surrogate.sigmoid: alpha is alpha >> a number > 0
    lnm.surrogate.from_slope(3) >> surrogate 'custom': 3 is no function >> a function of z
    lnm.surrogate.from_slope(lambda z: z * lnm.param("width"))
        >> surrogate 'custom': the formula reads width >> z and numbers
    lnm.surrogate.from_primitive(lambda z: z * lnm.state("v"), name="mine")
        >> surrogate 'mine': the formula reads v >> z and numbers
    lnm.surrogate.from_slope(lambda z: z > 0, name="step")
        >> surrogate 'step': z > 0 is a condition, not a number >> >> USE_WHERE
"""


def test_refusals() -> None:
    assert_refused(REFUSALS, globals())
