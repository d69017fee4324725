"""ResNet-19 of tdBN (Zheng et al. 2021, AAAI) on 32x32 images, counted from its layers and rates.

The layers are those of the network "resnet19". The first convolution runs once for the image that
every step repeats. Mean fan-outs: AC = rate * steps * dense operations.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lnm_codegen.families import FAMILIES
from lnm_codegen.insight.energy.cost import (
    Layer,
    NeuronOperations,
    Neurons,
    Synapses,
    neuron_operations,
)
from lnm_codegen.insight.energy.report import EnergyReport, Overhead, overhead
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.nn.layer import NeuronLayer
from lnm_codegen.train.models.base import Task
from lnm_codegen.train.models.convolutional import RESNET19, ResNet
from lnm_codegen.validation import wrong

_IN_BLOCK = ("short.conv", "first.conv", "neuron_1", "second.conv", "neuron_2")
_ORDER = (
    "stem.conv", "stem_neuron",
    *(f"blocks.{k}.{part}" for k in range(sum(RESNET19.blocks)) for part in _IN_BLOCK),
    "hidden", "hidden_neuron", "readout",
)  # fmt: skip
"""The layers, each after the neuron layer whose spikes enter it."""


CLASSES = 10
"""Outputs of the last layer."""


class _Size(NamedTuple):
    """A layer: input and output values of a frame, and the shape of its weights; () for neurons."""

    name: str
    inputs: int
    outputs: int
    weights: tuple[int, ...]


@cache
def _sizes() -> tuple[_Size, ...]:
    """Return the layers of the network in `_ORDER`, from a run of one step on the meta device."""
    found: list[_Size] = []

    def add(name: str) -> Any:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], out: Tensor) -> None:
            weight = getattr(module, "weight", None)
            shape = () if weight is None else tuple(weight.shape)
            found.append(_Size(name, inputs[0].numel(), out.numel(), shape))

        return hook

    task = Task((3, 32, 32), CLASSES)
    with torch.device("meta"), torch.no_grad():
        lif = FAMILIES["lif"]()
        network = ResNet(RESNET19, lif, task, backend="torch", time_steps=1, fused=False)
        for name, module in network.named_modules():
            if isinstance(module, NeuronLayer | nn.Conv2d | nn.Linear):
                module.register_forward_hook(add(name))
        network(torch.zeros(1, *task.sample))
    return tuple(sorted(found, key=lambda size: _ORDER.index(size.name)))


def resnet19(neuron: Neuron, rates: float | Sequence[float], steps: int = 4) -> EnergyReport:
    """Return the counts of one inference.

    Args:
        neuron: Neuron of every layer.
        rates: Spikes per neuron and step: one number, or one for each of the 18 neuron layers.
        steps: T.

    Raises:
        ModelError: The number of rates is wrong, or a rate is negative.
    """
    sizes = _sizes()
    count = sum(not size.weights for size in sizes)
    given = [float(rates)] * count if isinstance(rates, int | float) else list(rates)
    if len(given) != count or not all(rate >= 0 for rate in given):
        raise wrong("resnet19", "rates", rates, f"one number >= 0, or {count} of them")
    operations, rate = neuron_operations(neuron), None
    layers: list[Layer] = []
    for size in sizes:
        if size.weights:
            layers.append(_synapses(size, rate, steps))
        else:
            rate = given.pop(0)
            layers.append(_neurons(size, rate, steps, neuron, operations))
    return EnergyReport(tuple(layers), samples=1, fan_out="mean")


def _synapses(size: _Size, rate: float | None, steps: int) -> Synapses:
    """Return the counts of a layer; its inputs are spikes of a rate, or one image if it is None."""
    frames = 1 if rate is None else steps
    outputs, *taps = size.weights
    weights = torch.Size(size.weights).numel()
    dense = size.outputs * weights // outputs * frames
    return Synapses(
        name=size.name, spiking=rate is not None, encoder=rate is None,
        inputs=size.inputs * frames, events=(rate or 0.0) * size.inputs * frames, dense=dense,
        reached=dense if rate is None else rate * dense, outputs=size.outputs * frames,
        frames=frames, steps=frames, weights=weights,
        filters=outputs * torch.Size(taps[1:]).numel() if taps[1:] else 0,
    )  # fmt: skip


def _neurons(
    size: _Size, rate: float, steps: int, neuron: Neuron, operations: NeuronOperations
) -> Neurons:
    return Neurons(
        name=size.name, neuron=neuron.name, neurons=size.outputs, steps=steps,
        spikes=rate * size.outputs * steps, operations=operations, states=len(neuron.states),
        parameters=sum(p.size or 1 for p in neuron.params),
    )  # fmt: skip


def resnet19_overhead(rates: float | Sequence[float], degree: int) -> Overhead:
    """Return the overhead of an LNM over LIF, h = lambda*v + x, at the same rates, in FP32.

    The LNM has no theta_0, because the bias of the normalisation before it has the same effect. It
    takes d multiplications and d additions a step, LIF one of each.

    Args:
        rates: Rates of both, as for `resnet19`.
        degree: d.
    """
    neuron = FAMILIES["lnm"](degree=degree, learn_theta_0=False)
    lif = FAMILIES["lif"](decay_input=False)
    return overhead(resnet19(neuron, rates), resnet19(lif, rates))
