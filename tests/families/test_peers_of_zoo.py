"""Families against SpikingJelly's, snnTorch's and Norse's neurons, in float64.

Inputs are random, so that no potential is equal to a threshold: snnTorch and Norse fire at >.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import lnm_codegen as lnm

pytestmark = pytest.mark.peers

SHAPE = (24, 3, 5)


def draw(scale: float = 1.0, shift: float = 0.4, shape: tuple[int, ...] = SHAPE) -> Any:
    """Return inputs, and gradients of the outputs."""
    rng = np.random.default_rng(7)
    return scale * rng.normal(shift, 1.0, shape), rng.normal(size=shape)


def agree(
    neuron: lnm.Neuron,
    x: np.ndarray,
    grad: np.ndarray,
    step: Callable[[Tensor, Any], tuple[Tensor, Any]],
    states: Callable[[Any], dict[str, Tensor]],
    start: Any = None,
    leaves: dict[str, Tensor] | None = None,
    **given: Any,
) -> np.ndarray:
    """Assert equal outputs, close final states and gradients, and return the outputs.

    Args:
        neuron: Ours.
        x: Inputs (T, N, C).
        grad: Gradients of the outputs.
        step: (x of a step, state) -> (output, state), theirs.
        states: Their last state -> ours by name.
        start: Their first state.
        leaves: Our parameter -> theirs, whose gradients are compared.
        **given: Parameters and states of ours.
    """
    leaf, state, out = torch.tensor(x, requires_grad=True), start, []
    for now in leaf:
        spikes, state = step(now, state)
        out.append(spikes)
    torch.stack(out).backward(torch.tensor(grad))
    expected = torch.stack(out).detach().numpy()
    result = lnm.interpret(neuron, x, grad_out=grad, **given)
    np.testing.assert_array_equal(result.out, expected)
    assert 0.02 < (expected > 0).mean() < 0.98
    for name, value in states(state).items():
        np.testing.assert_allclose(result.states[name], value.detach().numpy(), 1e-10, 1e-10, name)
    for name, other in {"x": leaf, **(leaves or {})}.items():
        theirs = other.grad.numpy()
        assert np.abs(theirs).max() > 0
        close = 1e-8 * np.abs(theirs).max()
        np.testing.assert_allclose(result.grads[name], theirs, 1e-8, close, err_msg=name)
    return expected


def jelly(kind: str, *args: Any, **kwargs: Any) -> Any:
    """Return a node of SpikingJelly in float64, reset, with the slope of our default."""
    pytest.importorskip("spikingjelly", reason="spikingjelly is not installed")
    from spikingjelly.activation_based import functional, neuron, surrogate

    if not hasattr(neuron, kind):
        pytest.skip(f"this spikingjelly has no {kind}")
    if kind != "ILIFNode":
        kwargs["surrogate_function"] = surrogate.ATan(2.0)
    node = getattr(neuron, kind)(*args, **kwargs).double()
    functional.reset_net(node)
    return node


def with_node(node: Any, names: dict[str, str]) -> dict[str, Any]:
    """Return `step` and `states` of `agree` for a node; `names` has our state -> theirs."""
    return {
        "step": lambda x, _: (node(x), None),
        "states": lambda _: {ours: getattr(node, theirs) for ours, theirs in names.items()},
    }


@pytest.mark.parametrize("detach_reset", [False, True])
@pytest.mark.parametrize("v_reset", [0.0, -0.2, None])
class TestSpikingJelly:
    """Hard and soft resets, with the spike in them differentiated and detached."""

    @pytest.mark.parametrize("scale_reset", [False, True])
    @pytest.mark.parametrize("decay_input", [False, True])
    def test_klif(
        self, v_reset: Any, detach_reset: bool, decay_input: bool, scale_reset: bool
    ) -> None:
        """KLIFNode, and the gradient of its k."""
        node = jelly(
            "KLIFNode", scale_reset=scale_reset, tau=1.7, decay_input=decay_input,
            v_threshold=0.8, v_reset=v_reset, detach_reset=detach_reset,
        )  # fmt: skip
        with torch.no_grad():
            node.k.fill_(1.25)
        neuron = lnm.get(
            "klif", k=1.25, scale_reset=scale_reset, tau=1.7, decay_input=decay_input,
            v_threshold=0.8, v_reset=v_reset,
        ).with_detach_reset(detach_reset)  # fmt: skip
        agree(neuron, *draw(1.5), **with_node(node, {"v": "v"}), leaves={"k": node.k})

    def test_eif(self, v_reset: Any, detach_reset: bool) -> None:
        """EIFNode."""
        given = {"tau": 2.5, "delta_T": 0.7, "theta_rh": 0.75, "v_threshold": 0.9, "v_rest": 0.1}
        node = jelly("EIFNode", **given, v_reset=v_reset, detach_reset=detach_reset)
        neuron = lnm.get("eif", **given, v_reset=v_reset).with_detach_reset(detach_reset)
        agree(neuron, *draw(0.7, 0.3), **with_node(node, {"v": "v"}))


def test_clif_is_that_of_spikingjelly() -> None:
    """ComplementaryLIFNode: both potentials and the gradient through the spike in the reset."""
    node = jelly("ComplementaryLIFNode", tau=2.5, v_threshold=0.8)
    neuron = lnm.get("clif", tau=2.5, v_threshold=0.8)
    agree(neuron, *draw(), **with_node(node, {"v": "v", "m": "m"}))


@pytest.mark.parametrize("detach_reset", [False, True])
@pytest.mark.parametrize("max_count", [1, 4, 7])
def test_i_lif_is_that_of_spikingjelly(max_count: int, detach_reset: bool) -> None:
    """ILIFNode with its default surrogate, the straight-through slope in [0, max_count]."""
    pytest.importorskip("spikingjelly", reason="spikingjelly is not installed")
    from spikingjelly.activation_based import surrogate

    if not hasattr(surrogate, "MultiLevelSpikeCount"):
        pytest.skip("this spikingjelly has no MultiLevelSpikeCount")
    node = jelly(
        "ILIFNode", tau=1.6, v_threshold=0.5, detach_reset=detach_reset,
        surrogate_function=surrogate.MultiLevelSpikeCount(max_count),
    )  # fmt: skip
    neuron = lnm.get(
        "i_lif", tau=1.6, v_threshold=0.5, max_count=max_count, detach_reset=detach_reset
    )
    counts = agree(neuron, *draw(1.5), **with_node(node, {"v": "v"}))
    assert set(np.unique(counts)) == set(range(max_count + 1))


@pytest.mark.parametrize("name", ["klif", "eif", "clif", "i_lif"])
def test_defaults_are_those_of_spikingjelly(name: str) -> None:
    """A family without arguments has the spikes of the node without arguments."""
    kinds = {"klif": "KLIFNode", "eif": "EIFNode", "clif": "ComplementaryLIFNode"}
    node = jelly(kinds.get(name, "ILIFNode"))
    x, _ = draw(1.5)
    spikes = torch.stack([node(now) for now in torch.tensor(x)]).detach().numpy()
    np.testing.assert_array_equal(lnm.interpret(lnm.get(name), x).out, spikes)


def snn(kind: str, *args: Any, **kwargs: Any) -> Any:
    """Return a layer of snnTorch in float64, with its default slope, which is ours."""
    pytest.importorskip("snntorch", reason="snntorch is not installed")
    import snntorch

    layer = getattr(snntorch, kind)(*args, **kwargs).double()
    for word in ("alpha", "beta", "threshold"):  # float32 until now
        if word in kwargs and hasattr(layer, word):
            getattr(layer, word).data.fill_(kwargs[word])
    return layer


@pytest.mark.parametrize("reset_delay", [True, False])
@pytest.mark.parametrize("reset", ["subtract", "zero", "none"])
class TestSnnTorch:
    """Each reset, one step late and in the step of the spike; learnable decays and threshold."""

    def test_leaky(self, reset: str, reset_delay: bool) -> None:
        """Leaky."""
        layer = snn(
            "Leaky", beta=0.8, threshold=0.7, reset_mechanism=reset, reset_delay=reset_delay,
            learn_beta=True, learn_threshold=True,
        )  # fmt: skip
        neuron = lnm.get(
            "leaky", beta=0.8, v_threshold=0.7, reset=reset, reset_delay=reset_delay,
            learn_beta=True, learn_threshold=True,
        )  # fmt: skip
        zero = torch.zeros(SHAPE[1:], dtype=torch.float64)
        agree(
            neuron, *draw(0.7, 0.1), layer, lambda v: {"v": v}, zero,
            {"beta": layer.beta, "v_threshold": layer.threshold},
        )  # fmt: skip

    def test_synaptic(self, reset: str, reset_delay: bool) -> None:
        """Synaptic."""
        if not reset_delay:
            pytest.skip("snnTorch 1.0 reads an attribute there that Synaptic may lack")
        layer = snn(
            "Synaptic", alpha=0.6, beta=0.7, threshold=0.9, reset_mechanism=reset,
            learn_alpha=True, learn_beta=True, learn_threshold=True,
        )  # fmt: skip
        neuron = lnm.get(
            "synaptic", alpha=0.6, beta=0.7, v_threshold=0.9, reset=reset,
            learn_alpha=True, learn_beta=True, learn_threshold=True,
        )  # fmt: skip

        def step(x: Tensor, state: Any) -> Any:
            spikes, *state = layer(x, *state)
            return spikes, state

        zero = torch.zeros(SHAPE[1:], dtype=torch.float64)
        agree(
            neuron, *draw(0.5, 0.0), step, lambda s: {"i": s[0], "v": s[1]}, [zero, zero],
            {"alpha": layer.alpha, "beta": layer.beta, "v_threshold": layer.threshold},
        )  # fmt: skip
