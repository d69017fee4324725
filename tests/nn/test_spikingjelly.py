"""Layers inside SpikingJelly: its models by their factories, its resets, modes and monitors."""

from __future__ import annotations

import importlib.util
import sys
from functools import partial
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import lnm_codegen as lnm
from lnm_codegen.nn import NeuronLayer

jelly = pytest.importorskip("spikingjelly.activation_based", exc_type=ImportError)
pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("ignore")]

T, N, CLASSES = 2, 2, 3


def modules() -> Any:
    from spikingjelly.activation_based import functional, monitor, neuron, surrogate

    return functional, monitor, neuron, surrogate


@pytest.fixture(autouse=True)
def torchvision(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in_for_torchvision(monkeypatch)


def stand_in_for_torchvision(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand in for torchvision, from which the models import one function, for downloads."""
    if importlib.util.find_spec("torchvision") is None:
        utils: Any = ModuleType("torchvision._internally_replaced_utils")
        utils.load_state_dict_from_url = None
        monkeypatch.setitem(sys.modules, "torchvision", ModuleType("torchvision"))
        monkeypatch.setitem(sys.modules, utils.__name__, utils)


def small(name: str, **factory: Any) -> nn.Module:
    """Return a model of SpikingJelly, multi-step, for images of 32 x 32."""
    from spikingjelly.activation_based import layer as jelly_layer
    from spikingjelly.activation_based.model import (
        sew_resnet,
        spikformer,
        spiking_resnet,
        spiking_vgg,
    )

    functional = modules()[0]
    makers = {
        "spiking_resnet18": spiking_resnet.spiking_resnet18,
        "sew_resnet18": sew_resnet.sew_resnet18,
        "spiking_vgg11_bn": spiking_vgg.spiking_vgg11_bn,
        "spikformer": spikformer.Spikformer,
    }
    sizes: dict[str, Any] = {"num_classes": CLASSES}
    if name == "sew_resnet18":
        sizes["cnf"] = "ADD"
    if name == "spikformer":
        sizes |= {"T": T, "img_size_h": 32, "img_size_w": 32, "embed_dims": 64, "num_heads": 4,
                  "depths": 1, "mlp_ratio": 2}  # fmt: skip
    if name == "spiking_vgg11_bn":
        sizes["norm_layer"] = jelly_layer.BatchNorm2d
    model = makers[name](**sizes, **factory)
    functional.set_step_mode(model, "m")
    for module in model.modules():  # spikes reach the last layer
        if isinstance(module, nn.BatchNorm2d):
            nn.init.constant_(module.weight, 3.0)
        elif isinstance(module, nn.Linear):
            module.weight.data *= 4
    return model


MODELS = ["spiking_resnet18", "sew_resnet18", "spiking_vgg11_bn", "spikformer"]


def theirs() -> dict[str, Any]:
    _, _, neuron, surrogate = modules()
    return {"spiking_neuron": neuron.LIFNode, "surrogate_function": surrogate.ATan(2.0)}


def ours(neuron: lnm.Neuron, **options: Any) -> dict[str, Any]:
    return {"spiking_neuron": partial(NeuronLayer, neuron, **options)}


def trained(model: nn.Module, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the output and the gradients of the weights."""
    torch.manual_seed(5)
    out = model(x)
    out = out.mean(0) if out.dim() == 3 else out
    nn.functional.cross_entropy(out, torch.arange(N) % CLASSES).backward()
    grads = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    return out.detach(), grads


@pytest.mark.slow
@pytest.mark.needs_cc
@pytest.mark.parametrize("name", MODELS)
def test_the_same_model_with_our_lif(name):
    """Their weights load, although they lack our constants; outputs and gradients agree."""
    torch.manual_seed(0)
    peer = small(name, **theirs())
    model = small(name, **ours(lnm.get("lif", tau=2.0), backend="c"))
    model.load_state_dict(peer.state_dict())
    x = torch.rand(T, N, 3, 32, 32)
    expected, their_grads = trained(peer, x)
    out, our_grads = trained(model, x)
    torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-5)
    assert (expected != expected[0]).any(), "no spike reaches the output"
    assert their_grads.keys() <= our_grads.keys()
    # The gradient of a bias before a batch normalisation is 0: rounding is all that it has.
    rounding = 1e-5 * max(float(grad.abs().max()) for grad in their_grads.values())
    for key, grad in their_grads.items():
        atol = 1e-3 * float(grad.abs().max()) + rounding
        torch.testing.assert_close(our_grads[key], grad, rtol=1e-3, atol=atol)


@pytest.mark.slow
@pytest.mark.needs_cc
@pytest.mark.parametrize("name", MODELS)
def test_a_model_learns_theta_per_channel(name):
    """LNM per channel through the factory: lazy sizes, a step of training, a new state_dict."""
    torch.manual_seed(0)
    neuron = lnm.get("lnm", degree=2, per="channel", v_min=-2.0)
    model = small(name, **ours(neuron, backend="c"))
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    x = torch.rand(T, N, 3, 32, 32)
    _, grads = trained(model, x)
    layers = {n: m for n, m in model.named_modules() if isinstance(m, NeuronLayer)}
    assert layers
    assert all(m.theta.dim() == 2 for m in layers.values())
    assert any(grads[f"{n}.theta"].abs().sum() > 0 for n in layers)
    before = {n: m.theta.detach().clone() for n, m in layers.items()}
    optimiser.step()
    assert any(not torch.equal(before[n], m.theta) for n, m in layers.items())
    other = small(name, **ours(neuron, backend="c"))
    other.load_state_dict(model.state_dict())
    model.eval(), other.eval()
    torch.testing.assert_close(other(x), model(x))


def test_resets_and_modes():
    """`set_step_mode`, `reset_net` and `detach_net` reach our layers."""
    functional = modules()[0]
    layer = NeuronLayer(lnm.get("lif", learn_tau=True), backend="torch")
    model = nn.Sequential(nn.Linear(4, 4), layer)
    functional.set_step_mode(model, "s")
    assert layer.step_mode == "s"
    x = 8 * torch.randn(9, N, 4, generator=torch.Generator().manual_seed(0))
    steps = torch.stack([model(frame) for frame in x])
    assert 0 < steps.mean() < 1
    assert layer.v.requires_grad
    functional.detach_net(model)
    assert not layer.v.requires_grad
    functional.reset_net(model)
    assert layer.state == {}
    functional.set_step_mode(model, "m")
    torch.testing.assert_close(model(x), steps)


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


def test_sequences_that_continue():
    """`carry_state=True` is SpikingJelly's habit: a call continues where the last one ended."""
    functional, _, neuron, surrogate = modules()
    peer = neuron.LIFNode(surrogate_function=surrogate.ATan(2.0), step_mode="m")
    layer = NeuronLayer(lnm.get("lif", tau=2.0), backend="torch", carry_state=True)
    for _ in range(2):
        for k in range(3):
            x = torch.rand(4, N, 5, generator=torch.Generator().manual_seed(k)) * 2
            assert torch.equal(layer(x), peer(x))
        functional.reset_net(nn.Sequential(layer, peer))


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
