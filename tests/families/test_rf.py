"""`rf` against a transcription of arXiv 2402.14603, in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import lnm_codegen as lnm
from tests.refusals import refused
from tests.transcription import Spike, check, drawn

DT = 0.05


def step(x: Any, state: Any, p: Any) -> Any:
    """Equations of the RF neuron, with its complex potential u + iv as two real numbers."""
    u, v, b, omega = state["v"], state["w"], -p["b_offset"].abs(), p["omega"].abs()
    u_new = u + b * u * DT - omega * v * DT + x * DT
    v_new = v + omega * u * DT + b * v * DT
    return Spike.apply(u_new - p["v_threshold"]), {"v": u_new, "w": v_new}


@pytest.mark.parametrize("per", ["layer", "channel", "neuron", {"omega": "neuron"}])
@pytest.mark.parametrize("sign", [1, -1])
def test_rf_is_that_of_its_paper(per: Any, sign: int) -> None:
    """Spikes, states and gradients; the sign of a parameter does not matter."""
    neuron = lnm.get(
        "rf", omega=sign * 7.0, b_offset=sign * 0.5, dt=DT, v_threshold=0.4, per=per
    )  # fmt: skip
    for seed in range(3):
        a = drawn(neuron, np.random.default_rng(seed), (20, 2, 3, 4))
        assert 0.1 < check(neuron, step, a).mean() < 0.9


def test_rf_is_a_point_of_lnm_with_two_states() -> None:
    """Below the threshold: theta_v = (1 - dt*b, -dt*omega), theta_w = (dt*omega, 1 - dt*b)."""
    turn, kept = DT * 6.0, 1 - DT * 0.5
    x = np.random.default_rng(0).normal(size=(30, 2, 5))
    own = lnm.get("rf", omega=6.0, b_offset=0.5, dt=DT, v_threshold=100.0)
    other = lnm.get(
        "lnm", states=2, degree=1, theta_v=(kept, -turn), theta_w=(turn, kept), v_threshold=100.0
    )
    a, b = lnm.interpret(own, x, grad_out=0.0), lnm.interpret(other, DT * x, grad_out=0.0)
    for name in ("v", "w"):
        np.testing.assert_allclose(a.states[name], b.states[name], rtol=1e-12, atol=1e-13)


def test_a_layer_draws_omega_and_b_offset() -> None:
    """Within their ranges; equal ranges are drawn apart. Without a layer the middle counts."""
    neuron = lnm.get("rf", omega=(2.0, 4.0), b_offset=(2.0, 4.0), per="channel")
    assert [p.init for p in neuron.params[:2]] == [3.0, 3.0]
    layer = lnm.nn.NeuronLayer(neuron, channels=500, backend="torch", dtype=torch.float64)
    for value in (layer.omega, layer.b_offset):
        assert 2.0 <= value.min() < 2.1
        assert 3.9 < value.max() <= 4.0
    assert not torch.equal(layer.omega, layer.b_offset)
    assert not any(p.learnable for p in lnm.get("rf", learnable=False).params)


@pytest.mark.parametrize(
    "row",
    [
        ({"dt": 0.0}, "dt is 0.0", "a number > 0"),
        ({"omega": "fast"}, "omega is 'fast'", "a finite number, or (low, high) with low < high"),
        ({"omega": (2.0, 1.0)}, "omega is (2.0, 1.0)", "(low, high) with low < high"),
        ({"b_offset": None}, "b_offset is None", "a finite number, or (low, high)"),
    ],
)
def test_mistakes(row: tuple[Any, ...]) -> None:
    arguments, *parts = row
    with refused(lnm.ModelError, "rf", *parts):
        lnm.get("rf", **arguments)
