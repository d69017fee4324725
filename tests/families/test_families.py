"""The built-in families against each other: one polynomial neuron, many names."""

from __future__ import annotations

import numpy as np
import pytest

import lnm_codegen as lnm
from lnm_codegen.families import FAMILIES
from lnm_codegen.ir.verify import verify
from lnm_codegen.validation import hints_of
from tests.compiler.test_interpret import check_gradients, twin
from tests.refusals import refused
from tests.strategies import arguments_for

RNG = np.random.default_rng
LAMBDA = 0.6
TAU = 1 / (1 - LAMBDA)


def inputs(seed: int, shape: tuple[int, ...] = (6, 2, 5)) -> tuple[np.ndarray, np.ndarray]:
    rng = RNG(seed)
    return rng.normal(0.4, 0.8, shape), rng.normal(size=shape)


def close(a: np.ndarray, b: np.ndarray) -> None:
    np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("scheme", ["horner", pytest.param("estrin", marks=pytest.mark.slow)])
def test_every_family_at_its_defaults(name, scheme):
    """Each pass leaves a valid kernel; outputs, states and gradients are finite."""
    neuron = lnm.get(name)
    assert neuron.name == name
    lnm.lower(neuron, scheme, on_pass=lambda _, kernel: verify(kernel))
    result = arguments_for(neuron, RNG(0)).interpret(neuron, scheme=scheme)
    for table in (result.outputs, result.states, result.grads):
        for value in table.values():
            assert np.isfinite(value).all()


@pytest.mark.parametrize("learned", [{}, {"learnable": True}])
@pytest.mark.parametrize("name", ["qif", "izhikevich", "cuba_lif"])
@pytest.mark.parametrize("per", ["layer", "channel", "neuron"])
def test_granularity_of_families(name, learned, per):
    """`per=` holds for the learnable parameters; the others may be given anything."""
    neuron = lnm.get(name, per=per, **learned)
    check = [p.per for p in neuron.params if p.name != "v_threshold"]
    assert set(check) == {per}
    assert all(p.learnable == bool(learned) for p in neuron.params if p.name != "v_threshold")


LEARNED = {
    "lif": {"learn_tau": True}, "li": {"learn_tau": True}, "ternary": {"learn_amplitude": True},
    "qif": {"learnable": True}, "izhikevich": {"learnable": True, "a": 0.2, "b": 0.3},
    "cuba_lif": {"learnable": True}, "lnm": {"learn_threshold": True},
    "glif": {"g_per_step": True}, "alif": {"tau_m": 4.0, "tau_adp": 9.0},
    "clif": {"learn_tau": True}, "i_lif": {"learn_tau": True}, "eif": {"learnable": True},
    "refractory_lif": {"learn_tau": True, "tau_syn": 3.0}, "adex": {"learnable": True},
    "leaky": {"learn_beta": True, "learn_threshold": True, "reset_delay": False},
    "synaptic": {"learn_alpha": True, "learn_beta": True, "learn_threshold": True},
    "lapicque": {"learnable": True, "learn_threshold": True, "reset": "zero"},
    "fitzhugh_nagumo": {"learnable": True, "sub_steps": 2}, "hodgkin_huxley": {"learnable": True},
}  # fmt: skip


STOPPED = {"pause"}
"""States whose gradient is stopped, which finite differences do not see."""


@pytest.mark.parametrize(
    "per", ["layer", *(pytest.param(p, marks=pytest.mark.slow) for p in ("channel", "neuron"))]
)
@pytest.mark.parametrize("name", FAMILIES)
def test_gradients_of_every_family(name, per):
    """Inputs, states and parameters against finite differences of the surrogate's rule."""
    takes_per = "per" in FAMILIES[name].signature.parameters
    given = LEARNED.get(name, {}) | ({"per": per} if takes_per else {})
    neuron = lnm.get(name, **given)
    rng = RNG(1)
    a = arguments_for(neuron, rng, (3, 2, 2))
    for state in a.grad_state.keys() & STOPPED:
        a.grad_state[state] = np.zeros((2, 2))
    line, b = twin(neuron, a)
    ours, theirs = a.interpret(neuron).grads, b.interpret(line).grads
    for n, grad in ours.items():
        np.testing.assert_allclose(grad, theirs.get(n, 0.0), rtol=1e-9, atol=1e-9, err_msg=n)
    check_gradients(line, b, rng, steps=(1e-3, 1e-4, 1e-5))


@pytest.mark.parametrize("v_reset", [0.0, -0.2, None])
@pytest.mark.parametrize("detach_reset", [False, True])
def test_degree_1_is_a_leaky_integrator(v_reset, detach_reset):
    """theta = (0, lambda): the spikes of lif(decay_input=False, v_rest=0), and its gradients.

    The gradient of tau is that of theta_1 through lambda = 1 - 1/tau: d lambda/d tau = tau**-2.
    """
    x, grad = inputs(2)
    lif = lnm.get("lif", tau=TAU, decay_input=False, v_rest=0.0, v_reset=v_reset, learn_tau=True)
    one = lnm.get("lnm", degree=1, theta=(0.0, LAMBDA), v_reset=v_reset)
    lif, one = lif.with_detach_reset(detach_reset), one.with_detach_reset(detach_reset)
    ends = {"v": np.ones(x.shape[1:])}
    a = lnm.interpret(lif, x, grad_out=grad, grad_state=ends)
    b = lnm.interpret(one, x, grad_out=grad, grad_state=ends)
    np.testing.assert_array_equal(a.out, b.out)
    assert 0 < a.out.mean() < 1
    close(a.states["v"], b.states["v"])
    for name in ("x", "v", "v_threshold"):
        close(a.grads[name], b.grads[name])
    close(a.grads["tau"], b.grads["theta"][1] / TAU**2)


@pytest.mark.parametrize("degree", range(1, 9))
@pytest.mark.parametrize("form", ["A", "B", "C"])
def test_at_its_start_a_lnm_is_a_lif(degree, form):
    """By default the first forward pass is that of h = v/2 + x (form B: h = (v + x)/2)."""
    x, grad = inputs(3)
    lnm_ = lnm.get("lnm", degree=degree, form=form)
    lif = lnm.get("lif", tau=2.0, decay_input=form == "B", v_rest=0.0)
    a, b = (lnm.interpret(n, x, grad_out=grad) for n in (lnm_, lif))
    np.testing.assert_array_equal(a.out, b.out)
    close(a.states["v"], b.states["v"])
    close(a.grads["x"], b.grads["x"])


@pytest.mark.parametrize("degree", [1, 2, 3, 4])
def test_form_c_is_form_a_with_theta_1_shifted(degree):
    """v + f(v) + x is f'(v) + x with theta_1' = theta_1 + 1; the gradients are the same."""
    x, grad = inputs(4, (4, 2, 3))
    theta = RNG(5).normal(0, 0.1, degree + 1)
    shifted = theta + np.eye(1, degree + 1, 1)[0]
    a = lnm.interpret(lnm.get("lnm", degree=degree), x, grad_out=grad, theta=shifted)
    c = lnm.interpret(lnm.get("lnm", degree=degree, form="C"), x, grad_out=grad, theta=theta)
    np.testing.assert_array_equal(a.out, c.out)
    for name in a.grads:
        close(a.grads[name], c.grads[name])


def test_form_b_is_the_polynomial_of_v_plus_x():
    """h = f(v + x): at the first step from v = 0 it is f(x)."""
    x, _ = inputs(6, (1, 3, 4))
    theta = np.array([0.1, 0.5, 0.2, -0.1])
    neuron = lnm.get("lnm", degree=3, form="B", v_threshold=100.0)
    result = lnm.interpret(neuron, x, grad_out=np.zeros_like(x), theta=theta)
    close(result.states["v"], np.polynomial.polynomial.polyval(x[0], theta))


def test_theta_0_may_be_left_out():
    """learn_theta_0=False is theta_0 = 0; theta then holds the others."""
    x, grad = inputs(7, (4, 2, 3))
    whole = lnm.interpret(lnm.get("lnm", degree=3), x, grad_out=grad, theta=[0, 0.5, 0.2, -0.1])
    neuron = lnm.get("lnm", degree=3, learn_theta_0=False)
    assert neuron.params[0].size == 3
    assert neuron.params[0].init == (0.5, 0.0, 0.0)
    part = lnm.interpret(neuron, x, grad_out=grad, theta=[0.5, 0.2, -0.1])
    np.testing.assert_array_equal(whole.out, part.out)
    close(whole.grads["theta"][1:], part.grads["theta"])


@pytest.mark.parametrize("v_reset", [0.0, None])
def test_v_min_clamps_the_charged_potential(v_reset):
    """h = where(h < v_min, v_min, h): below it the gradient stops, above nothing changes."""
    free = lnm.get("lnm", degree=1, v_reset=v_reset)
    held = lnm.get("lnm", degree=1, v_reset=v_reset, v_min=-2.0)
    low, mid = np.full((1, 1), -5.0), np.full((1, 1), -1.5)
    ends = {"v": np.ones(1)}
    result = lnm.interpret(held, low, grad_state=ends)
    assert (result.states["v"], result.grads["x"]) == (-2.0, 0.0)
    result = lnm.interpret(held, mid, grad_state=ends)
    other = lnm.interpret(free, mid, grad_state=ends)
    np.testing.assert_array_equal(result.states["v"], other.states["v"])
    np.testing.assert_array_equal(result.grads["x"], other.grads["x"])


def test_v_min_stops_a_cubic_from_running_away():
    """An odd polynomial with a positive leading coefficient runs to -inf without the clamp."""
    theta, x = [0.05, 0.6, -0.10, 0.15], np.full((40, 1), -1.5)
    args = {"theta": theta, "state": {"v": [-2.0]}}
    assert not np.isfinite(lnm.interpret(lnm.get("lnm", degree=3), x, **args).states["v"]).all()
    held = lnm.interpret(lnm.get("lnm", degree=3, v_min=-2.0), x, **args)
    assert held.states["v"] == -2.0


@pytest.mark.parametrize("v_reset", [0.0, -0.1, None])
def test_polynomial_dictionary(v_reset):
    """Named models are LNMs: coefficients and input scale of each."""
    x, _ = inputs(8)
    tau, rest, critical, gain = 2.5, 0.1, 0.7, 0.8
    table = [
        (lnm.get("if", v_reset=v_reset), x, (0.0, 1.0)),
        (
            lnm.get("lif", tau=tau, v_rest=0.0, v_reset=v_reset),
            x / tau,
            (0.0, 1 - 1 / tau),
        ),
        (
            lnm.get("lif", tau=tau, v_rest=rest, decay_input=False, v_reset=v_reset),
            x,
            (rest / tau, 1 - 1 / tau),
        ),
        (lnm.get("qif", v_reset=v_reset), x / 2, (0.0, 0.6, 0.5)),
        (
            lnm.get("qif", tau=tau, v_rest=rest, v_c=critical, a0=gain, v_reset=v_reset),
            x / tau,
            (gain * rest * critical / tau, 1 - gain * (rest + critical) / tau, gain / tau),
        ),
        (
            lnm.get("izhikevich", v_reset=v_reset, v_rest=0.0),
            x / 2,
            (0.0, 0.6, 0.5),
        ),
        (lnm.get("plif", v_reset=v_reset), (x + (v_reset or 0)) / 2, (0.0, 0.5)),
    ]
    for neuron, scaled, theta in table:
        same = lnm.get("lnm", degree=len(theta) - 1, v_reset=v_reset)
        expected = lnm.interpret(same, scaled, theta=theta)
        found = lnm.interpret(neuron, x)
        np.testing.assert_array_equal(found.out, expected.out, err_msg=neuron.name)
        close(found.states["v"], expected.states["v"])


def test_plif_begins_at_tau_and_is_a_lif():
    """w = -ln(tau - 1): sigmoid(w) = 1/tau; its gradient is that of 1/tau."""
    x, grad = inputs(9)
    for decay_input in (True, False):
        lif = lnm.get("lif", tau=3.0, decay_input=decay_input, learn_tau=True)
        plif = lnm.get("plif", tau=3.0, decay_input=decay_input)
        a, b = (lnm.interpret(n, x, grad_out=grad) for n in (lif, plif))
        np.testing.assert_array_equal(a.out, b.out)
        close(a.grads["x"], b.grads["x"])
        leak = 1 / 3.0  # d leak/d tau = -leak**2,  d leak/d w = leak*(1 - leak)
        close(a.grads["tau"] / -(leak**2) * leak * (1 - leak), b.grads["w"])


def test_cuba_lif_without_synapse_is_a_lif():
    """A current that does not last leaves h = decay*v + x."""
    x, grad = inputs(10)
    cuba = lnm.get("cuba_lif", current_decay=0.0, voltage_decay=0.5, v_threshold=1.0)
    lif = lnm.get("lif", tau=2.0, decay_input=False)
    a, b = (lnm.interpret(n, x, grad_out=grad) for n in (cuba, lif))
    np.testing.assert_array_equal(a.out, b.out)
    close(a.grads["x"], b.grads["x"])


def test_ternary_fires_both_ways():
    """The output is the sign where |h| reaches the threshold; then v is 0."""
    x = np.array([[0.5, -0.5, 0.4, -0.4, 2.0, -2.0]])
    result = lnm.interpret(lnm.get("ternary"), x)
    np.testing.assert_array_equal(result.out, [[1, -1, 0, 0, 1, -1]])
    np.testing.assert_array_equal(result.states["v"], [0, 0, 0.4, -0.4, 0, 0])


def test_the_slope_of_ternary_is_1_also_at_rest():
    """1 where |h| <= 1: at h = 0, where the windows of both spikes end, it was 2."""
    x = np.array([[[-1.01, -1.0, -0.5, -0.01, 0.0, 0.01, 0.5, 1.0, 1.01]]])
    grads = lnm.interpret(lnm.get("ternary"), x, grad_out=np.ones_like(x)).grads
    np.testing.assert_array_equal(grads["x"][0, 0], [0, 1, 1, 1, 1, 1, 1, 1, 0])


def test_ternary_is_odd():
    """Inputs of the other sign give outputs of the other sign, and the same gradients."""
    x, grad = inputs(11)
    a = lnm.interpret(lnm.get("ternary"), x, grad_out=grad)
    b = lnm.interpret(lnm.get("ternary"), -x, grad_out=grad)
    np.testing.assert_array_equal(a.out, -b.out)
    close(a.grads["x"], b.grads["x"])


def test_li_is_a_low_pass():
    """The potential of a constant input goes to the input, or to tau times it."""
    ones = np.ones((200, 1))
    assert lnm.interpret(lnm.get("li", tau=3.0), ones).out[-1, 0] == pytest.approx(1)
    plain = lnm.get("li", tau=3.0, decay_input=False)
    assert lnm.interpret(plain, ones).out[-1, 0] == pytest.approx(3)


@pytest.mark.parametrize("name", ["if", "lif", "plif", "qif", "izhikevich", "cuba_lif", "lnm"])
def test_fires_at_the_threshold(name):
    """h = v_threshold fires (>=), and h just below does not."""
    neuron = lnm.get(name, **({"v_rest": 0.0} if name == "izhikevich" else {}))
    threshold = next(p.init for p in neuron.params if p.name == "v_threshold")
    state = {s.name: 0.0 for s in neuron.states}
    scale = {"lif": 2, "plif": 2, "qif": 2, "izhikevich": 2}.get(name, 1)
    at = lnm.interpret(neuron, np.full((1, 1), scale * threshold), state=state)
    below = lnm.interpret(neuron, np.full((1, 1), scale * threshold * (1 - 1e-12)), state=state)
    assert (at.out, below.out) == (1.0, 0.0)


@pytest.mark.parametrize("name", ["lnm", "qif"])
def test_both_clamps(name):
    """Under a soft reset v_max = 2 V leaves at most V after a spike, whatever comes in."""
    arguments = {"theta": (0.1, 0.9, 0.5, 0.4)} if name == "lnm" else {"a0": 3.0}
    neuron = lnm.get(name, v_reset=None, v_min=-2.0, v_max=2.0, **arguments)
    x = np.random.default_rng(0).normal(0, 5, (32, 2, 64))
    states = lnm.interpret(neuron, x).states["v"]
    assert states.min() >= -2.0
    assert states.max() <= 1.0
    accepted = "a number > v_threshold, 1.0, or None"
    with refused(lnm.ModelError, name, "v_max is 1.0", accepted):
        lnm.get(name, v_max=1.0)


def test_types_of_arguments_are_read() -> None:
    """Of every built-in family; a type that cannot be evaluated would check nothing."""
    for family in FAMILIES.values():
        for one in getattr(family, "_families", {None: family}).values():
            assert hints_of(one._build).keys() == one._build.__annotations__.keys()
