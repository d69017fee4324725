"""The built-in families: their list, their arguments, and their relations to one another."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lnm_codegen as lnm
from lnm_codegen import families
from lnm_codegen.families import FAMILIES
from lnm_codegen.ir.verify import verify
from lnm_codegen.validation import Accepted, declared_types, hints_of
from tests.compiler.test_interpret import check_gradients, twin
from tests.refusals import assert_refused
from tests.strategies import arguments_for

RNG = np.random.default_rng
LAMBDA = 0.6
TAU = 1 / (1 - LAMBDA)
MEMBERS = {
    f"{name}_{key}" if key else name: (name, {family._word: key} if key else {}, one)  # type: ignore[attr-defined]
    for name, family in FAMILIES.items()
    for key, one in getattr(family, "_families", {None: family}).items()
}
"""Families, those of an argument apart: label -> name, that argument, and the family."""


def inputs(seed: int, shape: tuple[int, ...] = (6, 2, 5)) -> tuple[np.ndarray, np.ndarray]:
    rng = RNG(seed)
    return rng.normal(0.4, 0.8, shape), rng.normal(size=shape)


def close(a: Any, b: Any) -> None:
    np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-12)


def families_of(file: Path) -> set[str]:
    """Return the names of functions with a decorator of families in a file."""
    return {
        node.name.rstrip("_")
        for node in ast.parse(file.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef)
        for mark in node.decorator_list
        if ast.unparse(mark).startswith(("family", "lnm.family"))
    }


def test_every_family_is_listed_and_documented() -> None:
    """Each file that defines a family is in FAMILIES; docstrings have equations and arguments."""
    folder = Path(families.__file__).parent
    defined = {file.name: families_of(file) for file in folder.glob("*.py")}
    assert set().union(*defined.values()) == set(FAMILIES)
    assert len(FAMILIES) >= 24
    assert defined["delayed_reset.py"] == {"leaky", "synaptic", "lapicque"}
    for name, family in FAMILIES.items():
        assert family.name == name
        text = family.__doc__ or ""
        assert any(phase in text for phase in ("charge ", "output ")), name
        arguments = text.partition("Args:")[2]
        for word in family.signature.parameters if arguments else ():
            assert f" {word}: " in arguments or word in ("states", "form"), word


DECLARED = """
a finite number or None
    if.v_reset lif.v_reset lif.v_rest plif.v_reset klif.v_reset tc_lif.v_reset cuba_lif.v_reset
    alif.v_threshold alif.v_reset qif.v_reset qif.v_min qif.v_max eif.v_reset adex.theta_rh
    izhikevich_spikingjelly.v_reset lnm_1.v_reset lnm_1.v_min lnm_1.v_max lnm_2.v_reset lnm_2.v_min
    lnm_2.v_max lnm_2.w_min lnm_2.w_max
a number > 1
    lif.tau plif.tau klif.tau clif.tau i_lif.tau refractory_lif.tau qif.tau eif.tau adex.tau
    adex.tau_w izhikevich_spikingjelly.tau izhikevich_spikingjelly.tau_w li.tau
a number > 1 or None
    refractory_lif.tau_syn adex.tau_syn
a number > 0
    klif.k i_lif.v_threshold lapicque.r lapicque.dt adlif.q eif.delta_T adex.delta_T
    izhikevich_norse.dt fitzhugh_nagumo.dt hodgkin_huxley.g_l hodgkin_huxley.capacitance
    hodgkin_huxley.dt rf.dt brf.dt ternary.v_threshold
a number > 0 or None
    lapicque.c
a number > 0 and < 1
    tc_lif.beta_d tc_lif.beta_s
a number > 0 and < 1 or None
    lapicque.beta
a number >= 0 and <= 1
    leaky.beta synaptic.alpha synaptic.beta brf.gamma
an integer >= 1
    glif.time_steps
an integer >= 0
    refractory_lif.refractory
an integer from 1 to 16
    i_lif.max_count
an integer from 1 to 1000
    fitzhugh_nagumo.sub_steps hodgkin_huxley.sub_steps
an integer from 1 to 8
    lnm_1.degree
an integer from 1 to 5
    lnm_2.degree
True, False
    lif.decay_input plif.decay_input klif.decay_input klif.scale_reset glif.g_per_step
    i_lif.detach_reset leaky.reset_delay synaptic.reset_delay adlif.detach_reset
    fitzhugh_nagumo.crossing hodgkin_huxley.crossing li.decay_input lnm_1.learn_theta_0
    lnm_2.learn_theta_0
'subtract', 'zero', 'none', None
    leaky.reset lapicque.reset synaptic.reset
'yin', 'lsnn'
    alif.form
'A', 'B', 'C'
    lnm_1.form
'monomial', 'chebyshev', 'legendre'
    lnm_1.basis
'free', 'pole'
    lnm_2.parametrisation
'v', 'both'
    lnm_2.reset
"""
"""What declared arguments accept; each of the others accepts a finite number."""


def test_declared_arguments() -> None:
    """A type that cannot be evaluated would check nothing."""
    accepted = ""
    expected = {}
    for line in DECLARED.strip().splitlines():
        expected |= {word: accepted for word in line.split()} if line.startswith(" ") else {}
        accepted = accepted if line.startswith(" ") else line
    others = 0
    for label, (name, selected, family) in MEMBERS.items():
        assert hints_of(family._build).keys() == family._build.__annotations__.keys()
        for word, declared in declared_types(family._build).items():
            if any(isinstance(mark, Accepted) for mark in declared.marks):
                with pytest.raises(lnm.ModelError) as caught:
                    lnm.get(name, **selected, **{word: "?"})
                error, wanted = caught.value, expected.pop(f"{label}.{word}", "a finite number")
                assert (error.where, error.problem, error.accepted) == (
                    name, f"{word} is '?'", wanted,
                ), label  # fmt: skip
                others += wanted == "a finite number"
    assert not expected
    assert others == 63


ALIF = "a number as v_reset in form 'lsnn'; neither in form 'yin', whose reset is soft"
RANGE = "a finite number, or (low, high) with low < high"
SPREAD = "with a spread > 0, a decay between 0 and 1"
GLIF = "a number > 0 and < 1"
REFUSALS = """
glif >> GLIF
    lnm.get("glif", alpha=1.0) >> alpha is 1.0
    lnm.get("glif", v_threshold="a") >> v_threshold is 'a'
    lnm.get("glif", leak=True) >> leak is True
    lnm.get("glif", g=0) >> g is 0
alif >> ALIF
    lnm.get("alif", tau_syn=5.0) >> form is 'yin', v_reset 0.0, tau_syn 5.0
    lnm.get("alif", v_reset=0.5) >> form is 'yin', v_reset 0.5, tau_syn None
    lnm.get("alif", form="lsnn", v_reset=None) >> form is 'lsnn', v_reset None, tau_syn None
    lnm.get("alif", tau_m=1.0) >> tau_m is 1.0 >> a number > 1
    lnm.get("alif", tau_adp=None) >> tau_adp is None >> a number > 1
    lnm.get("alif", form="lsnn", tau_syn=0) >> tau_syn is 0 >> a number > 1 or None
adlif
    lnm.get("adlif", tau_v=0.5) >> tau_v is 0.5 >> a number >= 1
    lnm.get("adlif", tau_w=0.5) >> tau_w is 0.5 >> a number >= 1
    lnm.get("adlif", a=(0.0, 1.5)) >> a is 1.5 >> a number >= 0 and <= 1
    lnm.get("adlif", b=-1) >> b is -1 >> a number >= 0 and <= 2
rf >> RANGE
    lnm.get("rf", omega="fast") >> omega is 'fast'
    lnm.get("rf", omega=(2.0, 1.0)) >> omega is (2.0, 1.0) >> (low, high) with low < high
    lnm.get("rf", b_offset=None) >> b_offset is None
brf >> a number >= -10 and <= 10
    lnm.get("brf", dt=0.1, omega=10.5) >> omega is 10.5
    lnm.get("brf", dt=0.1, omega=(5.0, 11.0)) >> omega is 11.0
izhikevich
    lnm.get("izhikevich", form="sj") >> form is 'sj' >> 'spikingjelly', 'norse'
    lnm.get("izhikevich", form="norse", c=30) >> c is 30 >> a number < 30
    lnm.get("izhikevich", c=-65.0) >> c is given, which form='spikingjelly' does not take
        >> tau, v_c
?
    lnm.get("refractory_lif", v_reset=1) >> refractory_lif: v_reset is 1 >> a number < v_threshold
    lnm.get("lapicque", beta=0.5, c=2.0) >> lapicque: beta is 0.5 and c is 2.0 >> one of them
    lnm.get("alif", learn_tau=1) >> parameter 'tau_m': learnable is 1 >> True, False
    lnm.get("qif", v_max=1.0) >> qif: v_max is 1.0 >> a number > v_threshold, 1.0, or None
lnm >> v_min < v_threshold
    lnm.get("lnm", basis="legendre", v_min=1.0) >> basis 'legendre' on [1.0, 1.0]
    lnm.get("lnm", basis="chebyshev", v_threshold=-2.0) >> basis 'chebyshev' on [-2.0, -2.0]
    lnm.get("lnm", v_max=1.0) >> v_max is 1.0 >> a number > v_threshold, 1.0, or None
    lnm.get("lnm", decay=1.0, decay_spread=1.0) >> decay is 1.0 and decay_spread 1.0 >> SPREAD
    lnm.get("lnm", decay=0.0, decay_spread=1.0) >> decay is 0.0 and decay_spread 1.0 >> SPREAD
    lnm.get("lnm", decay_spread=-1.0) >> decay is 0.5 and decay_spread -1.0 >> SPREAD
    lnm.get("lnm", theta=[0, 0.5], degree=1, decay_spread=1.0)
        >> theta and decay_spread are given >> one of them
    lnm.get("lnm", theta=[0, 0.5], degree=1, decay=0.9) >> theta and decay are given >> one of them
    lnm.get("lnm", degree=9) >> degree is 9 >> an integer from 1 to 8
    lnm.get("lnm", states=3) >> states is 3 >> 1, 2
    lnm.get("lnm", states=True) >> states is True >> 1, 2
    lnm.get("lnm", states=2, degree=6) >> degree is 6 >> an integer from 1 to 5
    lnm.get("lnm", states=2, radius=-0.1) >> radius is -0.1 >> a number >= 0
    lnm.get("lnm", states=2, radius=(0.9, 0.5)) >> radius is (0.9, 0.5) >> (low, high) with low
    lnm.get("lnm", states=2, radius=1.0, parametrisation="pole") >> radius is 1.0
        >> a number > 0 and < 1
    lnm.get("lnm", states=2, radius=(0.0, 0.5), parametrisation="pole") >> radius is 0.0
        >> a number > 0 and < 1
    lnm.get("lnm", states=2, angle="wide") >> angle is 'wide' >> RANGE
    lnm.get("lnm", states=2, v_min=1.0) >> v_min is 1.0 >> a number < v_threshold, 1.0, or None
    lnm.get("lnm", states=2, v_max=0.5) >> v_max is 0.5 >> a number > v_threshold, 1.0, or None
    lnm.get("lnm", states=2, w_min=1.0, w_max=1.0) >> w_max is 1.0 >> a number > w_min, 1.0, or None
    lnm.get("lnm", states=2, degree=1, parametrisation="pole", theta_w=(0.1,)) >> theta_w is given,
        but degree 1 has no term beside the pole pair >> >> Omit theta_w.
    lnm.get("lnm", states=2, raduis=0.5) >> no argument 'raduis' >> radius >> Did you mean 'radius'?
    lnm.get("lnm", **{"self": 1}) >> no argument 'self' >> degree, form, theta
"""


def test_refusals() -> None:
    assert_refused(REFUSALS, globals())


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("scheme", ["horner", pytest.param("estrin", marks=pytest.mark.slow)])
def test_every_family_at_its_defaults(name: str, scheme: Any) -> None:
    """Each pass leaves a valid kernel; outputs, states and gradients are finite."""
    neuron = lnm.get(name)
    lnm.lower(neuron, scheme, on_pass=lambda _, kernel: verify(kernel))
    result = arguments_for(neuron, RNG(0), (2, 1, 2)).interpret(neuron, scheme=scheme)
    for table in (result.outputs, result.states, result.grads):
        for value in table.values():
            assert np.isfinite(value).all()


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


@pytest.mark.parametrize("per", ["layer", "channel", "neuron"])
@pytest.mark.parametrize("name", LEARNED)
def test_granularity_of_families(name: str, per: Any) -> None:
    """`per=` holds for the learnable parameters; the others may be given anything."""
    if "per" in FAMILIES[name].signature.parameters:
        params = lnm.get(name, per=per, **LEARNED[name]).params
        assert {p.per for p in params if p.learnable} == {per}


STOPPED = {"pause"}
"""States whose gradient is stopped, which finite differences do not see."""
QUICK = (("clif", "layer"), ("brf", "channel"))


@pytest.mark.parametrize(
    ("name", "per"),
    [
        *QUICK,
        *(
            pytest.param(name, per, marks=pytest.mark.slow)
            for name in FAMILIES
            for per in ("layer", "channel", "neuron")
            if (name, per) not in QUICK
        ),
    ],
)
def test_gradients_of_every_family(name: str, per: Any) -> None:
    """Inputs, states and parameters against finite differences of the surrogate's rule."""
    takes_per = "per" in FAMILIES[name].signature.parameters
    given = LEARNED.get(name, {}) | ({"per": per} if takes_per else {})
    neuron, rng = lnm.get(name, **given), RNG(1)
    a = arguments_for(neuron, rng, (3, 2, 2))
    for state in a.grad_state.keys() & STOPPED:
        a.grad_state[state] = np.zeros((2, 2))
    line, b = twin(neuron, a)
    ours, theirs = a.interpret(neuron).grads, b.interpret(line).grads
    for n, grad in ours.items():
        np.testing.assert_allclose(grad, theirs.get(n, 0.0), rtol=1e-9, atol=1e-9, err_msg=n)
    check_gradients(line, b, rng, steps=(1e-3, 1e-4, 1e-5))


@pytest.mark.parametrize(("v_reset", "detach_reset"), [(0.0, False), (-0.2, True), (None, False)])
def test_degree_1_is_a_leaky_integrator(v_reset: float | None, detach_reset: bool) -> None:
    """theta = (0, lambda): the spikes of lif(decay_input=False, v_rest=0), and its gradients.

    The gradient of tau is that of theta_1 through lambda = 1 - 1/tau: d lambda/d tau = tau**-2.
    """
    x, grad = inputs(2)
    lif = lnm.get("lif", tau=TAU, decay_input=False, v_rest=0.0, v_reset=v_reset, learn_tau=True)
    one = lnm.get("lnm", degree=1, theta=(0.0, LAMBDA), v_reset=v_reset, detach_reset=detach_reset)
    given = {"grad_out": grad, "grad_state": {"v": np.ones(x.shape[1:])}}
    a = lnm.interpret(lif.with_detach_reset(detach_reset), x, **given)
    b = lnm.interpret(one, x, **given)
    np.testing.assert_array_equal(a.out, b.out)
    assert 0 < a.out.mean() < 1
    close(a.states["v"], b.states["v"])
    for name in ("x", "v", "v_threshold"):
        close(a.grads[name], b.grads[name])
    close(a.grads["tau"], b.grads["theta"][1] / TAU**2)


@pytest.mark.parametrize(("degree", "form"), [(1, "A"), (2, "B"), (3, "C"), (8, "C"), (8, "B")])
def test_at_its_start_a_lnm_is_a_lif(degree: int, form: str) -> None:
    """By default the first forward pass is that of h = v/2 + x (form B: h = (v + x)/2)."""
    x, grad = inputs(3)
    lif = lnm.get("lif", tau=2.0, decay_input=form == "B", v_rest=0.0)
    neurons = lnm.get("lnm", degree=degree, form=form), lif
    a, b = (lnm.interpret(n, x, grad_out=grad) for n in neurons)
    np.testing.assert_array_equal(a.out, b.out)
    close(a.states["v"], b.states["v"])
    close(a.grads["x"], b.grads["x"])


def test_forms_of_lnm() -> None:
    """v + f(v) + x is f'(v) + x with theta_1' = theta_1 + 1; form B is f(v + x)."""
    x, grad = inputs(4, (4, 2, 3))
    theta = RNG(5).normal(0, 0.1, 4)
    shifted = theta + np.eye(1, 4, 1)[0]
    a = lnm.interpret(lnm.get("lnm", degree=3), x, grad_out=grad, theta=shifted)
    c = lnm.interpret(lnm.get("lnm", degree=3, form="C"), x, grad_out=grad, theta=theta)
    np.testing.assert_array_equal(a.out, c.out)
    for name in a.grads:
        close(a.grads[name], c.grads[name])
    neuron = lnm.get("lnm", degree=3, form="B", v_threshold=100.0)
    found = lnm.interpret(neuron, x[:1], theta=theta).states["v"]
    close(found, np.polynomial.polynomial.polyval(x[0], theta))


def test_theta_0_may_be_left_out() -> None:
    """learn_theta_0=False is theta_0 = 0; theta then holds the others."""
    x, grad = inputs(7, (4, 2, 3))
    whole = lnm.interpret(lnm.get("lnm", degree=3), x, grad_out=grad, theta=[0, 0.5, 0.2, -0.1])
    neuron = lnm.get("lnm", degree=3, learn_theta_0=False)
    assert (neuron.params[0].size, neuron.params[0].init) == (3, (0.5, 0.0, 0.0))
    part = lnm.interpret(neuron, x, grad_out=grad, theta=[0.5, 0.2, -0.1])
    np.testing.assert_array_equal(whole.out, part.out)
    close(whole.grads["theta"][1:], part.grads["theta"])


@pytest.mark.parametrize("v_reset", [0.0, None])
def test_v_min_clamps_the_charged_potential(v_reset: float | None) -> None:
    """h = where(h < v_min, v_min, h): below it the gradient stops, above nothing changes."""
    free = lnm.get("lnm", degree=1, v_reset=v_reset)
    held = lnm.get("lnm", degree=1, v_reset=v_reset, v_min=-2.0)
    low, mid = np.full((1, 1), -5.0), np.full((1, 1), -1.5)
    ends = {"v": np.ones(1)}
    result = lnm.interpret(held, low, grad_state=ends)
    assert (result.states["v"], result.grads["x"]) == (-2.0, 0.0)
    result, other = (lnm.interpret(n, mid, grad_state=ends) for n in (held, free))
    np.testing.assert_array_equal(result.states["v"], other.states["v"])
    np.testing.assert_array_equal(result.grads["x"], other.grads["x"])


def test_v_min_stops_a_cubic_from_running_away() -> None:
    """An odd polynomial with a positive leading coefficient runs to -inf without the clamp."""
    theta, x = [0.05, 0.6, -0.10, 0.15], np.full((40, 1), -1.5)
    args = {"theta": theta, "state": {"v": [-2.0]}}
    assert not np.isfinite(lnm.interpret(lnm.get("lnm", degree=3), x, **args).states["v"]).all()
    held = lnm.interpret(lnm.get("lnm", degree=3, v_min=-2.0), x, **args)
    assert held.states["v"] == -2.0


@pytest.mark.parametrize("v_reset", [0.0, -0.1, None])
def test_polynomial_dictionary(v_reset: float | None) -> None:
    """Named models are LNMs: coefficients and input scale of each."""
    x, _ = inputs(8)
    tau, rest, critical, gain = 2.5, 0.1, 0.7, 0.8
    leak, far = {"tau": tau, "v_rest": rest}, {"v_c": critical, "a0": gain}
    for name, given, scaled, theta in (
        ("if", {}, x, (0.0, 1.0)),
        ("lif", {"tau": tau, "v_rest": 0.0}, x / tau, (0.0, 1 - 1 / tau)),
        ("lif", {**leak, "decay_input": False}, x, (rest / tau, 1 - 1 / tau)),
        ("qif", {}, x / 2, (0.0, 0.6, 0.5)),
        ("qif", leak | far, x / tau,
         (gain * rest * critical / tau, 1 - gain * (rest + critical) / tau, gain / tau)),
        ("izhikevich", {"v_rest": 0.0}, x / 2, (0.0, 0.6, 0.5)),
        ("plif", {}, (x + (v_reset or 0)) / 2, (0.0, 0.5)),
    ):  # fmt: skip
        same = lnm.get("lnm", degree=len(theta) - 1, v_reset=v_reset)
        expected = lnm.interpret(same, scaled, theta=theta)
        found = lnm.interpret(lnm.get(name, v_reset=v_reset, **given), x)
        np.testing.assert_array_equal(found.out, expected.out, err_msg=name)
        close(found.states["v"], expected.states["v"])


@pytest.mark.parametrize("decay_input", [True, False])
def test_plif_begins_at_tau_and_is_a_lif(decay_input: bool) -> None:
    """w = -ln(tau - 1): sigmoid(w) = 1/tau; its gradient is that of 1/tau."""
    x, grad = inputs(9)
    lif = lnm.get("lif", tau=3.0, decay_input=decay_input, learn_tau=True)
    plif = lnm.get("plif", tau=3.0, decay_input=decay_input)
    a, b = (lnm.interpret(n, x, grad_out=grad) for n in (lif, plif))
    np.testing.assert_array_equal(a.out, b.out)
    close(a.grads["x"], b.grads["x"])
    leak = 1 / 3.0  # d leak/d tau = -leak**2,  d leak/d w = leak*(1 - leak)
    close(a.grads["tau"] / -(leak**2) * leak * (1 - leak), b.grads["w"])


def test_cuba_lif_without_synapse_is_a_lif() -> None:
    """A current that does not last leaves h = decay*v + x."""
    x, grad = inputs(10)
    cuba = lnm.get("cuba_lif", current_decay=0.0, voltage_decay=0.5, v_threshold=1.0)
    lif = lnm.get("lif", tau=2.0, decay_input=False)
    a, b = (lnm.interpret(n, x, grad_out=grad) for n in (cuba, lif))
    np.testing.assert_array_equal(a.out, b.out)
    close(a.grads["x"], b.grads["x"])


def test_ternary() -> None:
    """The output is the sign where |h| reaches the threshold; then v is 0. It is odd.

    The slope is 1 where |h| <= 1: at h = 0, where the windows of both spikes end, it was 2.
    """
    ternary = lnm.get("ternary")
    result = lnm.interpret(ternary, np.array([[0.5, -0.5, 0.4, -0.4, 2.0, -2.0]]))
    np.testing.assert_array_equal(result.out, [[1, -1, 0, 0, 1, -1]])
    np.testing.assert_array_equal(result.states["v"], [0, 0, 0.4, -0.4, 0, 0])
    x = np.array([[[-1.01, -1.0, -0.5, -0.01, 0.0, 0.01, 0.5, 1.0, 1.01]]])
    grads = lnm.interpret(ternary, x, grad_out=np.ones_like(x)).grads
    np.testing.assert_array_equal(grads["x"][0, 0], [0, 1, 1, 1, 1, 1, 1, 1, 0])
    x, grad = inputs(11)
    a, b = (lnm.interpret(ternary, sign * x, grad_out=grad) for sign in (1, -1))
    np.testing.assert_array_equal(a.out, -b.out)
    close(a.grads["x"], b.grads["x"])


def test_li_is_a_low_pass() -> None:
    """The potential of a constant input goes to the input, or to tau times it."""
    ones = np.ones((60, 1))
    assert lnm.interpret(lnm.get("li", tau=3.0), ones).out[-1, 0] == pytest.approx(1)
    plain = lnm.get("li", tau=3.0, decay_input=False)
    assert lnm.interpret(plain, ones).out[-1, 0] == pytest.approx(3)


@pytest.mark.parametrize("name", ["if", "lif", "plif", "qif", "izhikevich", "cuba_lif", "lnm"])
def test_fires_at_the_threshold(name: str) -> None:
    """h = v_threshold fires (>=), and h just below does not."""
    neuron = lnm.get(name, **({"v_rest": 0.0} if name == "izhikevich" else {}))
    threshold = next(p.init for p in neuron.params if p.name == "v_threshold")
    scale = {"lif": 2, "plif": 2, "qif": 2, "izhikevich": 2}.get(name, 1)
    x = scale * threshold * np.array([[1.0, 1 - 1e-12]])
    state = {s.name: np.zeros(2) for s in neuron.states}
    assert lnm.interpret(neuron, x, state=state).out.tolist() == [[1.0, 0.0]]


@pytest.mark.parametrize("name", ["lnm", "qif"])
def test_both_clamps(name: str) -> None:
    """Under a soft reset v_max = 2 V leaves at most V after a spike, whatever comes in."""
    arguments = {"theta": (0.1, 0.9, 0.5, 0.4)} if name == "lnm" else {"a0": 3.0}
    neuron = lnm.get(name, v_reset=None, v_min=-2.0, v_max=2.0, **arguments)
    states = lnm.interpret(neuron, RNG(0).normal(0, 5, (20, 2, 64))).states["v"]
    assert states.min() >= -2.0
    assert states.max() <= 1.0
