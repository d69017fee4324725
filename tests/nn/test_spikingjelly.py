"""Layers inside SpikingJelly: its monitors and containers; `convert` has resets and modes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import lnm_codegen as lnm
from lnm_codegen.nn import NeuronLayer

jelly = pytest.importorskip("spikingjelly.activation_based", exc_type=ImportError)
pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("ignore")]

N = 2


def modules() -> Any:
    from spikingjelly.activation_based import functional, monitor, neuron, surrogate

    return functional, monitor, neuron, surrogate


def test_monitors():
    """Outputs by a hook, and the membrane potential as an attribute."""
    _, monitor, _, _ = modules()
    layer = NeuronLayer(lnm.get("lif"), backend="torch", step_mode="s")
    model = nn.Sequential(nn.Linear(4, 4), layer)
    outputs = monitor.OutputMonitor(model, NeuronLayer)
    potentials = monitor.AttributeMonitor("v", False, model, NeuronLayer)
    x = 8 * torch.randn(9, N, 4, generator=torch.Generator().manual_seed(0))
    seen = [(model(frame), layer.v) for frame in x]
    assert any(out.any() for out, _ in seen)
    for (out, v), a, b in zip(seen, outputs.records, potentials.records, strict=True):
        assert torch.equal(out, a)
        assert torch.equal(v, b)


CONTAINERS = ("MultiStepContainer", "StepModeContainer", "TLastMultiStepContainer")
RECURRENT = ("ElementWiseRecurrentContainer", "LinearRecurrentContainer")


@pytest.mark.parametrize("name", [*CONTAINERS, *RECURRENT])
def test_containers_of_spikingjelly_need_single_step_layers(name: str) -> None:
    """A layer in them computes what SpikingJelly's own does; another mode is refused."""
    functional, _, neuron, surrogate = modules()
    from spikingjelly.activation_based import layer

    def made(node: Any) -> Any:
        torch.manual_seed(0)
        kind = getattr(layer, name)
        if name == "ElementWiseRecurrentContainer":
            return kind(node, torch.add, step_mode="m")
        if name == "LinearRecurrentContainer":
            return kind(node, 4, 4, step_mode="m")
        more = (True, "m") if name == "StepModeContainer" else ()
        return kind(*more, nn.Linear(4, 4), node)

    own = NeuronLayer(lnm.get("lif"), backend="torch", step_mode="s")
    peer = made(neuron.LIFNode(surrogate_function=surrogate.ATan(2.0)))
    net = made(own)
    x = torch.rand(6, N, 4) * 4
    x = x.permute(1, 2, 0) if name.startswith("TLast") else x
    for _ in range(2):
        torch.testing.assert_close(net(x), peer(x))
        functional.reset_net(peer)
        lnm.nn.reset(net)
    functional.set_step_mode(net, "m")
    assert own.step_mode == "s"
    with pytest.raises((ValueError, AssertionError)):
        made(NeuronLayer(lnm.get("lif"), backend="torch"))
