"""`lnm.interpret` against finite differences, and its refusals of bad arguments.

A spike has no derivative, so its *twin* is differentiated: a neuron without spikes in which each
is the line c + k*z, where k is the surrogate's slope at the z met at that step and c makes the
line pass through the spike's value. Value and first derivative are then those of the rule.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import sympy
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import lnm_codegen as lnm
from lnm_codegen.families import FAMILIES
from lnm_codegen.language.functions import Where, stop_gradient
from tests.refusals import refused
from tests.strategies import (
    PERS,
    SURROGATES,
    Arguments,
    arguments_for,
    few,
    generators,
    neurons,
    shapes,
)

v, x = lnm.state("v"), lnm.input("x")

SLOPES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "atan": lambda z: 1 / (1 + (math.pi * z) ** 2),
    "sigmoid": lambda z: 4 * np.exp(-4 * z) / (1 + np.exp(-4 * z)) ** 2,
    "rectangle": lambda z: np.where(np.abs(z) < 1, 0.5, 0.0),
    "triangle": lambda z: np.maximum(0, 0.5 - 0.25 * np.abs(z)),
    "fast_sigmoid": lambda z: 1 / (1 + 2 * np.abs(z)) ** 2,
    "soft_sign": lambda z: 1 / (1 + 2 * np.abs(z)) ** 2,
    "erf": lambda z: 2 / math.sqrt(math.pi) * np.exp(-4 * z**2),
    "piecewise_exponential": lambda z: np.exp(-np.abs(z)) / 2,
    "multi_gaussian": lambda z: (
        (
            1.15 * np.exp(-2 * z**2)
            - 0.025 * np.exp(-((z - 0.5) ** 2) / 18)
            - 0.025 * np.exp(-((z + 0.5) ** 2) / 18)
        )
        / math.sqrt(2 * math.pi)
    ),
    "straight_through": np.ones_like,
    "half_tanh": lambda z: 1 / np.cosh(2 * z) ** 2,
    "quartic": lambda z: 1 / (2 + z**2 + z**4),
    "closed_rectangle": lambda z: np.where(np.abs(z) <= 0.5, 1.0, 0.0),
    "half_open_rectangle": lambda z: np.where((z > -0.5) & (z <= 0.5), 1.0, 0.0),
}
"""Slopes of the surrogates of the strategies, written by hand and with NumPy alone."""


WITH_ARGUMENT = {
    SURROGATES[1]: lambda z: 1.5 / (1 + (1.5 * math.pi * z) ** 2),
    lnm.surrogate.atan(alpha=0.1): lambda z: 0.05 / (1 + (0.05 * math.pi * z) ** 2),
    lnm.surrogate.rectangle(): lambda z: np.where(np.abs(z) < 0.5, 1.0, 0.0),
}


def slope_of(surrogate: Any, z: np.ndarray) -> np.ndarray:
    return WITH_ARGUMENT.get(surrogate, SLOPES[surrogate.name])(z)


def loss(neuron: lnm.Neuron, arguments: Arguments, **options: Any) -> float:
    """Return the sum of outputs and final states, weighted with the gradients given."""
    result = arguments.interpret(neuron, grad_out=None, grad_state=None, **options)
    total = sum(
        float((g * o).sum())
        for g, o in zip(arguments.grad_out, result.outputs.values(), strict=True)
    )
    return total + sum(float((g * result.states[n]).sum()) for n, g in arguments.grad_state.items())


def leaves(neuron: lnm.Neuron, arguments: Arguments) -> dict[str, np.ndarray]:
    """Return every array that the loss may be differentiated in, by the name of its gradient."""
    inputs = dict(zip((s.name for s in neuron.inputs), arguments.x_seq, strict=True))
    return {**inputs, **arguments.state, **arguments.params}


def moved(
    neuron: lnm.Neuron, a: Arguments, direction: dict[str, np.ndarray], h: float
) -> Arguments:
    def at(name: str, value: np.ndarray) -> np.ndarray:
        return value + h * direction.get(name, 0.0)

    return Arguments(
        tuple(at(s.name, x) for s, x in zip(neuron.inputs, a.x_seq, strict=True)),
        {n: at(n, v) for n, v in a.state.items()},
        {n: at(n, v) for n, v in a.params.items()},
        a.grad_out,
        a.grad_state,
    )


def slope_along(
    neuron: lnm.Neuron, a: Arguments, direction: dict[str, np.ndarray], h: float
) -> float:
    """Return the derivative of the loss along a direction: five points, error of order h**4."""
    at = [loss(neuron, moved(neuron, a, direction, k * h)) for k in (-2, -1, 1, 2)]
    return (at[0] - 8 * at[1] + 8 * at[2] - at[3]) / (12 * h)


def check_gradients(
    neuron: lnm.Neuron, a: Arguments, rng: np.random.Generator, steps: tuple[float, ...] = (1e-3,)
) -> None:
    """Compare each gradient with finite differences along a random direction, to 1e-7.

    A kink within reach of a wide stencil is passed over by a narrower one, where `steps` has one.
    """
    grads = a.interpret(neuron).grads
    for name, value in leaves(neuron, a).items():
        direction = {name: rng.uniform(-1, 1, value.shape)}
        exact = float((grads[name] * direction[name]).sum())
        scale = max(1.0, float(np.abs(grads[name] * direction[name]).sum()))
        found = [slope_along(neuron, a, direction, h) for h in steps]
        errors = [
            abs(f - exact) / scale / max(1e-7, 1e-12 / h) for f, h in zip(found, steps, strict=True)
        ]
        assert min(errors) < 1, f"{name}: {exact}, finite differences {found}"


def twin(neuron: lnm.Neuron, a: Arguments) -> tuple[lnm.Neuron, Arguments]:
    """Return the neuron without spikes, and its arguments, that has the same gradients."""
    probe = neuron.with_outputs(
        **{f"probe_{s.name}": s for s, _ in neuron.fire},
        **{f"z_{s.name}": z for s, z in neuron.fire},
    )
    seen = lnm.interpret(probe, *a.x_seq, state=a.state, **a.params).outputs
    surrogates = dict(neuron.surrogates)
    fired, held, more = {}, {}, []
    for spike, z in neuron.fire:
        k, c, d = (lnm.input(f"{word}_{spike.name}") for word in ("k", "c", "d"))
        value, at = seen[f"probe_{spike.name}"], seen[f"z_{spike.name}"]
        slope = slope_of(surrogates[spike.name], at)
        fired[spike] = k * z + c
        held[spike] = d if neuron.detach_reset else fired[spike]
        more += [(k, slope), (c, value - slope * at), (d, value)]

    def without(expr: sympy.Expr, table: dict[Any, Any]) -> sympy.Expr:
        return _replace(sympy.sympify(expr), table)

    result = lnm.Neuron(
        charge=dict(neuron.charge),
        reset={s: without(e, held) for s, e in neuron.reset},
        output={n: without(e, fired) for n, e in neuron.output},
    )
    names = {p.name for p in result.params}
    result = result.with_per({p.name: p.per for p in neuron.params if p.name in names})
    used = {s.name for s in result.inputs}
    extra = [(s, x) for s, x in more if s.name in used]
    kept = {s.name for s in result.inputs} - {s.name for s, _ in extra}
    first = [x for s, x in zip(neuron.inputs, a.x_seq, strict=True) if s.name in kept]
    params = {p.name: a.params[p.name] for p in result.params}
    arrays = (*first, *(x for _, x in extra))
    return result, Arguments(arrays, a.state, params, a.grad_out, a.grad_state)


def _replace(e: Any, table: dict[Any, Any]) -> Any:
    """Replace spikes in an expression; a choice by a spike becomes a sum weighted with it."""
    if e in table:
        return table[e]
    if not e.args:
        return e
    if isinstance(e, Where) and e.args[0] in table:
        s, a, b = (_replace(x, table) for x in e.args)
        return s * a + (1 - s) * b
    return e.func(*(_replace(x, table) for x in e.args))


@settings(few, max_examples=20)
@given(
    st.booleans().flatmap(lambda smooth: neurons(spiking=False, smooth=smooth, binds=True)),
    generators(),
    shapes(),
)
def test_gradients_are_those_of_finite_differences(neuron, rng, shape):
    """Inputs, initial states and parameters of any granularity, through outputs and states.

    where, min, max, abs and clip pass the gradient to the branch taken, away from their kinks.
    """
    check_gradients(neuron, arguments_for(neuron, rng, shape), rng, steps=(1e-3, 1e-4, 1e-5))


@few
@given(neurons(spiking=True), generators(), shapes())
def test_spikes_have_the_gradients_of_the_surrogate_rule(neuron, rng, shape):
    """A spike's derivative is its slope, wherever it is used; none in reset under detach_reset."""
    a = arguments_for(neuron, rng, shape)
    line, b = twin(neuron, a)
    ours, theirs = a.interpret(neuron), b.interpret(line)
    for name, value in ours.outputs.items():
        np.testing.assert_allclose(theirs.outputs[name], value, rtol=1e-9, atol=1e-12)
    for name in leaves(neuron, a):
        scale = max(1.0, float(np.abs(ours.grads[name]).max()))
        wanted = theirs.grads.get(name, 0.0)  # of what the twin does not read
        np.testing.assert_allclose(ours.grads[name], wanted, atol=1e-9 * scale, err_msg=name)
    check_gradients(line, b, rng, steps=(1e-3, 1e-4, 1e-5))


def charge_alone(neuron: lnm.Neuron, charge: dict[Any, Any]) -> lnm.Neuron:
    """Return a neuron with this charge, whose outputs are its states and inputs."""
    symbols = (*neuron.states, *neuron.inputs)
    return lnm.Neuron(
        charge=charge,
        reset={s: s for s in neuron.states if s not in charge},
        output={f"{s.name}_out": s for s in symbols},
    )


def held_constant(neuron: lnm.Neuron, a: Arguments) -> tuple[lnm.Neuron, Arguments]:
    """Return the neuron and arguments in which an input has the value of each stopped gradient."""
    stops = {s for _, e in neuron.charge for s in e.atoms(stop_gradient)}
    held = {s: lnm.input(f"held{k}") for k, s in enumerate(sorted(stops, key=str))}
    twin = charge_alone(neuron, {s: _replace(e, held) for s, e in neuron.charge})
    seen = {s: lnm.input(s.name) for s in neuron.states}
    values = {h.name: _replace(s.args[0], seen) for s, h in held.items()}
    kept = {f"{s.name}_seen": s for s in (*seen.values(), *neuron.inputs)}
    probe = lnm.Neuron(output=values | kept)
    given = {s.name: array for s, array in zip(neuron.inputs, a.x_seq, strict=True)}
    given |= {n: v[None] for n, v in a.state.items()}
    params = {p.name: a.params[p.name] for p in probe.params}
    given |= lnm.interpret(probe, *(given[s.name] for s in probe.inputs), **params).outputs
    inputs = tuple(given[s.name] for s in twin.inputs)
    params = {p.name: a.params[p.name] for p in twin.params}
    return twin, Arguments(inputs, a.state, params, a.grad_out, a.grad_state)


@few
@given(neurons(spiking=False, stops=True), generators())
def test_a_stopped_gradient_is_that_of_a_constant(neuron, rng):
    """stop_gradient(a) has the gradients of an input with the values of a."""
    neuron = charge_alone(neuron, dict(neuron.charge))
    a = arguments_for(neuron, rng, (1, 2, 3))
    line, b = held_constant(neuron, a)
    ours, theirs = a.interpret(neuron), b.interpret(line)
    for name, value in ours.outputs.items():
        np.testing.assert_allclose(theirs.outputs[name], value, rtol=1e-12, atol=1e-12)
    for name, value in ours.grads.items():
        wanted = theirs.grads.get(name, np.zeros(value.shape))
        np.testing.assert_allclose(value, wanted, rtol=1e-9, atol=1e-12, err_msg=name)


def test_stop_gradient_of_a_parameter():
    """In prepare: p*stop_gradient(p) has the derivative p; what reads it alone has none."""
    p, q = lnm.param("p", init=3.0), lnm.param("q", init=2.0)
    stopped = stop_gradient(p) * p + stop_gradient(lnm.exp(q))
    n = lnm.Neuron(charge={v: stopped * x}, output=v)
    found = lnm.interpret(n, np.ones((1, 1)), grad_out=1.0)
    assert found.out[0, 0] == pytest.approx(9 + math.exp(2))
    assert found.grads["p"] == 3
    assert found.grads["q"] == 0


@few
@given(neurons(spiking=False, smooth=True, starts=True), generators(), shapes())
def test_learned_initial_states_have_the_gradients_of_finite_differences(neuron, rng, shape):
    """A parameter that is an initial value, of any granularity; a given state takes its place."""
    a = arguments_for(neuron, rng, shape)
    given, a.state = a.state, {}
    check_gradients(neuron, a, rng)
    unread = {p.name for p in neuron.params} - {p.name for p in neuron.step_params}
    assert unread
    a.state = given
    for name in unread:
        assert not a.interpret(neuron).grads[name].any()


def test_an_initial_state_may_be_a_parameter_that_the_step_reads():
    """Its gradients from both uses add up; two states may share one parameter."""
    rest = lnm.param("rest", init=0.5)
    v, w, i = lnm.state("v", init=rest), lnm.state("w", init=rest), lnm.input("i")
    n = lnm.Neuron(charge={v: 2 * v - rest + i, w: 3 * w}, output={"out": v, "other": w})
    found = lnm.interpret(n, np.zeros((2, 1)), grad_state={"v": [1.0], "w": [1.0]})
    assert (found.states["v"][0], found.states["w"][0]) == (0.5, 4.5)
    assert found.grads["rest"] == (4 - 2 - 1) + 9
    assert n.step_params == n.params


@few
@given(neurons(), generators(), shapes())
def test_runs_of_one_neuron(neuron, rng, shape):
    """By Estrin's scheme, in float32, and cut in two."""
    a = arguments_for(neuron, rng, shape)
    whole = a.interpret(neuron)
    assert_near(a.interpret(neuron, scheme="estrin"), whole)
    check_float32(neuron, a)
    check_cut(neuron, a, whole)


def assert_near(found, expected):
    """Assert equal results up to rounding, unless z is near 0."""
    for kind in ("outputs", "states", "grads"):
        for name, value in getattr(expected, kind).items():
            np.testing.assert_allclose(getattr(found, kind)[name], value, rtol=1e-9, atol=1e-10)


def check_float32(neuron, a):
    """Every array of a float32 run is float32; a step from the same state is near float64's."""
    x_seq, grad_out = (tuple(x[:1] for x in part) for part in (a.x_seq, a.grad_out))
    a = Arguments(x_seq, a.state, a.params, grad_out, a.grad_state)
    near, exact = a.interpret(neuron, dtype="float32"), a.interpret(neuron)
    for dtype in (np.float32, np.dtype("float32")):
        assert np.array_equal(a.interpret(neuron, dtype=dtype).out, near.out)
    arrays = (*near.outputs.values(), *near.states.values(), *near.grads.values())
    assert {v.dtype for v in arrays} == {np.dtype("float32")}
    if not neuron.spikes:
        for name, value in exact.outputs.items():
            np.testing.assert_allclose(near.outputs[name], value, rtol=1e-4, atol=1e-5)


def check_cut(neuron, a, whole):
    """Two calls in a row equal one call, gradients too: states carry everything."""
    first, second = [x[:1] for x in a.x_seq], [x[1:] for x in a.x_seq]
    head = lnm.interpret(neuron, *first, state=a.state, **a.params)
    seeds = tuple(tuple(g[part] for g in a.grad_out) for part in (slice(1), slice(1, None)))
    given = {"grad_out": seeds[1], "grad_state": a.grad_state, **a.params}
    tail = lnm.interpret(neuron, *second, state=head.states, **given)
    given |= {"grad_out": seeds[0], "grad_state": {n: tail.grads[n] for n in a.state}}
    start = lnm.interpret(neuron, *first, state=a.state, **given)
    for name, value in whole.states.items():
        np.testing.assert_array_equal(tail.states[name], value)
        np.testing.assert_array_equal(start.grads[name], whole.grads[name])
    for s in neuron.inputs:
        joined = np.concatenate([start.grads[s.name], tail.grads[s.name]])
        np.testing.assert_array_equal(joined, whole.grads[s.name])
    for p in neuron.params:
        total = start.grads[p.name] + tail.grads[p.name]
        np.testing.assert_allclose(total, whole.grads[p.name], rtol=1e-9, atol=1e-10)


def cubic(per: dict[str, str]) -> lnm.Neuron:
    """Return a smooth neuron with parameters of three granularities."""
    v, x = lnm.state("v"), lnm.input("x")
    theta = lnm.param("theta", size=4, init=[0.1, 0.5, 0.1, -0.1], per=per["theta"])
    tau = lnm.param("tau", init=2.0, per=per["tau"])
    gain = lnm.param("gain", init=0.5, per=per["gain"])
    charge = {v: lnm.poly(v, theta) / tau + x * lnm.sigmoid(gain * theta[1]) / (1 + tau**2)}
    return lnm.Neuron(charge=charge, output=lnm.sigmoid(4 * v) * gain)


@pytest.mark.parametrize(
    ("theta", "tau", "gain", "shape"),
    [
        (one, two, PERS[(i + k) % 3], ((3, 2, 3, 2), (2, 2, 3))[(i + 2 * k) % 3 % 2])
        for i, one in enumerate(PERS)
        for k, two in enumerate(PERS)
    ],
)
def test_any_mixture_of_granularities(theta, tau, gain, shape):
    """Prepared expressions of several parameters have the gradient of each, element by element."""
    neuron = cubic({"theta": theta, "tau": tau, "gain": gain})
    rng = np.random.default_rng(1)
    a = arguments_for(neuron, rng, shape)
    grads = a.interpret(neuron).grads
    for name, value in a.params.items():
        assert grads[name].shape == value.shape
    check_gradients(neuron, a, rng)


@pytest.mark.parametrize(
    ("full", "own"),
    [
        ((5, 1), (5,)), ((5, 3), (5,)), ((5, 5), (5, 1)), ((5, 5), (1, 5)), ((1, 3, 4), (3, 4)),
        ((1, 1, 1), ()), ((4, 2, 3), (2, 1)), ((4, 2, 3), (4, 2, 3)), ((1, 2, 3), (1,)),
    ],
)  # fmt: skip
def test_the_gradient_of_a_further_input_has_its_shape(full, own):
    """Also where its number of elements equals that of the first input."""
    rng = np.random.default_rng(0)
    a, b, g = rng.normal(size=full), rng.normal(size=own), rng.normal(size=full)
    y = lnm.input("y")
    neuron = lnm.Neuron(charge={v: v / 2 + x * y}, output={"v": v})
    expanded = b.reshape(own + (1,) * (len(full) - 1)) if own == full[:1] else b
    whole = lnm.interpret(neuron, a, np.broadcast_to(expanded, full), grad_out=g).grads["y"]
    found = lnm.interpret(neuron, a, b, grad_out=g).grads["y"]
    axes = (1,) * (len(full) - np.ndim(expanded)) + np.shape(expanded)
    summed = tuple(k for k, n in enumerate(axes) if n == 1 and full[k] > 1)
    assert found.shape == own
    np.testing.assert_allclose(found, whole.sum(axis=summed).reshape(own), rtol=1e-12)


def test_gradients_of_final_states_alone():
    """With grad_state and no grad_out, the loss is that of the final states."""
    neuron = lnm.get("li", learn_tau=True)
    result = lnm.interpret(neuron, np.ones((2, 1)), grad_state={"v": np.ones(1)}, tau=2.0)
    np.testing.assert_allclose(result.grads["x"], [[0.25], [0.5]])
    np.testing.assert_allclose(result.grads["v"], [0.25])
    # h1 = 1/tau, h2 = h1 + (1 - h1)/tau; d/dtau = (-2 + 2/tau) / tau**2 at tau = 2
    np.testing.assert_allclose(result.grads["tau"], -0.25)


def test_results():
    """`trajectory` holds each state before each step; `out` is the first output."""
    result = lnm.interpret(lnm.get("if", v_reset=None), np.full((3, 1), 0.75))
    np.testing.assert_array_equal(result.trajectory["v"], [[0.0], [0.75], [0.5]])
    np.testing.assert_array_equal(result.out, [[0.0], [1.0], [1.0]])
    np.testing.assert_array_equal(result.states["v"], [0.25])
    assert result.grads == {}  # without grad_out and grad_state there is no backward pass
    neuron = lnm.Neuron(charge={v: v / 2 + x}, output={"a": v, "b": 3 * v})
    ones = np.ones((1, 1))
    result = lnm.interpret(neuron, ones, grad_out=(ones, None))  # None contributes nothing
    np.testing.assert_array_equal(result.grads["x"], ones)


@pytest.mark.parametrize("shape", [(0, 2, 3), (2, 0, 3), (2, 3, 0), (0, 0, 0)])
@pytest.mark.parametrize("name", ["lnm", "izhikevich", "ternary", "li"])
def test_no_steps_or_no_neurons(name, shape):
    """T = 0, N = 0 and C = 0 are legal, at every granularity; parameters then have gradients 0."""
    for per in PERS:
        neuron = lnm.get(name).with_per(per)
        a = arguments_for(neuron, np.random.default_rng(3), shape)
        result = a.interpret(neuron)
        assert result.out.shape == shape
        for n, value in leaves(neuron, a).items():
            assert result.grads[n].shape == value.shape
        assert all(not result.grads[p.name].any() for p in neuron.params)
        if shape[0] == 0:
            for n, value in a.state.items():
                np.testing.assert_array_equal(result.states[n], value)
                np.testing.assert_array_equal(result.grads[n], a.grad_state[n])


def test_arguments_are_not_written_to():
    """The caller's arrays are as they were."""
    neuron = lnm.get("lnm", degree=2)
    a = arguments_for(neuron, np.random.default_rng(4))
    given = [*a.x_seq, *a.state.values(), *a.params.values(), *a.grad_out, *a.grad_state.values()]
    before = [v.copy() for v in given]
    for value in given:
        value.setflags(write=False)
    a.interpret(neuron)
    for value, old in zip(given, before, strict=True):
        np.testing.assert_array_equal(value, old)


def test_a_potential_that_overflows_is_visible():
    """No value is clamped in silence: v**2 ends at inf, in float32 much sooner."""
    v, x = lnm.state("v", init=10.0), lnm.input("x")
    square = lnm.Neuron(charge={v: v**2 + x}, output=v)
    double = lnm.interpret(square, np.zeros((10, 1))).out[:, 0]
    single = lnm.interpret(square, np.zeros((10, 1)), dtype="float32").out[:, 0]
    assert [int(np.isfinite(r).sum()) for r in (double, single)] == [8, 5]
    assert np.isposinf(double[-1])
    assert np.isposinf(single[-1])


def _function(generator: Any, shape: Any) -> Any:
    raise AssertionError("not called")


def _with_function_init() -> lnm.Neuron:
    v, x = lnm.state("v", init=_function), lnm.input("x")
    w = lnm.param("w", init=_function)
    return lnm.Neuron(charge={v: w * v + x}, fire=v - 1, name="drawn")


X = np.zeros((2, 3, 4))
LIF, PLIF, NUMBER = lnm.get("lif"), lnm.get("plif"), "a number, or an array"
STATE = "a dict by state, {'v': ...}"
LONG = f"[[1{'0' * 114}...: int too large to convert to float"
BY_FUNCTION = "is initialised by a function"
SHAPE, MODEL = lnm.ShapeError, lnm.ModelError


def call(neuron: lnm.Neuron, *x_seq: Any, **given: Any) -> Callable[[], Any]:
    return lambda: lnm.interpret(neuron, *x_seq, **given)


LIF_CALLS = [
    (call(LIF, "abc"), "input 'x' is 'abc': not real numbers", "(T, N, *)"),
    (call(LIF, None), "input 'x' is None: not real numbers", "(T, N, *)"),
    (call(LIF, X + 1j), "input 'x' is an array of complex128: not real numbers"),
    (call(LIF, [[1, 1j]]), "input 'x' is [[1, 1j]]: not real numbers"),
    (call(LIF, [[1, None]]), "input 'x' is [[1, None]]: not real numbers"),
    (call(LIF, [[1], [1, 2]]), "[[1], [1, 2]]: its rows differ in length"),
    (call(LIF, [[10**400]]), LONG),
    (call(LIF, X, tau="a"), "parameter 'tau' is 'a': not real numbers", NUMBER),
    (call(LIF, X, grad_out="x"), "grad_out is 'x'", f"{NUMBER} (2, 3, 4)"),
    (call(LIF, X, state={"v": "a"}), "state 'v' is 'a'", f"{NUMBER} (3, 4)"),
    (call(LIF), "0 inputs given", "one array for each of x"),
    (call(LIF, X, X), "2 inputs given", "one array for each of x"),
    (call(LIF, np.zeros(8)), "input 'x' has shape (8,)", "(T, N, *), two axes"),
    (call(LIF, X, grad_out=(X, X)), "grad_out has 2 arrays", "each of spike"),
    (call(LIF, X, grad_out=X[0, 0, :3]), "grad_out has shape (3,)", "(2, 3, 4)"),
    (call(LIF, X, grad_state={"v": np.zeros(3)}),
     "grad_state['v'] has shape (3,)", f"{NUMBER} (3, 4)"),
    (call(LIF, X, state={"v": np.zeros(7)}), "state 'v' has shape (7,)", f"{NUMBER} (3, 4)"),
    (call(LIF, X, v_threshold=np.zeros((2, 2))), "parameter 'v_threshold'", ""),
]  # fmt: skip
NEURONS = [
    ("lif", "'lif' is not a neuron", "Write lnm.get('lif')."),
    (3, "3 is not a neuron", ""),
    (FAMILIES["lif"], "lif is a family, not a neuron", "Call it: lif()."),
    (SimpleNamespace(neuron=LIF), "a SimpleNamespace is not a neuron", "Pass layer.neuron."),
    (FAMILIES["if"], "if is a family, not a neuron", "Call it: if_()."),
]
OTHER = [
    (call(lnm.get("lnm", per="channel"), np.zeros((2, 3))),
     SHAPE, "x_seq", "the shape is (2, 3)", "(T, N, C, *), channels on axis 2"),
    (call(lnm.get("plif", per="channel"), X, w=np.zeros(3)),
     SHAPE, "plif", "parameter 'w' has 3 values", "1 or 4, one per channel"),
    (call(lnm.get("lnm", degree=3), X, theta=np.zeros(3)), SHAPE, "lnm", "parameter 'theta'"),
    *((call(LIF, X, scheme=scheme), MODEL, "lower", f"scheme is {scheme!r}", "'horner', 'estrin'")
      for scheme in ("naive", [])),
    *((call(LIF, X, dtype=dtype),
       MODEL, "interpret", f"dtype is {dtype!r}", "'float64', 'float32'")
      for dtype in ("float16", "foo", "f", None, [], 3)),
    (call(PLIF, X, W=0.0), MODEL, "plif", "no parameter 'W'", "w, v_threshold"),
    (call(PLIF, X, v_thresold=0.0),
     MODEL, "plif", "no parameter 'v_thresold'", "", "Did you mean 'v_threshold'?"),
    (call(LIF, X, state={"vv": 0.0}),
     MODEL, "lif", "no state 'vv'", "v", "Did you mean 'v'?"),
    (call(LIF, X, grad_state={"vv": 0.0}), MODEL, "lif", "'vv'", "v"),
    *((call(LIF, X, **{word: "v"}), MODEL, "lif", f"{word} is 'v'", STATE)
      for word in ("state", "grad_state")),
    *((lambda function=function, given=given: function(given),
       MODEL, where, problem, "an lnm.Neuron", remedy)
      for where, function in [
          ("interpret", lambda neuron: lnm.interpret(neuron, X)),
          ("lower", lnm.lower),
          ("emit", lambda neuron: lnm.emit(neuron, "c")),
      ]
      for given, problem, remedy in NEURONS),
    *((lambda given=given: lnm.emit(LIF, given),
       MODEL, "emit", f"backend is {given!r}", "'cuda', 'onnx', 'verilog'")
      for given in (None, [])),
    *((lambda name=name: lnm.emit(LIF, "c", name=name),
       MODEL, f"emit: name {name!r}", problem, "", "Choose another name.")
      for name, problem in (("if", "a keyword of Python"), ("_lif", "names of the forms _x"))),
    *((lambda target=target: lnm.emit(LIF, target, rtl=3),
       MODEL, "emit", f"rtl is 3 for backend {target!r}", "an lnm.Rtl")
      for target in ("c", "triton")),
    (lambda: lnm.emit(LIF, "c").write(None),
     MODEL, "write", "folder is None", "the path of a folder"),
    (lambda: lnm.emit(LIF, "torch").write("/dev/null/lif"),
     MODEL, "emit", "cannot write /dev/null/lif: Not a directory"),
    (call(_with_function_init(), X),
     MODEL, "drawn", f"parameter 'w' {BY_FUNCTION}", "", "Pass w=... to lnm.interp"),
    (call(_with_function_init(), X, w=0.5),
     MODEL, "drawn", f"state 'v' {BY_FUNCTION}", "", "Pass state={'v': ...} to the"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("call", "parts"),
    [
        *((call, (SHAPE, "lif", *parts)) for call, *parts in LIF_CALLS),
        *((call, parts) for call, *parts in OTHER),
    ],
    ids=lambda p: "",
)
def test_messages(call, parts):
    """Each refusal: kind, place, problem, accepted, remedy."""
    with refused(*parts):
        call()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("d", [2, 3, 8, 16])
def test_a_power_of_a_sum_is_accurate_near_its_zero(d, dtype):
    """The expansion of (v + p)**8 at p = 65 has terms of 1e15, which cancel."""
    v, x, p = lnm.state("v"), lnm.input("x"), lnm.param("p", init=65)
    neuron = lnm.Neuron({v: (v + p) ** d + x}, v - 1e30, output=v, name="shifted")
    start = {"v": np.array([-64.0, -65.0, -66.0])}
    found = lnm.interpret(neuron, np.zeros((1, 1, 3)), state=start, dtype=dtype, grad_out=1.0)
    sign = (-1) ** d
    assert found.out.ravel().tolist() == [1, 0, sign]
    assert found.grads["v"].ravel().tolist() == [d, 0, -sign * d]
    assert found.grads["p"] == d - sign * d


def test_the_own_name_may_be_reserved():
    """The family `if` keeps its name, which no other neuron may be emitted under."""
    assert lnm.emit(lnm.get("if"), "torch", name="if") == lnm.emit(lnm.get("if"), "torch")


STEPS = np.arange(24).reshape(2, 3, 4) % 11 % 4


@pytest.mark.parametrize(
    "x",
    [
        (STEPS / 2).tolist(),
        STEPS > 1,
        STEPS,
        torch.as_tensor(STEPS / 2),
        [[[Fraction(int(n), 2) for n in row] for row in rows] for rows in STEPS],
    ],
    ids=("floats", "bools", "integers", "tensor", "fractions"),
)
def test_what_counts_as_real_numbers(x):
    """Lists, bools, integers, tensors and fractions are."""
    neuron = lnm.get("lif", v_threshold=0.6)
    found, expected = (lnm.interpret(neuron, given) for given in (x, np.asarray(x, np.float64)))
    np.testing.assert_array_equal(found.out, expected.out)
    np.testing.assert_array_equal(found.states["v"], expected.states["v"])
    assert expected.out.any()
    assert expected.states["v"].any()
