"""Integration methods: formulas of one step, order of convergence, sub-steps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import lnm_codegen as lnm
from tests.refusals import assert_refused, refused

LOGISTIC = "dv/dt = v*(1 - v) : 1"


def after(text: str, method: Any, dt: float, start: float, steps: int = 1, **more: Any) -> float:
    """Return v after some steps from a start."""
    neuron = lnm.ode(text, dt=dt, method=method, **more)
    x = np.zeros((steps, 1))
    return float(lnm.interpret(neuron, x, state={"v": np.array([start])}).states["v"][0])


def test_one_step_of_each_method() -> None:
    """Against the formulas, written out by hand."""
    v, dt = 0.3, 0.5

    def f(v: float) -> float:
        return v * (1 - v)

    assert after(LOGISTIC, "euler", dt, v) == pytest.approx(v + dt * f(v), rel=1e-14)
    middle = v + dt / 2 * f(v)
    assert after(LOGISTIC, "rk2", dt, v) == pytest.approx(v + dt * f(middle), rel=1e-14)
    k1 = f(v)
    k2 = f(v + dt / 2 * k1)
    k3 = f(v + dt / 2 * k2)
    k4 = f(v + dt * k3)
    wanted = v + dt * (k1 + 2 * k2 + 2 * k3 + k4) / 6
    assert after(LOGISTIC, "rk4", dt, v) == pytest.approx(wanted, rel=1e-14)


@pytest.mark.parametrize(("method", "order"), [("euler", 1), ("rk2", 2), ("rk4", 4)])
def test_order_of_convergence(method: str, order: int) -> None:
    """Half the step divides the error by 2**order, in steps and in sub-steps alike."""
    true = 1 / (1 + (1 / 0.3 - 1) * np.exp(-2.0))
    coarse, fine = (abs(after(LOGISTIC, method, 2 / n, 0.3, n) - true) for n in (8, 16))
    assert coarse / fine == pytest.approx(2**order, rel=0.15)
    inside = abs(after(LOGISTIC, method, 0.25, 0.3, 8, substeps=2) - true)
    assert inside == pytest.approx(fine, rel=1e-6)


@pytest.mark.parametrize("b", [-2.0, -1e-3, -1e-9, 0.0, 0.7])
def test_exponential_euler_is_exact_for_one_linear_state(b: float) -> None:
    """Also where the rate is 0; the gradient there is finite."""
    neuron = lnm.ode("dv/dt = a + b*v : 1", parameters={"a": 1.5, "b": b}, dt=0.5,
                     method="exponential_euler", learnable=["b"])  # fmt: skip
    result = lnm.interpret(neuron, np.zeros((1, 1)), state={"v": np.array([0.3])}, grad_out=1.0)
    z = b * 0.5
    exprel = np.expm1(z) / z if z else 1.0
    assert result.out[0, 0] == pytest.approx(0.3 + 0.5 * (1.5 + b * 0.3) * exprel, rel=1e-15)
    slope = (np.exp(z) - exprel) / z if abs(z) > 1e-4 else 0.5 + z / 3
    wanted = 0.5 * (0.3 * exprel + (1.5 + b * 0.3) * slope * 0.5)
    assert result.grads["b"] == pytest.approx(wanted, rel=1e-9)


def test_a_held_subexpression_keeps_its_value_within_a_step() -> None:
    """(constant over dt) makes rk4 a step of Euler's method in that term."""
    text = "dv/dt = -J : 1\nJ = v : 1 (constant over dt)"
    assert after(text, "rk4", 0.5, 1.0) == pytest.approx(0.5, rel=1e-15)
    assert after(text, "rk4", 0.5, 1.0, substeps=4) == pytest.approx(0.5, rel=1e-15)
    assert after(text, "exponential_euler", 0.5, 1.0) == pytest.approx(0.5, rel=1e-15)
    assert after(text.replace(" (constant over dt)", ""), "rk4", 0.5, 1.0) > 0.6


HELD = "dv/dt = x - v : 1\nJ = v : 1 (constant over dt)\ntwice = 2*J : 1"
INSTEAD = "Use method='rk4', or 'euler'."


def stepped(text: str, method: Any = "exponential_euler", **more: Any) -> lnm.Neuron:
    return lnm.ode(text, dt=1, method=method, **more)


REFUSALS = """
ode: threshold
    stepped(HELD, "euler", threshold="v > J + 0.5") >> it reads 'J', which is constant over dt
    stepped(HELD, "euler", threshold="v > twice") >> it reads 'J', which is constant over dt
?
    stepped(HELD, "euler", threshold="v > 1", reset="v = J")
        >> ode: reset of v: it reads 'J', which is constant over dt
    stepped(HELD, "euler", threshold="v > 1", refractory="v > J")
        >> ode: refractory: it reads 'J', which is constant over dt
ode: dv/dt with method='exponential_euler' >> >> INSTEAD
    stepped("dv/dt = exp(v) : 1") >> the term 'exp(v)' is not linear in v
    stepped("dv/dt = v*J : 1\\nJ = 2*v : 1") >> the term 'J*v' is not
"""


def test_refusals() -> None:
    """After the charge, the states at the start of the step are gone; a nonlinear term is named."""
    assert_refused(REFUSALS, globals())


def test_the_largest_number_of_sub_steps_is_named() -> None:
    """Each binds 20 values here, and the threshold one more."""
    text = "dv/dt = a - v : 1\ndw/dt = v - w : 1\na = x*v : 1"
    given: dict[str, Any] = {"dt": 0.1, "method": "rk4", "threshold": "a > 1"}
    for count, total in ((50, 1001), (200, 4001)):
        problem = f"{count} substeps need {total} bound values"
        with refused(lnm.ModelError, "ode: substeps", problem, "at most 1000", "substeps=49"):
            lnm.ode(text, substeps=count, **given)
    assert len(lnm.ode(text, substeps=49, **given).bindings) == 981


def test_states_may_have_the_names_of_arguments() -> None:
    """`k` and `step` are arguments of lnm.substeps."""
    assert len(lnm.ode("dk/dt = -k_at : 1\ndk_at/dt = k : 1", dt=0.1, substeps=2).states) == 2
    text = "dk/dt = -k + x : 1\ndstep/dt = k - step : 1"
    assert len(lnm.ode(text, dt=0.1, substeps=2).states) == 2


def test_exprel_and_its_kin_are_accurate_near_zero() -> None:
    """In float64 to 1e-15, also in float32 to its precision."""
    text = "dv/dt = exprel(x) - v : 1\ndw/dt = expm1(x) - w : 1\nds/dt = sinh(x) - s : 1"
    neuron = lnm.ode(text, dt=1)
    x = np.concatenate([[0.0], 10.0 ** np.arange(-9, 1.5, 0.5), -(10.0 ** np.arange(-9, 1.5, 0.5))])
    for dtype, tolerance in (("float64", 2e-15), ("float32", 1e-6)):
        kind = np.dtype(dtype)
        states = lnm.interpret(neuron, x[None].astype(kind), dtype=dtype).states
        x64 = x.astype(kind).astype(float)
        wanted = np.where(x64 == 0, 1, np.expm1(x64) / np.where(x64 == 0, 1, x64))
        np.testing.assert_allclose(states["v"], wanted, rtol=tolerance)
        np.testing.assert_allclose(states["w"], np.expm1(x64), rtol=tolerance)
        np.testing.assert_allclose(states["s"], np.sinh(x64), rtol=tolerance)
