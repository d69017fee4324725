"""`brf` against a transcription of arXiv 2402.14603, in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import lnm_codegen as lnm
from tests.refusals import refused
from tests.transcription import Spike, check, drawn

DT = 0.05


def step_of(detach: bool = False) -> Any:
    """Return the equations of the BRF neuron, with its potential u + iv as two real numbers."""

    def step(x: Any, state: Any, p: Any) -> Any:
        u, v, q, omega = state["v"], state["w"], state["q"], p["omega"].abs()
        boundary = (-1 + (1 - (DT * omega) ** 2).sqrt()) / DT
        b = boundary - p["b_offset"].abs() - q
        u_new = u + b * u * DT - omega * v * DT + x * DT
        v_new = v + omega * u * DT + b * v * DT
        z = Spike.apply(u_new - p["v_threshold"] - q)
        return z, {"v": u_new, "w": v_new, "q": p["gamma"] * q + (z.detach() if detach else z)}

    return step


@pytest.mark.parametrize("per", ["layer", "channel", "neuron", {"b_offset": "channel"}])
@pytest.mark.parametrize("detach", [False, True])
def test_brf_is_that_of_its_paper(per: Any, detach: bool) -> None:
    """Spikes, three states and gradients, also of the spike in q, or with that detached."""
    neuron = lnm.get(
        "brf", omega=-7.0, b_offset=0.5, dt=DT, v_threshold=0.1, per=per, detach_reset=detach
    )
    for seed in range(3):
        a = drawn(neuron, np.random.default_rng(seed), (20, 2, 3, 4))
        a.x_seq, a.state["q"] = (20 * a.x_seq[0],), np.abs(a.state["q"])
        assert 0.05 < check(neuron, step_of(detach), a).mean() < 0.9


def test_at_the_boundary_the_potential_keeps_its_modulus() -> None:
    """Without offset, input and spikes |v + iw| is constant; with an offset it falls."""
    start = {"v": np.array([0.6]), "w": np.array([-0.3]), "q": np.array([0.0])}
    for offset, change in ((0.0, 0.0), (0.5, -1.0)):
        neuron = lnm.get("brf", omega=8.0, b_offset=offset, v_threshold=10.0)
        result = lnm.interpret(neuron, np.zeros((500, 1)), state=start)
        moduli = np.hypot(result.trajectory["v"], result.trajectory["w"])
        assert np.sign(np.round(np.diff(moduli[:, 0]), 12)).tolist() == [change] * 499


@pytest.mark.parametrize(
    "row",
    [
        ({"dt": -0.1}, "dt is -0.1", "a number > 0"),
        ({"gamma": 1.5}, "gamma is 1.5", "a number >= 0 and <= 1"),
        ({"dt": 0.1, "omega": 10.5}, "omega is 10.5", "a number >= -10 and <= 10"),
        ({"dt": 0.1, "omega": (5.0, 11.0)}, "omega is 11.0", "a number >= -10 and <= 10"),
    ],
)
def test_mistakes(row: tuple[Any, ...]) -> None:
    arguments, *parts = row
    with refused(lnm.ModelError, "brf", *parts):
        lnm.get("brf", **arguments)
