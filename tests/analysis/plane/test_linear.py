"""Matrix of two states: against steps of `interpret` without input and spike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import lnm_codegen as lnm
from lnm_codegen.analysis.linear.affine import linear_part
from lnm_codegen.analysis.linear.step import StepMap
from tests.cases import fitzhugh
from tests.two_states import matrix_neuron


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
