"""The exact method: matrix exponentials, equal time constants, gradients, refused terms."""

from __future__ import annotations

from typing import Any

import mpmath
import numpy as np
import pytest
import scipy.integrate
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import lnm_codegen as lnm
from tests.refusals import assert_refused

ALPHA = """
    dg/dt = -g/tau_s + I/second : amp
    dh/dt = (g - h)/tau_s : amp
    dv/dt = -v/tau + h/C : volt
"""
"""iaf_psc_alpha between spikes: an alpha-shaped current h, integrated by the membrane."""


def system(a: np.ndarray, b: np.ndarray, words: Any = None) -> str:
    """Return s' = A*s + b*x as a text, or with the names of entries in place of numbers."""
    lines = []
    for i in range(len(a)):
        row = [
            f"({float(e)!r})*s{j}" if words is None else f"a{i}{j}*s{j}" for j, e in enumerate(a[i])
        ]
        lines.append(f"ds{i}/dt = {' + '.join(row)} + ({float(b[i])!r})*x : 1")
    return "\n".join(lines)


def steps(neuron: lnm.Neuron, start: np.ndarray, x: np.ndarray, **params: Any) -> np.ndarray:
    """Return the states after every step, (T, n)."""
    state = {f"s{i}": np.array([s]) for i, s in enumerate(start)}
    result = lnm.interpret(neuron, x[:, None], state=state, **params)
    after = [np.append(result.trajectory[k][1:, 0], result.states[k]) for k in state]
    return np.stack(after, 1)


def expected(a: np.ndarray, b: np.ndarray, start: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Return the same by mpmath's exponential of the matrix with b as a further column.

    It has 30 digits: the rounding of SciPy's can be 10,000 times that of the neuron.
    """
    n = len(a)
    found, now = [], mpmath.matrix(start)
    with mpmath.workdps(30):
        for value in x:
            matrix = mpmath.matrix(n + 1, n + 1)
            matrix[:n, :n], matrix[:n, n] = mpmath.matrix(a), mpmath.matrix(b * value)
            now = (mpmath.expm(matrix) * mpmath.matrix([*now, 1]))[:n, 0]
            found.append([float(s) for s in now])
    return np.array(found)


@st.composite
def linear_systems(draw: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return a matrix of any structure, with equal and zero rates among them, and a drive."""
    n = draw(st.integers(1, 4))
    rates = st.sampled_from([0.0, -0.5, -0.5, 0.3, -1.0, 2.0, 0.01, -8.0])
    entries = st.one_of(rates, st.floats(-3, 3).map(lambda e: round(e, 4)))
    a = np.array([[draw(entries) for _ in range(n)] for _ in range(n)])
    if draw(st.booleans()):
        a = np.tril(a)
    return a, np.array([1.0, *(draw(st.sampled_from([0.0, 1.0, -0.4])) for _ in range(n - 1))])


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(linear_systems())
def test_random_linear_systems_are_those_of_mpmath(case: tuple[np.ndarray, np.ndarray]) -> None:
    """Two steps with different inputs, to rounding."""
    a, b = case
    start, x = np.linspace(-1, 1, len(a)) + 0.3, np.array([0.7, -1.1])
    neuron = lnm.ode(system(a, b), dt=1, method="exact")
    wanted = expected(a, b, start, x)
    scale = np.exp(2 * np.linalg.norm(a, 2)) * 3
    np.testing.assert_allclose(steps(neuron, start, x), wanted, rtol=0, atol=1e-13 * scale)


@settings(max_examples=60, deadline=None)
@given(linear_systems())
@pytest.mark.slow
def test_matrices_of_parameters_are_those_of_mpmath(case: tuple[np.ndarray, np.ndarray]) -> None:
    """The entries are learnable; half of their initial values is as good as the values."""
    a, b = case
    values = {f"a{i}{j}": float(e) for i, row in enumerate(a) for j, e in enumerate(row)}
    neuron = lnm.ode(
        system(a, b, "named"), parameters=values, dt=1, method="exact", learnable=values
    )
    start, x = np.linspace(-1, 1, len(a)) + 0.3, np.array([0.7, -1.1])
    scale = np.exp(2 * np.linalg.norm(a, 2)) * 3
    for factor in (1.0, 0.5, 1.5):
        wanted = expected(factor * a, b, start, x)
        got = steps(neuron, start, x, **{k: factor * v for k, v in values.items()})
        np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-13 * scale**factor)


def alpha(tau_s: float = 2, tau: float = 2, dt: str = "0.5*ms", **more: Any) -> lnm.Neuron:
    values = {"tau_s": f"{tau_s}*ms", "tau": f"{tau}*ms", "C": "250*pF"}
    return lnm.ode(ALPHA, parameters=values, dt=dt, method="exact", **more)


def test_iaf_psc_alpha_is_that_of_solve_ivp() -> None:
    """Three equal time constants are a removable singularity, and no special case here."""
    x = np.random.default_rng(0).random(8) * 1e-6 / 1e-3
    result = lnm.interpret(alpha(), x[:, None])

    def rates(t: float, s: np.ndarray) -> list[float]:
        now = x[min(int(t / 5e-4), 7)]
        return [-s[0] / 2e-3 + now, (s[0] - s[1]) / 2e-3, -s[2] / 2e-3 + s[1] / 2.5e-10]

    now = np.zeros(3)
    for k in range(8):
        span = (k * 5e-4 + 1e-12, (k + 1) * 5e-4 - 1e-12)
        found = scipy.integrate.solve_ivp(rates, span, now, rtol=1e-10, atol=1e-18, method="DOP853")
        now = found.y[:, -1]
    np.testing.assert_allclose([result.states[s][0] for s in "ghv"], now, rtol=1e-7)


def test_gradients_of_equal_time_constants() -> None:
    """Learnable under the exact method: the gradient at tau = tau_s is that of differences."""
    words = ["tau", "tau_s"]
    neuron = alpha(learnable=words)
    assert [p.name for p in neuron.params if p.learnable] == ["tau_s", "tau"]
    x = np.random.default_rng(1).random((8, 1))
    grads = lnm.interpret(neuron, x, grad_state={"v": np.ones(1)}).grads
    for word in words:
        moved = [lnm.interpret(neuron, x, **{word: 2e-3 + d}).states["v"][0] for d in (1e-8, -1e-8)]
        assert grads[word] == pytest.approx((moved[0] - moved[1]) / 2e-8, rel=1e-6)


def test_the_exponential_is_prepared_once_per_call() -> None:
    """A step of the membrane is three products; its coefficients are in `prepare`."""
    program = lnm.lower(alpha(tau=5))
    assert len(program.forward.body) < 10
    assert len(program.prepare.body) > 50


@pytest.mark.slow
def test_learned_rates_may_grow_thirtyfold() -> None:
    """The number of doublings follows from the initial values, with a margin of 32."""
    x = np.random.default_rng(2).random((6, 1))
    wanted = lnm.interpret(alpha(0.07, 0.17, "2*ms"), x).states
    got = lnm.interpret(alpha(2, 5, "2*ms"), x, tau_s=7e-5, tau=1.7e-4).states
    for name in "ghv":
        np.testing.assert_allclose(got[name], wanted[name], rtol=1e-12)


def test_a_rate_of_zero_and_a_state_without_a_drive() -> None:
    """A rate of exactly 0 is no division by 0."""
    neuron = lnm.ode(
        "dv/dt = a*v + x : 1\ndw/dt = b*w : 1", parameters={"a": 0, "b": -1}, dt=2, method="exact"
    )
    result = lnm.interpret(neuron, np.ones((1, 1)), state={"w": np.ones(1)}, grad_out=1.0)
    assert result.out[0, 0] == 2
    assert result.grads["a"] == pytest.approx(2.0)  # dt**2/2
    assert result.states["w"][0] == pytest.approx(np.exp(-2))


INSTEAD = "Use method='rk4', or 'exponential_euler'."


def exact(text: str) -> lnm.Neuron:
    return lnm.ode(text, parameters={"tau": 5}, dt=1, method="exact")


REFUSALS = """
ode: dv/dt with method='exact' >> >> INSTEAD
    exact("dv/dt = -v**2/tau : 1") >> the term 'v**2' is not linear in v
    exact("dv/dt = v*w/tau : 1\\ndw/dt = -w/tau : 1") >> the term 'v*w/tau' is not linear in v, w
    exact("dv/dt = a/tau : 1\\na = exp(v) : 1") >> the term 'exp(v)' is not linear in v
    exact("dv/dt = where(v > 0, -v, v)/tau : 1")
        >> the term 'where(v > 0, -v, v)' is not linear in v >> >> INSTEAD
    exact("dv/dt = 1/(v*tau) : 1") >> the term '1/v' is not linear in v
ode: method='exact' >> >> INSTEAD
    exact("dv/dt = x*w/tau : 1\\ndw/dt = -w : 1") >> reads the input 'x'
    exact("\\n".join(f"ds{i}/dt = s{(i + 1) % 30}/tau : 1" for i in range(30)))
        >> 30 states are coupled >> at most 24
    exact(system(np.ones((6, 6)), np.ones(6)) + "\\nds9/dt = s9/tau : 1")
        >> 6 coupled states >> fewer states
"""


def test_refusals() -> None:
    """A nonlinear term is named, also of a subexpression; the matrix has bounds."""
    assert_refused(REFUSALS, globals())


def test_a_linear_equation_in_disguise() -> None:
    """Sums, subexpressions and conditions on inputs are linear."""
    text = "dv/dt = (J - v)/tau : 1\nJ = 2*(K + x) : 1\nK = where(x > 0, v, 3*v)/4 : 1"
    out = lnm.interpret(exact(text), np.array([[1.0], [-1.0]])).out[:, 0]
    first = 4 * (1 - np.exp(-0.1))
    assert out[0] == pytest.approx(first)
    assert out[1] == pytest.approx((first - 4) * np.exp(0.1) + 4, abs=1e-15)
