"""Surrogates: each slope is the derivative of its primitive and has the formula of the table."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, special

import lnm_codegen as lnm
from lnm_codegen.language.surrogate import SURROGATES, Surrogate
from tests.compiler.test_interpret import SLOPES
from tests.refusals import refused

pi, root_pi = math.pi, math.sqrt(math.pi)

# name: default alpha, peak, area (None: there is no finite one), primitive with g(z) - g(-z) known
TABLE = {
    "atan": (2.0, lambda a: a / 2, lambda a: 1.0),
    "sigmoid": (4.0, lambda a: a / 4, lambda a: 1.0),
    "rectangle": (1.0, lambda a: a, lambda a: 1.0),
    "triangle": (1.0, lambda a: a, lambda a: 1.0),
    "fast_sigmoid": (25.0, lambda a: 1.0, lambda a: 2 / a),
    "soft_sign": (2.0, lambda a: a / 2, lambda a: 1.0),
    "erf": (2.0, lambda a: a / root_pi, lambda a: 1.0),
    "piecewise_exponential": (1.0, lambda a: a / 2, lambda a: 1.0),
}

PRIMITIVES = {
    "atan": lambda z, a: np.arctan(pi * a * z / 2) / pi,
    "sigmoid": lambda z, a: special.expit(a * z),
    "rectangle": lambda z, a: np.clip(a * z + 0.5, 0, 1),
    "triangle": lambda z, a: np.where(
        np.abs(z) <= 1 / a, a * z - np.sign(z) * (a * z) ** 2 / 2, np.sign(z) / 2
    ),
    "fast_sigmoid": lambda z, a: z / (1 + a * np.abs(z)),
    "soft_sign": lambda z, a: a * z / (1 + a * np.abs(z)) / 2,
    "erf": lambda z, a: special.erf(a * z) / 2,
    "piecewise_exponential": lambda z, a: np.sign(z) * (1 - np.exp(-a * np.abs(z))) / 2,
}
"""A primitive of each slope, up to a constant, written by hand."""


def slope_at(surrogate: Surrogate, z: np.ndarray) -> np.ndarray:
    """Return the slope as a neuron has it: the gradient of a spike in its z."""
    v, x = lnm.state("v"), lnm.input("x")
    neuron = lnm.Neuron(charge={v: x}, fire=v, surrogate=surrogate)
    z = np.atleast_1d(np.asarray(z, float))
    return lnm.interpret(neuron, z[None], grad_out=np.ones((1, len(z)))).grads["x"][0]


def value_at(primitive, z: np.ndarray) -> np.ndarray:
    """Return a primitive as a neuron has it."""
    v, x = lnm.state("v"), lnm.input("x")
    neuron = lnm.Neuron(charge={v: x}, output=primitive.subs(lnm.surrogate.Z, v))
    return lnm.interpret(neuron, z[None]).out[0]


alphas = st.sampled_from((0.5, 1.0, 2.0, 3.0, 4.0, 25.0))
arguments = st.floats(-4, 4).filter(lambda z: abs(z) > 1e-3)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(TABLE)), alphas, arguments)
def test_slope_is_the_numerical_derivative_of_the_primitive(name, alpha, z):
    """At any alpha and z away from a kink, against a primitive written by hand."""
    kinks = {"rectangle": 1 / (2 * alpha), "triangle": 1 / alpha}
    h = 1e-4 / alpha if name not in kinks else 1e-7
    if abs(abs(z) - kinks.get(name, 9.0)) < 1e-5:
        return
    g = PRIMITIVES[name]
    at = [float(g(np.float64(z + k * h), alpha)) for k in (-2, -1, 1, 2)]
    numerical = (at[0] - 8 * at[1] + 8 * at[2] - at[3]) / (12 * h)
    slope = slope_at(SURROGATES[name](alpha=alpha), z)[0]
    assert slope == pytest.approx(numerical, rel=1e-6, abs=1e-8 * alpha)


@pytest.mark.parametrize("name", ["atan", "sigmoid", "rectangle", "erf"])
def test_own_primitive_is_the_one_of_the_table(name):
    """Where a surrogate has a primitive, it is the table's up to a constant."""
    alpha = TABLE[name][0]
    primitive = SURROGATES[name]().primitive
    for z in (-2.0, -0.3, 0.0, 0.2, 1.5):
        ours = primitive.subs(lnm.surrogate.Z, z) - primitive.subs(lnm.surrogate.Z, 0)
        theirs = PRIMITIVES[name](z, alpha) - PRIMITIVES[name](0.0, alpha)
        assert float(ours.doit()) == pytest.approx(float(theirs), abs=1e-12)


@pytest.mark.parametrize("name", sorted(TABLE))
@pytest.mark.parametrize("alpha", [None, 0.7, 5.0])
def test_peak_and_area(name, alpha):
    """The slope is greatest at 0, even, and integrates to what the table says."""
    default, peak, area = TABLE[name]
    surrogate = SURROGATES[name]() if alpha is None else SURROGATES[name](alpha=alpha)
    a = default if alpha is None else alpha
    z = np.linspace(-3, 3, 601)
    slopes = slope_at(surrogate, z)
    assert slope_at(surrogate, 0.0)[0] == pytest.approx(peak(a), rel=1e-12)
    assert slopes.max() <= peak(a) * (1 + 1e-12)
    np.testing.assert_allclose(slopes, slopes[::-1], rtol=1e-9, atol=1e-12)
    edges = [0.0, 1 / (2 * a), 1 / a, 10 / a]
    half = 0.0
    for low, high in itertools.pairwise(edges):
        points = np.linspace(low, high, 20001)
        half += integrate.simpson(slope_at(surrogate, points), x=points)
    g = PRIMITIVES[name]
    tail = area(a) / 2 - float(g(np.float64(10 / a), a) - g(np.float64(0), a))
    assert 2 * (half + tail) == pytest.approx(area(a), rel=1e-4)


@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_rectangle_is_open(sign):
    """|z| = 1/(2*alpha), where a neuron at rest may be, is outside, as in SpikingJelly's Rect."""
    edge = sign * np.array([0.25, 0.25 - 1e-9])
    np.testing.assert_array_equal(slope_at(lnm.surrogate.rectangle(alpha=2.0), edge), [0.0, 2.0])


def test_straight_through():
    """The slope is 1 everywhere."""
    np.testing.assert_array_equal(
        slope_at(lnm.surrogate.straight_through(), np.array([-9.0, 0.0, 9.0])), 1.0
    )


def test_from_primitive():
    """The slope of g is g', which SymPy takes; where, clip and abs have that of the branch."""
    tanh = lnm.surrogate.from_primitive(lambda z: lnm.tanh(3 * z) / 2, name="mine")
    z = np.linspace(-2, 2, 9)
    np.testing.assert_allclose(slope_at(tanh, z), 1.5 / np.cosh(3 * z) ** 2, rtol=1e-9)
    ramp = lnm.surrogate.from_primitive(lambda z: lnm.clip(z, -1, 1))
    np.testing.assert_array_equal(slope_at(ramp, z), np.where(np.abs(z) <= 1, 1.0, 0.0))
    assert (tanh.name, ramp.name) == ("mine", "custom")
    np.testing.assert_allclose(value_at(tanh.primitive, z), np.tanh(3 * z) / 2, rtol=1e-12)


def test_from_slope():
    """The slope is taken as it is given; there is no primitive."""
    ours = lnm.surrogate.from_slope(lambda z: lnm.exp(-lnm.abs(z)) + z**2)
    z = np.linspace(-2, 2, 9)
    np.testing.assert_allclose(slope_at(ours, z), np.exp(-np.abs(z)) + z**2, rtol=1e-12)
    assert ours.primitive is None
    constant = lnm.surrogate.from_slope(lambda z: 0.25)
    np.testing.assert_array_equal(slope_at(constant, z), 0.25)


def test_a_slope_may_be_zero():
    """The slope of a constant primitive is 0: the spike then has no gradient."""
    none = lnm.surrogate.from_primitive(lambda z: 1)
    np.testing.assert_array_equal(slope_at(none, np.array([-1.0, 0.0, 1.0])), 0.0)


def test_hand_written_slopes_of_the_strategies():
    """The table that other tests use as an oracle is right at the alphas of the strategies."""
    from tests.strategies import SURROGATES as DRAWN

    z = np.linspace(-2.2, 2.2, 23)
    for surrogate in (s for k, s in enumerate(DRAWN) if k != 1):
        np.testing.assert_allclose(slope_at(surrogate, z), SLOPES[surrogate.name](z), rtol=1e-9)


def test_equal_definitions_are_equal():
    """A surrogate is a value: the same formula compares and hashes alike."""
    assert lnm.surrogate.atan() == lnm.surrogate.atan(alpha=2)
    assert hash(lnm.surrogate.atan()) == hash(lnm.surrogate.atan(alpha=2.0))
    assert lnm.surrogate.atan() != lnm.surrogate.atan(alpha=3)
    assert repr(lnm.surrogate.straight_through()) == "<surrogate straight_through: 1>"


def test_alpha_is_the_decimal_its_author_wrote():
    """0.1 is 1/10, not the double next to it."""
    assert lnm.surrogate.from_slope(lambda z: 0.1).slope == sympy.Rational(1, 10)


@pytest.mark.parametrize("name", sorted(TABLE))
@pytest.mark.parametrize("alpha", [0, -1.5])
def test_alpha_must_be_positive(name, alpha):
    """Zero and negative widths are refused by each."""
    with refused(lnm.ModelError, f"surrogate.{name}", f"alpha is {alpha!r}", "a number > 0"):
        SURROGATES[name](alpha=alpha)


NUMBERS = "numbers and expressions of declared states, inputs, parameters and spikes"
USE_WHERE = "Use lnm.where(condition, a, b)."
REFUSALS = [
    (
        lambda: lnm.surrogate.atan(alpha=math.inf),
        "surrogate.atan: alpha", "inf is not finite", "finite numbers",
    ),
    (
        lambda: lnm.surrogate.atan(alpha=math.nan),
        "surrogate.atan: alpha", "nan is not finite", "finite numbers",
    ),
    (
        lambda: lnm.surrogate.from_slope(3),
        "surrogate 'custom'", "3 is no function", "a function of z",
    ),
    (lambda: lnm.surrogate.erf(alpha="2"), "surrogate.erf: alpha", "'2' is a str", NUMBERS),
    (
        lambda: lnm.surrogate.sigmoid(alpha=None),
        "surrogate.sigmoid: alpha", "None is a NoneType", NUMBERS,
    ),
    (
        lambda: lnm.surrogate.sigmoid(alpha=lnm.param("alpha", init=1.0)),
        "surrogate.sigmoid", "alpha is alpha", "a number > 0",
    ),
    (
        lambda: lnm.surrogate.atan(alpha=True),
        "surrogate.atan: alpha", "True is a condition, not a number", "", USE_WHERE,
    ),
    (
        lambda: lnm.surrogate.from_slope(lambda z: z * lnm.param("width")),
        "surrogate 'custom'", "the formula reads width", "z and numbers",
    ),
    (
        lambda: lnm.surrogate.from_primitive(lambda z: z * lnm.state("v"), name="mine"),
        "surrogate 'mine'", "the formula reads v", "z and numbers",
    ),
    (
        lambda: lnm.surrogate.from_slope(lambda z: z > 0, name="step"),
        "surrogate 'step'", "z > 0 is a condition, not a number", "", USE_WHERE,
    ),
]  # fmt: skip


@pytest.mark.parametrize("row", REFUSALS, ids=lambda row: f"{row[1]}: {row[2]}")
def test_refusals(row):
    """Each row has a call and the parts of its error."""
    call, *parts = row
    with refused(lnm.ModelError, *parts):
        call()
