"""Leaky integrators, initial values that match them, and the matrix of two states."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lnm_codegen as lnm
from lnm_codegen.analysis.linear.affine import linear_part, matched_start, membrane_of
from lnm_codegen.analysis.linear.step import StepMap
from lnm_codegen.errors import UnsupportedError
from lnm_codegen.language.text.expression import parse
from tests.cases import fitzhugh
from tests.refusals import refused
from tests.two_states import matrix_neuron

number = st.floats(-2, 2).map(lambda a: round(a, 3))


def values_of(neuron, **params):
    membrane = membrane_of(neuron)
    found = membrane.values(params, len(next(iter(params.values()), [0])))
    return membrane, {key: value.tolist() for key, value in found.items()}


@settings(max_examples=8)
@given(tau=st.floats(1.1, 50), rest=number, threshold=number, reset=number, decays=st.booleans())
def test_coefficients_of_lif(tau, rest, threshold, reset, decays):
    """v <- v + (x - (v - v_rest))/tau, or the same without the division of x."""
    neuron = lnm.get(
        "lif", tau=tau, v_rest=rest, v_threshold=threshold, v_reset=reset, decay_input=decays
    )
    membrane, found = values_of(neuron)
    expected = {
        "decay": 1 - 1 / tau,
        "gain": 1 / tau if decays else 1.0,
        "drift": rest / tau,
        "threshold": threshold,
        "reset": reset,
        "start": reset,
    }
    assert found.keys() == expected.keys()
    assert all(np.isclose(found[key], value) for key, value in expected.items())
    assert (membrane.potential, membrane.current, membrane.strict) == ("v", "", False)


def test_coefficients_of_each_parameter_set():
    """A function of parameters is a coefficient too."""
    _, found = values_of(lnm.get("plif", per="channel"), w=np.array([0.0, 1.0]))
    assert np.allclose(found["decay"], [0.5, 1 - 1 / (1 + np.exp(-1))])


@pytest.mark.parametrize("threshold", [1, 1.0, 0.7, -2.5])
def test_a_threshold_may_be_a_float(threshold):
    """SymPy's Float(1) is not equal to 1, which is the coefficient of v."""
    v, x = lnm.state("v"), lnm.input("x")
    neuron = lnm.Neuron(charge={v: 0.5 * v + x}, fire=v - threshold, reset=lnm.hard_reset(v, 0))
    _, found = values_of(neuron)
    assert (found["threshold"], found["decay"]) == ([threshold], [0.5])


def test_a_current_is_found():
    """The potential reads the new current."""
    membrane, found = values_of(lnm.get("cuba_lif", current_decay=0.25, voltage_decay=0.5))
    assert (membrane.potential, membrane.current) == ("v", "current")
    assert found["current_decay"] == [0.25]
    assert found["gain"] == found["current_gain"] == [1.0]


def test_a_potential_that_reads_the_old_current_is_another_neuron():
    i, v, x = lnm.state("i"), lnm.state("v"), lnm.input("x")
    neuron = lnm.Neuron(charge={i: i / 2 + x, v: v / 2 + i}, fire=v - 1, reset=lnm.hard_reset(v, 0))
    with refused(UnsupportedError, "neuron", "reads i of the step before", "the new i"):
        membrane_of(neuron)


def clamped_integrator() -> lnm.Neuron:
    """Return a leaky integrator whose reset, which no spike causes, clamps the potential."""
    v, x = lnm.state("v"), lnm.input("x")
    reset = {v: lnm.clip(v, -5, 5)}
    return lnm.Neuron({v: 0.5 * v + x}, reset=reset, output={"out": v}, name="clamped")


@pytest.mark.parametrize(
    ("neuron", "problem", "accepted"),
    [
        (lnm.get("lif", v_reset=None), "the reset of v is", "a hard reset"),
        (clamped_integrator(), "the reset of v is clip(v, -5, 5)", "no reset without a spike"),
        (lnm.get("qif"), "the charge of v is", "an affine function"),
        (lnm.get("lnm"), "the charge of v is", "an affine function"),
        (lnm.get("alif"), "3 states", "at most two states"),
        (lnm.get("rf"), "is no current", "a multiple of w"),
        (lnm.get("ternary"), "2 spikes", "one spike"),
    ],
)
def test_other_neurons_are_refused_by_their_first_difference(neuron, problem, accepted):
    with refused(UnsupportedError, neuron.name, problem, accepted):
        membrane_of(neuron)


def test_loose_leaves_out_the_reset():
    membrane = membrane_of(lnm.get("lif", v_reset=None), loose=True)
    assert membrane.values({}, 1).keys() == {"decay", "gain", "drift", "threshold"}


X = np.random.default_rng(3).normal(0.4, 1.5, (30, 4, 5))

TARGETS = {
    "if": lnm.get("if"),
    "lif": lnm.get("lif", tau=3.0, v_threshold=0.7),
    "lif, sum": lnm.get("lif", tau=3.0, decay_input=False, v_reset=0.0),
    "lif, soft": lnm.get("lif", tau=2.5, v_reset=None),
    "plif": lnm.get("plif", tau=5.0, v_reset=None),
}
FORMS: list[dict[str, Any]] = [
    {"degree": 3},
    {"degree": 2, "form": "B", "v_min": -50.0},
    {"degree": 2, "form": "C", "basis": "chebyshev"},
    {"degree": 3, "basis": "legendre", "per": "channel", "learn_threshold": True},
    {"states": 2, "degree": 2},
    {"states": 2, "degree": 1, "learn_theta_0": True},
]


PAIRS = [(name, arguments) for arguments in FORMS for name in TARGETS]


@pytest.mark.parametrize(
    ("name", "arguments"),
    [p if k % 6 == 0 else pytest.param(*p, marks=pytest.mark.slow) for k, p in enumerate(PAIRS)],
)
def test_the_spikes_are_those_of_the_target(name: str, arguments: dict[str, Any]) -> None:
    target = TARGETS[name]
    neuron = lnm.get("lnm", v_reset=None if "soft" in name or name == "plif" else 0.0, **arguments)
    start = matched_start(neuron, target)
    assert start is not None
    expected = lnm.interpret(target, X).out
    out = lnm.interpret(neuron.with_init(**start), X).out
    assert 0.02 < expected.mean() < 0.95
    assert (out != expected).mean() < 0.002  # ties alone


def test_a_target_in_floats_that_begins_elsewhere() -> None:
    """A term of 1e-38 makes the threshold real-valued; the potential and the reset are q = 3."""
    v, x = lnm.state("v", init=0.4), lnm.input("x")
    target = lnm.Neuron(
        {v: v + (x - v) / 3}, v - 0.7 - 2.0**-126, lnm.hard_reset(v, -0.1), name="floats"
    )
    neuron = lnm.get("lnm", v_reset=-0.3)
    start = matched_start(neuron, target)
    assert start is not None
    assert start["v"] == pytest.approx(1.2)
    expected = lnm.interpret(target, X).out
    assert 0.02 < expected.mean() < 0.95
    assert (lnm.interpret(neuron.with_init(**start), X).out != expected).mean() < 0.002


ADDING = lnm.get("lif", tau=3.0, decay_input=False, v_threshold=0.5)


def polynomial(fire: str) -> lnm.Neuron:
    """Return a neuron with a free charge that fires where this expression is >= 0."""
    v, x, p = lnm.state("v"), lnm.input("x"), lnm.param("p", init=0.5)
    theta = lnm.param("theta", size=2)
    z = parse(fire, {"v": v, "x": x, "p": p}, "fire")
    charge = lnm.poly(v, theta) + x
    return lnm.Neuron({v: charge}, z, lnm.hard_reset(v), output={"s": lnm.spike, "p": p})


def test_a_threshold_that_is_a_number_or_a_multiple() -> None:
    """z = 2*v - 1 is 0 at the target's threshold, and so is v - 1/2."""
    for fire in ("v - 0.5", "2*v - 1", "v - p"):
        start = matched_start(polynomial(fire), ADDING)
        assert start is not None
        assert start["theta"] == pytest.approx((0, 2 / 3))


@pytest.mark.parametrize(
    ("neuron", "target"),
    [
        (lnm.get("lnm"), lnm.get("qif")),  # not linear
        (lnm.get("lnm"), lnm.get("cuba_lif")),  # two states
        (lnm.get("lnm", v_reset=None), lnm.get("lif")),  # another reset
        (lnm.get("lnm"), lnm.get("lif", v_reset=-0.3)),
        (lnm.get("lnm", v_reset=-0.3), lnm.get("lif", v_reset=-0.3)),  # it must be tau * v_reset
        (lnm.get("lnm", learn_theta_0=False), lnm.get("lif", v_rest=0.3)),  # a constant
        (lnm.get("lnm", states=2, parametrisation="pole"), lnm.get("lif", v_reset=None)),
        (lnm.get("rf"), lnm.get("lif")),
        (lnm.get("lnm"), lnm.get("li")),  # never spikes
        *((polynomial(fire), ADDING) for fire in ("v - 1", "2*v - 1.4", "v - p**2", "x - 1")),
    ],
)
def test_none_where_there_are_no_such_values(neuron: lnm.Neuron, target: lnm.Neuron) -> None:
    assert matched_start(neuron, target) is None


def symplectic() -> lnm.Neuron:
    """Return an adaptive LIF neuron whose w is set by reset alone, from v after the reset."""
    v, w, x = lnm.state("v"), lnm.state("w"), lnm.input("x")
    d, r, a = lnm.param("d", init=0.8), lnm.param("r", init=0.95), lnm.param("a", init=0.5)
    after = lnm.where(lnm.spike, 0, v)
    return lnm.Neuron(
        charge={v: d * v + (1 - d) * (x - w)},
        fire=v - 1,
        reset={v: after, w: r * w + (1 - r) * (a * lnm.clip(after, -9, 9) + 0.25 * lnm.spike)},
        name="symplectic",
    )


def clamped_parameter() -> lnm.Neuron:
    """Return coefficients that are clipped: conditions of parameters stay."""
    v, w, x = lnm.state("v"), lnm.state("w"), lnm.input("x")
    tau = lnm.max(lnm.param("tau", init=0.5), 2)
    return lnm.Neuron(
        charge={v: lnm.clip(v / tau - w + x, -9, 9), w: lnm.exp(-1 / tau) * w + v + 0.125 * v * w},
        fire=v - 1,
        name="clamped",
    )


def bent() -> lnm.Neuron:
    v, w, x = lnm.state("v"), lnm.state("w"), lnm.input("x")
    return lnm.Neuron(charge={v: lnm.tanh(v) + x, w: 0.5 * w + v}, fire=v - 1, name="bent")


def stopped() -> lnm.Neuron:
    """A value without a gradient moves the states as any other does."""
    v, w, x = lnm.state("v"), lnm.state("w"), lnm.input("x")
    charge = {v: 0.5 * v + lnm.stop_gradient(2 * w) + x, w: 0.25 * w + lnm.stop_gradient(v) * 0.5}
    return lnm.Neuron(charge=charge, fire=v - 1, reset=lnm.hard_reset(v), name="stopped")


def reset_to(after: Callable[..., dict[Any, Any]]) -> lnm.Neuron:
    """Return a neuron whose resets have one branch that depends on a state, as a clamp has."""
    v, w, x = lnm.state("v"), lnm.state("w"), lnm.input("x")
    a = lnm.param("a", init=1.5)
    charge = {v: v / 2 + x - w / 4, w: a * w + v / 4}
    return lnm.Neuron(charge=charge, fire=v - 1, reset=after(v, w, lnm.spike), name="trace")


CASES: dict[str, Callable[[], lnm.Neuron]] = {
    "free": lambda: matrix_neuron((0.5, -0.25, 0.75, 0.875)),
    "both": lambda: matrix_neuron((0.5, -0.25, 0.75, 0.875), "both"),
    "clamps": lambda: matrix_neuron((0.5, -0.25, 0.75, 0.875), low=-4.0, high=4.0),
    "cuba_lif": lambda: lnm.get("cuba_lif"),
    "alif": lambda: lnm.get("alif", form="lsnn"),
    "symplectic": symplectic,
    "stopped": stopped,
    "parameter": clamped_parameter,
    "forgets": lambda: reset_to(lambda v, w, s: {v: lnm.where(s, 0, v), w: lnm.where(s, w, 0)}),
    "returns": lambda: reset_to(lambda v, w, s: {v: lnm.where(s, 2 * v, 0.25)}),
    "compares": lambda: reset_to(lambda v, w, s: {w: lnm.where(s >= 0.5, w, 0)}),
    "is positive": lambda: reset_to(lambda v, w, s: {w: lnm.where(s > 0, w, 0)}),
    "is small": lambda: reset_to(lambda v, w, s: {w: lnm.where(s < 0.5, 0, w)}),
    "complement": lambda: reset_to(lambda v, w, s: {w: lnm.where(1 - s > 0, 0, w)}),
    "both hold": lambda: reset_to(lambda v, w, s: {w: lnm.where((s > 0) & (w > -9), w, 0)}),
    "bound": lambda: reset_to(lambda v, w, s: {w: lnm.where(lnm.bind(1 - s) > 0.5, 0, w)}),
    "product": lambda: reset_to(lambda v, w, s: {w: w * lnm.bind(s / 2 + 0.25)}),
}


def entries_of(matrix: lnm.Neuron) -> list[float]:
    """Return A_00, A_01, A_10, A_11, the outputs of the neuron without states."""
    outputs = lnm.interpret(matrix, np.zeros((1, 1))).outputs
    return [float(np.squeeze(outputs[f"matrix_{k}"])) for k in range(4)]


@pytest.mark.parametrize("case", CASES)
def test_the_matrix_is_that_of_a_step_without_a_spike(case: str) -> None:
    """Differences of steps from small states, all below the threshold, at input 0."""
    neuron = CASES[case]()
    part = linear_part(neuron)
    assert part is not None
    assert part.decides
    found = entries_of(part.neuron)
    h, rest = 2.0**-10, [float(s.decl.init) for s in neuron.states]  # type: ignore[union-attr]
    starts = {
        s.name: np.array([rest[k] + h * (k == j) for j in (0, 1, 2)])
        for k, s in enumerate(neuron.states)
    }
    after = lnm.interpret(neuron, np.zeros((1, 3)), state=starts).states
    columns = [after[s.name] for s in neuron.states]
    expected = [(c[j] - c[2]) / h for c in columns for j in (0, 1)]
    assert found == pytest.approx(expected, abs=1e-9)


FAMILIES: dict[str, lnm.Neuron] = {
    **{name: lnm.get(name) for name in ("adlif", "cuba_lif", "glif", "izhikevich", "rf", "tc_lif")},
    "alif": lnm.get("alif", form="lsnn"),
    "lnm": lnm.get("lnm", states=2, degree=2, reset="both"),
}


@pytest.mark.parametrize("neuron", FAMILIES.values(), ids=FAMILIES)
def test_the_matrix_is_the_jacobian_of_a_step_without_a_spike(neuron: lnm.Neuron) -> None:
    """At states and input 0, of every family with a matrix; there no clamp acts."""
    part = linear_part(neuron)
    assert part is not None
    by_state, _ = StepMap(neuron).jacobian(np.zeros((2, 1)))
    assert entries_of(part.neuron) == pytest.approx(by_state.reshape(4), abs=1e-12)


@pytest.mark.parametrize("neuron", [bent(), lnm.get("lif"), lnm.get("alif"), fitzhugh(2)])
def test_other_steps_have_no_matrix(neuron: lnm.Neuron) -> None:
    """A function of a state; one state; three states; sub-steps, which are bound values."""
    assert linear_part(neuron) is None


def test_a_polynomial_with_a_constant_has_a_matrix_that_decides_nothing() -> None:
    part = linear_part(lnm.get("izhikevich", learnable=True))
    assert part is not None
    assert not part.decides
    assert part.scaled is None


def test_parameters_that_occur_elsewhere_are_not_scaled() -> None:
    """a is the threshold, a gain, an output, a clamp or a constant too, or squared, or beside 1."""
    v, w, x = lnm.state("v"), lnm.state("w"), lnm.input("x")
    a, b = lnm.param("a", init=0.5), lnm.param("b", init=0.5)
    for h, c, fire, out in (
        (a * v, b * w, v - a, v),
        (a * a * v, b * w, v - 1, v),
        (v + a * w, b * w, v - 1, v),
        (a * b * v, a * w, v - 1, v),
        (a * (v + x), b * w, v - 1, v),
        (a * v, b * w, v - 1, a * v),
        (lnm.max(a * v, -a), b * w, v - 1, v),
        (a * v + lnm.bind(2 * a), b * w, v - 1, v),
    ):
        part = linear_part(
            lnm.Neuron(charge={v: h + x, w: c}, fire=fire, output={"y": out}, name="shared")
        )
        assert part is not None
        assert part.scaled is None
    begun = lnm.state("v", init=a)
    part = linear_part(
        lnm.Neuron(charge={begun: a * begun + x, w: b * w}, fire=begun - 1, name="begun")
    )
    assert part is not None
    assert part.scaled is None
    part = linear_part(lnm.Neuron(charge={v: a * v + x, w: b * w}, fire=v - 1, name="own"))
    assert part is not None
    assert part.scaled == (("a", 0), ("b", 0))
