"""The families of SpikingJelly's first neurons, its surrogates and its threshold, in float64.

Spikes must be equal unless a potential lies within rounding of its threshold, which random inputs
avoid. SpikingJelly fires at >=, as we do.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import lnm_codegen as lnm
from tests.families.test_peers import agree, draw, jelly, with_node

pytestmark = pytest.mark.peers

MODELS: dict[str, tuple[str, dict[str, Any], dict[str, Any], tuple[Any, ...]]] = {
    "if": ("IFNode", {}, {}, (0.6,)),
    "lif": ("LIFNode", {"tau": 1.7, "v_threshold": 0.8}, {}, (1.5,)),
    "plif": ("ParametricLIFNode", {"v_threshold": 0.9}, {"tau": 1.6}, (1.5,)),
    "qif": ("QIFNode", {"v_rest": 0.05}, {}, (1.0, 0.8)),
    "izhikevich": (
        "IzhikevichNode",
        {"tau": 2.0, "v_c": 0.8, "a0": 1.0, "v_threshold": 1.0, "v_rest": 0.05, "tau_w": 3.0},
        {"a": 0.2, "b": 0.3},
        (1.5, 0.8, (12, 3, 5)),
    ),
    "cuba_lif": ("CUBALIFNode", {}, {}, (0.4, 0.3)),
}
"""Ours -> their node, arguments of both, further ones of ours, scale, shift and shape of inputs."""
RESETS = [(0.0, False, True), (-0.2, True, False), (None, False, False), (None, True, True)]


@pytest.mark.parametrize(("v_reset", "detach_reset", "decay_input"), RESETS)
@pytest.mark.parametrize("name", MODELS)
def test_models(name: str, v_reset: Any, detach_reset: bool, decay_input: bool) -> None:
    """At hard and soft reset, with the reset's spike differentiated and detached.

    Under detach_reset IzhikevichNode keeps the gradient of b * spike in w, so b is 0 there.
    CUBALIFNode takes no detach_reset: it is an attribute.
    """
    kind, given, own, drawn = MODELS[name]
    given, theirs = {**given, "v_reset": v_reset}, {}
    if name in ("lif", "plif"):
        given["decay_input"] = decay_input
    if name == "plif":
        theirs["init_tau"] = own["tau"]
    if name == "izhikevich":
        own = {**own, "b": 0.0 if detach_reset else own["b"]}
        theirs = {"tau_w": given["tau_w"], "a": own["a"], "b": own["b"]}
    if name == "cuba_lif":
        node = jelly(kind, 0.5, 0.75, 0.5, v_reset)
        node.detach_reset = detach_reset
    else:
        node = jelly(kind, **{**given, **theirs}, detach_reset=detach_reset)
    neuron = lnm.get(name, **given, **own).with_detach_reset(detach_reset)
    leaves, params = {}, {}
    if name == "plif":  # w is float32 in SpikingJelly's constructor
        leaves, params = {"w": node.w}, {"w": float(node.w.detach())}
        assert params["w"] == pytest.approx(neuron.params[0].init, rel=1e-6)
    agree(neuron, *draw(*drawn), **with_node(node, {"v": "v"}), leaves=leaves, **params)


SURROGATES = {
    "atan": ("ATan", 2.0),
    "sigmoid": ("Sigmoid", 4.0),
    "rectangle": ("Rect", 1.0),
    "triangle": ("PiecewiseQuadratic", 1.0),
    "erf": ("Erf", 2.0),
    "soft_sign": ("SoftSign", 2.0),
    "piecewise_exponential": ("PiecewiseExp", 1.0),
}
"""Ours -> SpikingJelly's, and a width."""


@pytest.mark.parametrize("name", SURROGATES)
def test_surrogates(name: str) -> None:
    """Each surrogate that SpikingJelly has too, at its own width and another."""
    node = jelly("LIFNode", 2.0, True, 1.0, None)
    from spikingjelly.activation_based import functional, surrogate

    kind, width = SURROGATES[name]
    for alpha in (width, 1.5):
        functional.reset_net(node)
        node.surrogate_function = getattr(surrogate, kind)(alpha=alpha)
        ours = lnm.surrogate.SURROGATES[name](alpha=alpha)
        neuron = lnm.get("lif", v_reset=None, surrogate=ours)
        agree(neuron, *draw(2.5), **with_node(node, {"v": "v"}))


def test_defaults_are_those_of_spikingjelly() -> None:
    """A family without arguments equals the node without arguments; H(0) = 1 in both."""
    x, grad = draw(1.5, 0.6)
    for name, (kind, *_) in MODELS.items():
        agree(lnm.get(name), x, grad, **with_node(jelly(kind), {}), rtol=1e-5)
    edge = np.array([[1.0, np.nextafter(1.0, 0)]])
    assert jelly("IFNode")(torch.tensor(edge[0])).tolist() == [1.0, 0.0]
    np.testing.assert_array_equal(lnm.interpret(lnm.get("if"), edge).out, [[1.0, 0.0]])


def test_li_is_the_non_spiking_lif_of_spikingjelly() -> None:
    """NonSpikingLIFNode charges as `li` does; its own output is decoded from all of them."""
    jelly("IFNode")  # skips without SpikingJelly
    from spikingjelly.activation_based import neuron

    node = neuron.NonSpikingLIFNode(tau=2.5).double()
    x, grad = draw()
    node.v = torch.zeros(x.shape[1:], dtype=torch.float64)
    leaf, potentials = torch.tensor(x, requires_grad=True), []
    for now in leaf:
        node.neuronal_charge(now)
        potentials.append(node.v)
    out = torch.stack(potentials)
    out.backward(torch.tensor(grad))
    result = lnm.interpret(lnm.get("li", tau=2.5), x, grad_out=grad)
    np.testing.assert_allclose(result.out, out.detach().numpy(), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(result.grads["x"], leaf.grad.numpy(), rtol=1e-10, atol=1e-12)
