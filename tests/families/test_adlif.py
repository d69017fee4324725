"""`adlif` against a transcription of arXiv 2408.07517, in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import lnm_codegen as lnm
from tests.refusals import refused
from tests.transcription import Spike, check, drawn

GIVEN = {"tau_v": 6.0, "tau_w": 20.0, "a": 0.4, "b": 0.9, "q": 12.0, "v_threshold": 0.3}


def step_of(detach: bool = False) -> Any:
    """Return the equations of SE-adLIF: the reset comes first, then w with the new potential.

    With `detach` the reset has no gradient; the jump of w keeps its own, as in the authors' code.
    """

    def step(x: Any, state: Any, p: Any) -> Any:
        alpha = (-1 / p["tau_v"].clamp(min=1)).exp()
        beta = (-1 / p["tau_w"].clamp(min=1)).exp()
        a, b = p["q"] * p["a"].clamp(0, 1), p["q"] * p["b"].clamp(0, 2)
        u = alpha * state["v"] + (1 - alpha) * (x - state["w"])
        z = Spike.apply(u - p["v_threshold"])
        kept = z.detach() if detach else z
        u = u * (1 - kept)
        return z, {"v": u, "w": beta * state["w"] + (1 - beta) * (a * u + b * z)}

    return step


@pytest.mark.parametrize("per", ["layer", "channel", "neuron", {"a": "neuron", "tau_w": "channel"}])
@pytest.mark.parametrize("detach", [False, True])
def test_adlif_is_that_of_its_paper(per: Any, detach: bool) -> None:
    """Spikes, both states and gradients, also of the spike in the reset of v, or detached there."""
    neuron = lnm.get("adlif", per=per, detach_reset=detach, **GIVEN)
    for seed in range(3):
        a = drawn(neuron, np.random.default_rng(seed), (30, 2, 3, 4))
        a.x_seq = (3 * a.x_seq[0] + 1,)
        assert 0.05 < check(neuron, step_of(detach), a).mean() < 0.9


def test_a_detached_neuron_keeps_no_gradient_of_a_spike() -> None:
    """`detach_reset` of the family leaves that of the jump of w; the neuron's method takes both."""
    x = np.random.default_rng(1).normal(1.0, 2.0, (30, 2, 4))
    found = []
    for neuron in (lnm.get("adlif", detach_reset=True, **GIVEN), lnm.get("adlif", **GIVEN)):
        result = lnm.interpret(neuron.with_detach_reset(True), x, grad_out=1.0)
        assert result.out.any()
        found.append(result.grads)
    for name, value in found[0].items():
        np.testing.assert_array_equal(value, found[1][name], err_msg=name)
    jump = lnm.interpret(lnm.get("adlif", detach_reset=True, **GIVEN), x, grad_out=1.0).grads
    assert not np.allclose(jump["x"], found[0]["x"])


def test_values_out_of_bounds_count_as_the_bound() -> None:
    """tau below 1, a outside [0, 1] and b outside [0, 2], and their gradients are 0."""
    neuron = lnm.get("adlif", per="channel", **GIVEN)
    a = drawn(neuron, np.random.default_rng(0), (12, 2, 3))
    a.params |= {
        "tau_v": np.array([0.5, 4.0, -3.0]), "tau_w": np.array([5.0, 0.1, 30.0]),
        "a": np.array([-0.1, 1.5, 0.5]), "b": np.array([2.5, -0.5, 1.0]),
    }  # fmt: skip
    check(neuron, step_of(), a)
    grads = a.interpret(neuron).grads
    for name, outside in (("tau_v", [0, 2]), ("tau_w", [1]), ("a", [0, 1]), ("b", [0, 1])):
        assert not grads[name][outside].any()


def test_the_defaults_are_those_of_the_authors() -> None:
    """Their configurations for SHD, SSC and ECG agree; without a layer the middle counts."""
    found = {p.name: p.init for p in lnm.get("adlif").params}
    assert found == {
        "tau_v": 15.0, "tau_w": 180.0, "a": 0.5, "b": 1.0, "q": 120.0, "v_threshold": 1.0,
    }  # fmt: skip
    layer = lnm.nn.NeuronLayer(lnm.get("adlif", per="channel"), channels=400, backend="torch")
    for name, (low, high) in {
        "tau_v": (5, 25),
        "tau_w": (60, 300),
        "a": (0, 1),
        "b": (0, 2),
    }.items():
        value = getattr(layer, name)
        assert low <= value.min() < low + (high - low) / 10
        assert high - (high - low) / 10 < value.max() <= high


@pytest.mark.parametrize(
    "row",
    [
        ({"tau_v": 0.5}, "tau_v is 0.5", "a number >= 1"),
        ({"a": (0.0, 1.5)}, "a is 1.5", "a number >= 0 and <= 1"),
        ({"b": -1}, "b is -1", "a number >= 0 and <= 2"),
        ({"q": 0}, "q is 0", "a number > 0"),
        ({"detach_reset": 1}, "detach_reset is 1", "True, False"),
    ],
)
def test_mistakes(row: tuple[Any, ...]) -> None:
    arguments, *parts = row
    with refused(lnm.ModelError, "adlif", *parts):
        lnm.get("adlif", **arguments)
