from fractions import Fraction as Q

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lnm_codegen as lnm
from lnm_codegen.analysis import is_invariant, keeps_potential, ranges
from lnm_codegen.analysis.charge import curve_neuron, degree_of, slope_neuron
from lnm_codegen.analysis.polynomial_charge import polynomial_charge
from lnm_codegen.errors import ModelError, UnsupportedError
from tests.cases import fitzhugh
from tests.refusals import refused
from tests.strategies import examples


@pytest.mark.parametrize(
    ("x", "low", "soft", "kept"),
    [
        # f(v) = v/2 on [-2, 1]: f(-2) - X >= -2 up to X = 1 exactly, no float beyond.
        (1, -2, False, True), (1 + 2**-50, -2, False, False),
        # A soft reset bounds the upper side too: f(1) + X <= 2 asks for X <= 1.5.
        (1.5, -10, True, True), (1.51, -10, True, False), (1.51, -10, False, True),
        # An asymmetric input.
        ((-1, 100), -2, False, True), ((-1.5, 0), -2, False, False),
        ((-2, 1.5), -10, True, True), ((-1, 1.6), -10, True, False),
    ],
)  # fmt: skip
def test_the_edge_belongs_to_the_set(x, low, soft, kept):
    assert keeps_potential((0, 0.5), x, low, 1, soft=soft) == kept


@pytest.mark.parametrize("a", [Q(1, 4), Q(1, 2), Q(9, 10), Q(1)])
@pytest.mark.parametrize("low", [-20, -2, Q(-1, 2)])
@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("inside", [False, True])
def test_the_largest_input_of_a_line(a, low, soft, inside):
    """As docs/stability.md says: (1 - a)*|v_min|, soft also (2 - a)*V; over a in form B."""
    high = Q(3, 2)
    most = min((1 - a) * -low, (2 - a) * high) if soft else (1 - a) * -low
    most = most / a if inside else most
    assert keeps_potential((0, a), most, low, high, soft=soft, inside=inside)
    assert not keeps_potential((0, a), most + Q(1, 2**60), low, high, soft=soft, inside=inside)


def test_a_cubic_that_only_touches_v_min_stays():
    """f(v) = (v - 1/3)**2 * (v + 2) - 2 touches -2 inside and at the lower end."""
    theta = (Q(2, 9) - 2, Q(1, 9) - Q(4, 3), 2 - Q(2, 3), Q(1))
    assert keeps_potential(theta, 0, -2, 1)
    assert not keeps_potential(theta, Q(1, 2**200), -2, 1)


@examples(40)
@given(
    st.lists(st.integers(-8, 8).map(lambda k: Q(k, 8)), min_size=2, max_size=5),
    st.integers(0, 12).map(lambda k: Q(k, 8)),
    st.booleans(),
    st.booleans(),
)
def test_membership_is_what_the_ranges_say(theta, x, soft, inside):
    """The exact test and the range of v_next agree, but within 2**-50 of the edge.

    With h = f(v + x), form B, f is asked for on [v_min - X, V + X]; ranges may then be too wide,
    never too narrow.
    """
    neuron = lnm.get(
        "lnm", degree=len(theta) - 1, form="B" if inside else "A",
        theta=tuple(map(float, theta)), v_reset=None if soft else 0.0,
    )  # fmt: skip
    after = ranges(neuron, states={"v": (-2, 1)}, inputs={"x": (-x, x)})["v_next"]
    room = min(after.low + 2, 1 - after.high)
    kept = keeps_potential(theta, x, -2, 1, soft=soft, inside=inside)
    if room > Q(1, 2**50):
        assert kept
    if inside:
        grid = [Q(k, 16) for k in range(-32, 17)]
        h = [sum(t * (v + s) ** k for k, t in enumerate(theta)) for v in grid for s in (-x, 0, x)]
        if min(h) < -2 or (soft and max(h) > 2):
            assert not kept
    else:
        if room < -Q(1, 2**50):
            assert not kept
        if is_invariant(neuron, {"v": (-2, 1)}, {"x": (-x, x)}):
            assert kept


@pytest.mark.parametrize(
    ("arguments", "soft", "problem", "accepted"),
    [
        (((0, float("nan")), 1, -2, 1), False, "theta[1] is nan", "finite numbers"),
        (((0, 1), -1, -2, 1), False, "x is [1, -1]: low exceeds high", "low <= high"),
        (((0, 1), 1, 2, 1), False, "[v_min, v_threshold] is [2, 1]: low exceeds", "low <= high"),
        (((0, 0.5), 1, 0.5, 1), True, "with a soft reset", "an interval that holds 0"),
    ],
)
def test_mistakes_are_one_line(arguments, soft, problem, accepted):
    with refused(ModelError, "keeps_potential", problem, accepted):
        keeps_potential(*arguments, soft=soft)


@pytest.mark.parametrize("basis", ["monomial", "chebyshev", "legendre"])
@pytest.mark.parametrize("form", ["A", "B", "C"])
@pytest.mark.parametrize("whole", [True, False])
def test_the_polynomial_of_a_charge_is_what_the_step_computes(basis, form, whole):
    """Coefficients from theta, exactly; at dyadic numbers the step's float64 has no rounding."""
    theta = (-0.25, 0.75, 0.5, -0.125)[0 if whole else 1 :]
    neuron = lnm.get(
        "lnm", degree=3, basis=basis, form=form, learn_theta_0=whole, v_reset=None,
        v_threshold=2.0, v_min=-2.0, theta=theta,
    )  # fmt: skip
    charge = polynomial_charge(neuron)
    assert (charge.inside, charge.v_min, charge.v_reset) == (form == "B", -2, None)
    f = charge.coefficients(theta)
    v, x = Q(3, 4), Q(-1, 8)
    z = v + x if form == "B" else v
    want = sum(c * z**k for k, c in enumerate(f)) + (0 if form == "B" else x)
    state = lnm.interpret(neuron, np.full((1, 1), float(x)), state={"v": float(v)}).states["v"]
    assert state[0] == float(want)
    assert charge.theta_of(f) == tuple(map(Q, theta))


def test_slope_and_curve_come_from_the_charge():
    """SymPy's derivative at x = 0, the clamp ignored by the slope alone, each learned one named."""
    neuron = lnm.get("lnm", degree=2, v_min=-2)
    found = slope_neuron(neuron)
    assert found.degree == 1
    assert found.learned == (("theta", 1), ("theta", 2))
    assert [f"{n} = {e}" for n, e in found.neuron.output] == [
        "slope = theta_1 + 2*theta_2*v", "d0 = 1", "d1 = 2*v", "at = v",
    ]  # fmt: skip
    (name, curve), _ = curve_neuron(neuron).output
    assert name == "curve"
    assert str(curve).startswith("max(")
    assert str(curve).endswith(", -2)")


def test_a_stopped_gradient_has_a_value_and_no_slope():
    """The curve and the coefficients have the value; the slope is that of the backward."""
    v, x = lnm.state("v"), lnm.input("x")
    theta, v_threshold = lnm.param("theta", size=2), lnm.param("v_threshold", learnable=False)
    stop = lnm.stop_gradient
    neuron = lnm.Neuron(
        charge={v: theta[0] * v + theta[1] * stop(v) * v + x},
        fire=v - v_threshold,
        reset=lnm.hard_reset(v),
    )
    assert polynomial_charge(neuron).coefficients((0.5, 0.25)) == (0, Q(1, 2), Q(1, 4))
    assert degree_of(neuron) == 2
    slope, *more = (e for _, e in slope_neuron(neuron).neuron.output)
    assert str(slope) == "theta_0 + theta_1*stop_gradient(v)"
    assert [str(e) for e in more] == ["1", "stop_gradient(v)", "v"]


def test_slopes_pass_through_bound_values():
    """The chain rule, against finite differences: in the potential and in the parameters."""
    neuron = fitzhugh(1).with_per("layer")
    curve, found = curve_neuron(neuron), slope_neuron(neuron)
    assert (found.degree, found.learned) == (None, (("a", 0), ("epsilon", 0)))
    z, h = np.linspace(-1.5, 1.5, 9).reshape(1, 1, 9), 1e-4
    outputs = lnm.interpret(found.neuron, z).outputs

    def slope(of, name, **more):
        low, high = ({word: value + d for word, value in more.items()} for d in (-h, h))
        at = (z, z) if more else (z - h, z + h)
        ends = (
            lnm.interpret(of, x, **p).outputs[name] for x, p in zip(at, (low, high), strict=True)
        )
        low, high = ends
        return (high - low) / (2 * h)

    np.testing.assert_allclose(outputs["slope"], slope(curve, "curve"), rtol=1e-6)
    for k, p in enumerate(neuron.params):
        by = slope(found.neuron, "slope", **{p.name: p.init})
        np.testing.assert_allclose(outputs[f"d{k}"], by, rtol=1e-6, atol=1e-9)
    assert degree_of(neuron) is None
    with refused(UnsupportedError, "neuron", "it has no polynomial whose coefficients"):
        v, x = lnm.state("v"), lnm.input("x")
        theta, v_threshold = lnm.param("theta", size=2), lnm.param("v_threshold", learnable=False)
        charge = {v: theta[0] + theta[1] * lnm.bind(v + x)}
        polynomial_charge(lnm.Neuron(charge=charge, fire=v - v_threshold))


def test_a_select_of_another_number_than_its_bound_is_no_clamp():
    """where(h > 0.1, -50, h) leaves [v_min, V], so that no certificate may ignore it."""
    v, x = lnm.state("v"), lnm.input("x")
    theta, v_threshold = lnm.param("theta", size=2), lnm.param("v_threshold", learnable=False)
    h = lnm.poly(v, theta) + x
    clamp = lnm.Neuron(
        charge={v: lnm.where(h < -0.1, -0.1, h)}, fire=v - v_threshold, reset=lnm.hard_reset(v)
    )
    assert polynomial_charge(clamp).v_min == Q(-1, 10)
    for charge in (lnm.where(h > 0.1, -50, h), lnm.where(h < -1, -2, h)):
        neuron = lnm.Neuron(charge={v: charge}, fire=v - v_threshold, reset=lnm.hard_reset(v))
        with refused(UnsupportedError, "neuron", "it has no charge f(v) + x"):
            polynomial_charge(neuron)


def test_a_clamp_of_a_bound_value_has_no_slope_of_its_own():
    """The branch that moves is found through the name."""
    v, x = lnm.state("v"), lnm.input("x")
    low = lnm.bind(2 * lnm.param("p"), "low")
    inner = lnm.bind(v**2 / 4 + x, "inner")
    neuron = lnm.Neuron(charge={v: lnm.max(inner, low)}, fire=v - 1)
    (_, slope), *_ = slope_neuron(neuron).neuron.output
    assert "where" not in str(slope)
    assert str(curve_neuron(neuron).output[0][1]) == "max(inner, low)"
