"""Energy of an inference by counting operations, and the overhead of one neuron over another.

    E = E_MAC * MAC(layers that numbers enter) + E_AC * AC(layers that spikes enter)
      + neurons * steps * (E_mul * mul + E_add * add) + E_add * spikes * (additions of the reset)

AC are measured: every spike of the run is followed to the outputs that it reaches. Operations of
a neuron are those of its charge in the IR. Not counted: normalisation and biases, which fold into
weights and threshold; pooling; the threshold test; the choice of a class. Prices are of
`energy_cost`. These are conventions to compare networks by: no chip was measured.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from lnm_codegen.errors import ModelError
from lnm_codegen.insight.energy.cost import (
    CONVENTIONS,
    FP32,
    Convention,
    Cost,
    spike_cost,
    synapse_cost,
    update_cost,
)
from lnm_codegen.insight.energy.count import counted
from lnm_codegen.insight.energy.layers import Layer, Neurons, Synapses

FAN_OUTS = ("exact", "mean")
ENCODERS = ("as run", "every step")
VALUES = 1 << 18
"""Numbers of a batch: 85 images of CIFAR."""


@dataclass(frozen=True)
class EnergyReport:
    """Counts of an inference, means over the samples, and their price.

    Attributes:
        layers: In the order they ran.
        samples: How many inferences were counted.
        fan_out: "exact": a spike near a border reaches fewer outputs. "mean": every spike of a
            layer counts dense products / inputs, as rate times dense operations does.
        encoder: "as run": a first layer whose image is shown at every step but convolved once
            counts once. "every step": it counts T times.
    """

    layers: tuple[Layer, ...]
    samples: int
    fan_out: str = "exact"
    encoder: str = "as run"

    @property
    def synapses(self) -> tuple[Synapses, ...]:
        """Convolutions and linear layers."""
        return tuple(layer for layer in self.layers if isinstance(layer, Synapses))

    @property
    def neurons(self) -> tuple[Neurons, ...]:
        """Neuron layers."""
        return tuple(layer for layer in self.layers if isinstance(layer, Neurons))

    @property
    def steps(self) -> float:
        """T: the most steps of a neuron layer."""
        return max((layer.steps for layer in self.neurons), default=1.0)

    @property
    def mac(self) -> float:
        """MACs of layers that numbers enter."""
        return sum(self.operations(s) for s in self.synapses if not s.spiking)

    @property
    def ac(self) -> float:
        """ACs of layers that spikes enter: synaptic operations."""
        return sum(self.operations(s) for s in self.synapses if s.spiking)

    @property
    def spikes(self) -> float:
        """Spikes of all neuron layers."""
        return sum(layer.spikes for layer in self.neurons)

    @property
    def rate(self) -> float:
        """Spikes per neuron and step, over all neurons that have spikes."""
        updates = sum(layer.updates for layer in self.neurons if layer.fires)
        return self.spikes / updates if updates else 0.0

    def operations(self, layer: Synapses) -> float:
        """Return a layer's ACs, or MACs where numbers enter."""
        layer = self._counted(layer)
        if layer.spiking and self.fan_out == "mean":
            return layer.events * layer.mean_fan_out
        return layer.dense if self.fan_out == "mean" else layer.reached

    def _counted(self, layer: Synapses) -> Synapses:
        """Return the layer with the frames of an encoder at every step, where those are counted."""
        if self.encoder != "every step" or not layer.encoder or layer.frames >= self.steps:
            return layer
        return layer.repeated(self.steps / layer.frames)

    def cost(self, layer: Layer, by: Convention = FP32) -> Cost:
        """Return what a layer costs."""
        if isinstance(layer, Synapses):
            return synapse_cost(self._counted(layer), self.steps, self.operations(layer), by)
        return update_cost(layer, by) + spike_cost(layer, by)

    def updates(self, by: Convention = FP32) -> Cost:
        """Return what all neurons' updates cost, whatever they fire."""
        return sum((update_cost(layer, by) for layer in self.neurons), Cost())

    def driven(self, by: Convention = FP32) -> Cost:
        """Return what the synapses and the spikes cost: everything else."""
        synapses = (self.cost(layer, by) for layer in self.synapses)
        return sum((*synapses, *(spike_cost(layer, by) for layer in self.neurons)), Cost())

    def total(self, by: Convention = FP32) -> Cost:
        """Return what an inference costs."""
        return self.updates(by) + self.driven(by)

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return {
            "samples": self.samples,
            "fan_out": self.fan_out,
            "encoder": self.encoder,
            "steps": self.steps,
            "mac": self.mac,
            "ac": self.ac,
            "spikes": self.spikes,
            "firing_rate": self.rate,
            "pj": {by.name: _pj(self.total(by)) for by in CONVENTIONS},
            "neuron_updates_pj": {by.name: _pj(self.updates(by)) for by in CONVENTIONS},
            "layers": [self._layer(layer) for layer in self.layers],
        }

    def _layer(self, layer: Layer) -> dict[str, Any]:
        costs = {"pj": {by.name: _pj(self.cost(layer, by)) for by in CONVENTIONS}}
        if isinstance(layer, Synapses):
            done = self.operations(layer)
            return {
                "name": layer.name, "kind": "synapses", "encoder": layer.encoder,
                "mac": 0.0 if layer.spiking else done, "ac": done if layer.spiking else 0.0,
                "dense": layer.dense, "inputs": layer.inputs, "events": layer.events, **costs,
            }  # fmt: skip
        work = layer.operations
        return {
            "name": layer.name, "kind": "neurons", "neuron": layer.neuron,
            "neurons": layer.neurons, "steps": layer.steps, "spikes": layer.spikes,
            "firing_rate": layer.rate, "mul": layer.updates * work.mul,
            "add": layer.updates * work.add, "mul_per_update": work.mul,
            "add_per_update": work.add, "add_per_spike": work.reset_add,
            "unpriced_per_update": dict(work.unpriced),
            "state_reads": layer.updates * layer.states,
            "state_writes": layer.updates * layer.states, **costs,
        }  # fmt: skip


def _pj(cost: Cost) -> dict[str, float]:
    return {"arithmetic": cost.arithmetic, "memory": cost.memory, "addressing": cost.addressing,
            "total": cost.total}  # fmt: skip


def energy(
    network: nn.Module,
    data: Any,
    *,
    size: int | None = None,
    limit: int | None = None,
    fan_out: str = "exact",
    encoder: str = "as run",
) -> EnergyReport:
    """Count an inference of `network`, the mean over test samples.

    Args:
        network: Any module of convolutions, linear layers and NeuronLayers. It runs in eval mode.
        data: A `train.Dataset`, whose test split is run, or pairs (x, labels); the last axis of
            the labels is the samples'.
        size: Samples of a batch, with a Dataset; `batch_size(data)` by default.
        limit: Use only so many samples. Of pairs, x is cut along its first axis.
        fan_out: "exact" or "mean", see `EnergyReport`.
        encoder: "as run" or "every step".

    Raises:
        ModelError: Another word, no samples, or a convolution that pads with something but zeros.
    """
    for word, value, accepted in (("fan_out", fan_out, FAN_OUTS), ("encoder", encoder, ENCODERS)):
        if value not in accepted:
            raise ModelError("energy", f"{word} is {value!r}", accepted)
    trained = network.training
    network.eval()
    try:
        layers, samples = counted(network, _batches(data, size, limit))
    finally:
        network.train(trained)
    return EnergyReport(layers, samples, fan_out, encoder)


def batch_size(data: Any) -> int:
    """Return how many samples of a Dataset are run at once: 256, fewer where they are large."""
    return max(1, min(256, VALUES // max(int(math.prod(data.sample)), 1)))


def _batches(data: Any, size: int | None, limit: int | None) -> Iterator[tuple[Tensor, int]]:
    pairs: Iterable[tuple[Tensor, Tensor]]
    pairs = data
    if hasattr(data, "batches"):
        pairs = data.batches(data.test, batch_size(data) if size is None else size)
    seen = 0
    for x, labels in pairs:
        number = labels.shape[-1] if limit is None else min(limit - seen, labels.shape[-1])
        if number <= 0:
            return
        seen += number
        axis = 1 if getattr(data, "kind", "image") == "sequence" else 0
        yield (x if number == labels.shape[-1] else x.narrow(axis, 0, number)), number


@dataclass(frozen=True, slots=True)
class Overhead:
    """What one network takes more than another, in percent of the other's energy.

    Attributes:
        neuron: By the updates of its neurons, which do not hang on what they fire.
        rates: By spikes: synaptic operations, resets and, where priced, messages.
    """

    neuron: float
    rates: float

    @property
    def total(self) -> float:
        """Both."""
        return self.neuron + self.rates


def overhead(report: EnergyReport, baseline: EnergyReport, by: Convention = FP32) -> Overhead:
    """Return the overhead of a network over the same network with another neuron, LIF say."""
    whole = baseline.total(by).total
    if not whole:
        raise ModelError(
            "overhead", "the baseline takes no energy", remedy="Give one with operations in it."
        )
    neuron = report.updates(by).total - baseline.updates(by).total
    rates = report.driven(by).total - baseline.driven(by).total
    return Overhead(100 * neuron / whole, 100 * rates / whole)
