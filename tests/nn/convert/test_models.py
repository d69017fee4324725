"""Whole models of the libraries: the same spikes and gradients, old checkpoints, training."""

from __future__ import annotations

import copy
import importlib.util
import sys
from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import lnm_codegen as lnm
from lnm_codegen.nn import NeuronLayer
from tests.nn.convert.peers import eager

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("ignore")]

Forward = Callable[[Any, Tensor], Tensor]
"""Outputs of a model on x, from its initial states."""


def train(model: Any, forward: Forward, x: Tensor, steps: int) -> tuple[list[Tensor], list[float]]:
    """Return the outputs before each step of SGD, and the losses."""
    optimiser = torch.optim.SGD(model.parameters(), lr=0.05)
    outs, losses = [], []
    for _ in range(steps):
        out = forward(model, x)
        loss = nn.functional.cross_entropy(out.flatten(1), torch.arange(len(out)) % out.shape[1])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        outs.append(out.detach())
        losses.append(loss.item())
    return outs, losses


def assert_converts(
    make: Callable[[], nn.Module], forward: Forward, x: Tensor, layers: int, steps: int = 3
) -> None:
    """The converted model gives the outputs, the gradients and the training of the old one.

    Its weights come from an old checkpoint, which is loaded after the conversion.
    """
    torch.manual_seed(0)
    old = make().to(x.dtype)
    saved = copy.deepcopy(old.state_dict())
    torch.manual_seed(1)
    new = lnm.nn.convert(make().to(x.dtype))
    if steps == 1:
        eager(new)
    assert not any(new.load_state_dict(saved))
    report = lnm.nn.conversion_report(new)
    assert len(report.of("exact")) == layers
    assert len(report.layers) == layers
    assert sum(isinstance(m, NeuronLayer) for m in new.modules()) == layers
    expected, their_losses = train(old, forward, x, steps)
    outs, losses = train(new, forward, x, steps)
    assert expected[0].unique().numel() > 1
    for own, their in zip(outs, expected, strict=True):
        torch.testing.assert_close(own, their, rtol=1e-4, atol=1e-5)
    assert losses == pytest.approx(their_losses, rel=1e-4)
    ours, theirs = dict(new.named_parameters()), dict(old.named_parameters())
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name].reshape(value.shape), value, rtol=1e-4, atol=1e-5)


def jelly_forward(model: Any, x: Tensor) -> Tensor:
    from spikingjelly.activation_based import functional

    functional.reset_net(model)
    out = model(x)
    return out.mean(0) if out.dim() == 3 else out


def stand_in_for_torchvision(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand in for torchvision, from which the models import one function, for downloads."""
    if importlib.util.find_spec("torchvision") is None:
        utils: Any = ModuleType("torchvision._internally_replaced_utils")
        utils.load_state_dict_from_url = None
        monkeypatch.setitem(sys.modules, "torchvision", ModuleType("torchvision"))
        monkeypatch.setitem(sys.modules, utils.__name__, utils)


def small(name: str, **factory: Any) -> nn.Module:
    """Return a model of SpikingJelly, multi-step, for images of 32 x 32."""
    from spikingjelly.activation_based import functional
    from spikingjelly.activation_based.model import sew_resnet, spikformer

    if name == "sew_resnet18":
        model = sew_resnet.sew_resnet18(num_classes=3, cnf="ADD", **factory)
    else:
        model = spikformer.Spikformer(
            T=2, img_size_h=32, img_size_w=32, embed_dims=64, num_heads=4, depths=1, mlp_ratio=2,
            num_classes=3, **factory,
        )  # fmt: skip
    functional.set_step_mode(model, "m")
    for module in model.modules():  # spikes reach the last layer
        if isinstance(module, nn.BatchNorm2d):
            nn.init.constant_(module.weight, 3.0)
        elif isinstance(module, nn.Linear):
            module.weight.data *= 4
    return model  # type: ignore[no-any-return]


@pytest.mark.slow
@pytest.mark.needs_cc
@pytest.mark.parametrize(
    ("name", "neuron", "options"),
    [
        ("sew_resnet18", "IFNode", {"v_reset": None}),
        ("sew_resnet18", "ParametricLIFNode", {"init_tau": 1.5, "decay_input": False}),
        ("spikformer", "LIFNode", {"detach_reset": True}),
    ],
)
def test_models_of_spikingjelly(
    monkeypatch: pytest.MonkeyPatch, name: str, neuron: str, options: dict[str, Any]
) -> None:
    pytest.importorskip("spikingjelly.activation_based", exc_type=ImportError)
    stand_in_for_torchvision(monkeypatch)
    from spikingjelly.activation_based import neuron as nodes
    from spikingjelly.activation_based import surrogate

    factory = {"spiking_neuron": getattr(nodes, neuron), **options}
    make = partial(small, name, surrogate_function=surrogate.ATan(), **factory)
    found = sum(isinstance(m, nodes.BaseNode) for m in make().modules())
    assert found > 7
    torch.manual_seed(2)
    assert_converts(make, jelly_forward, 2 * torch.rand(2, 2, 3, 32, 32).double(), found)


class Dense(nn.Module):
    """Net of snnTorch's tutorial 5: the forward loops over steps and passes `mem`."""

    def __init__(self, make: Callable[..., nn.Module], inputs: int, hidden: int) -> None:
        super().__init__()
        self.fc1, self.lif1 = nn.Linear(inputs, hidden), make()
        self.fc2, self.lif2 = nn.Linear(hidden, 3), make()

    def forward(self, x: Tensor) -> Tensor:
        mem1, mem2 = self.lif1.init_leaky(), self.lif2.init_leaky()  # type: ignore[operator]
        seen = []
        for step in x:
            spk1, mem1 = self.lif1(self.fc1(step), mem1)
            _, mem2 = self.lif2(self.fc2(spk1), mem2)
            seen.append(mem2)
        return torch.stack(seen).sum(0)


def test_a_dense_net_of_snntorch() -> None:
    """In float32, as its spikes are."""
    snn = pytest.importorskip("snntorch")
    make = lambda: snn.Leaky(beta=0.9, learn_beta=True)  # noqa: E731
    x = torch.rand(6, 4, 5) * 3
    assert_converts(lambda: Dense(make, 5, 8), lambda m, x: m(x), x, 2, steps=1)
