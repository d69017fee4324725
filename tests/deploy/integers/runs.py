"""Small untrained chains in eval mode, with every module that the conversion takes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import lnm_codegen as lnm
from lnm_codegen.deploy.integers.convert import RealNetwork, real_network
from lnm_codegen.nn import NeuronLayer
from lnm_codegen.nn.chain import Chain
from lnm_codegen.train.models import build


class Chained(nn.Module):
    """Modules in order on (T, N, *) or on a repeated (N, *); the mean of the scores over time."""

    def __init__(self, time_steps: int | None, over: str, **modules: nn.Module) -> None:
        super().__init__()
        self.order, self.time_steps, self.over = tuple(modules), time_steps, over
        for name, module in modules.items():
            self.add_module(name, module)

    def chain(self) -> Chain:
        return Chain(tuple((n, getattr(self, n)) for n in self.order), self.time_steps, self.over)

    def forward(self, x: Tensor) -> Tensor:
        x = x if self.time_steps is None else x.expand(self.time_steps, *x.shape)
        for name in self.order:
            module = getattr(self, name)
            if isinstance(module, NeuronLayer):
                x = module(x)
            else:
                x = module(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        return {"mean": x.mean(0), "last": x[-1], "max": x.amax(0)}[self.over]


def layer(neuron: lnm.Neuron, *shape: int) -> NeuronLayer:
    return NeuronLayer(neuron, channels=shape[0], shape=shape, backend="torch")


def chained(over: str = "mean", pool: nn.Module | None = None) -> Chained:
    """Return convolutions, a batch normalisation, poolings and linear layers, drawn at random."""
    torch.manual_seed(4)
    made = Chained(
        3, over,
        conv=nn.Conv2d(2, 4, 3, padding=1), norm=nn.BatchNorm2d(4),
        first=layer(lnm.get("lif", tau=2.0, v_threshold=0.3), 4, 6, 6),
        pool=pool or nn.AvgPool2d(2), down=nn.Conv2d(4, 5, 3, stride=2, bias=False),
        second=layer(lnm.get("lnm", degree=2, v_min=-2.0, per="channel"), 5, 1, 1),
        flat=nn.Flatten(), dense=nn.Linear(5, 3), readout=layer(lnm.get("li", tau=2.0), 3),
    )  # fmt: skip
    with torch.no_grad():
        made.norm.running_mean += 0.1
        made.norm.running_var *= torch.tensor([0.5, 1.0, 2.0, 1.0])
        made.norm.bias += 0.2
        made.down.weight *= 8
    return made.eval()


def images(count: int = 32) -> Tensor:
    return torch.randn(count, 2, 6, 6, generator=torch.Generator().manual_seed(2))


def real(network: Chained, name: str = "net") -> RealNetwork:
    return real_network(name, network, network.chain(), (2, 6, 6))


def built(name: str, kind: str, sample: tuple[int, ...], **options) -> nn.Module:
    """Return a network of lnm.train.models with some batch statistics."""
    torch.manual_seed(1)
    made = build(name, lnm.get("lif", tau=2.0, v_threshold=0.2), sample, 3, kind=kind,
                 backend="torch", **options)  # fmt: skip
    for module in made.modules():
        if hasattr(module, "running_var"):
            module.running_var.mul_(0.5)
            module.running_mean.add_(0.05)
    return made.eval()
