"""Energy of an inference from operation counts, and the overhead of one neuron over another.

    E = E_MAC * MAC(layers whose inputs are numbers) + E_AC * AC(layers whose inputs are spikes)
      + neurons * steps * (E_mul * mul + E_add * add) + E_add * spikes * (additions of the reset)

AC are measured: each spike counts the outputs that it reaches. The operations of a neuron are
those of its charge in the IR. Not counted: normalisation and biases, which fold into weights and
threshold; pooling; the threshold comparison; the argmax. `cost.py` has the energies per operation.
These are conventions for comparing networks. No chip was measured.
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
    EnergyCost,
    Layer,
    Neurons,
    Synapses,
    spike_cost,
    synapse_cost,
    update_cost,
)
from lnm_codegen.insight.energy.count import counted
from lnm_codegen.nn.hooks import evaluating
from lnm_codegen.train.data.dataset import by_length
from lnm_codegen.validation import require_one_of

FAN_OUTS = ("exact", "mean")
ENCODERS = ("as run", "every step")
VALUES = 1 << 18
"""Numbers in a batch: 85 images of CIFAR."""


@dataclass(frozen=True)
class EnergyReport:
    """Operation counts of an inference, means over the samples, and their energy.

    Attributes:
        layers: Layers in the order of execution.
        samples: Number of inferences.
        fan_out: "exact": a spike near a border reaches fewer outputs. "mean": every spike of a
            layer counts dense products / inputs, so AC = rate * dense operations.
        encoder: "as run": a first layer that runs once on a repeated image counts once.
            "every step": it counts T times.
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
        """Number of time steps T: the largest of a neuron layer."""
        return max((layer.steps for layer in self.neurons), default=1.0)

    @property
    def mac(self) -> float:
        """MACs of layers whose inputs are numbers."""
        return sum(self.operations(s) for s in self.synapses if not s.spiking)

    @property
    def ac(self) -> float:
        """ACs of layers whose inputs are spikes: synaptic operations."""
        return sum(self.operations(s) for s in self.synapses if s.spiking)

    @property
    def spikes(self) -> float:
        """Spikes of all neuron layers."""
        return sum(layer.spikes for layer in self.neurons)

    @property
    def rate(self) -> float:
        """Spikes per neuron and step, over all spiking neurons."""
        updates = sum(layer.updates for layer in self.neurons if layer.fires)
        return self.spikes / updates if updates else 0.0

    def operations(self, layer: Synapses) -> float:
        """Return the ACs of a layer, or its MACs if its inputs are numbers."""
        layer = self._counted(layer)
        if layer.spiking and self.fan_out == "mean":
            return layer.events * layer.mean_fan_out
        return layer.dense if self.fan_out == "mean" else layer.reached

    def _counted(self, layer: Synapses) -> Synapses:
        """Return the layer, with an encoder's frames repeated if `encoder` says so."""
        if self.encoder != "every step" or not layer.encoder or layer.steps >= self.steps:
            return layer
        return layer.repeated(self.steps / layer.steps)

    def cost(self, layer: Layer, by: Convention = FP32) -> EnergyCost:
        """Return the energy of a layer."""
        if isinstance(layer, Synapses):
            return synapse_cost(self._counted(layer), self.steps, self.operations(layer), by)
        return update_cost(layer, by) + spike_cost(layer, by)

    def updates(self, by: Convention = FP32) -> EnergyCost:
        """Return the energy of all neuron updates, which does not depend on spikes."""
        return sum((update_cost(layer, by) for layer in self.neurons), EnergyCost())

    def driven(self, by: Convention = FP32) -> EnergyCost:
        """Return the energy of synapses and spikes."""
        synapses = (self.cost(layer, by) for layer in self.synapses)
        return sum((*synapses, *(spike_cost(layer, by) for layer in self.neurons)), EnergyCost())

    def total(self, by: Convention = FP32) -> EnergyCost:
        """Return the energy of an inference."""
        return self.updates(by) + self.driven(by)

    def as_dict(self) -> dict[str, Any]:
        """Return all figures as plain data."""
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


def _pj(cost: EnergyCost) -> dict[str, float]:
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
    """Count the operations of an inference, the mean over test samples.

    The network runs in eval mode. States that its layers keep are reset before each batch.

    Args:
        network: A module of convolutions, linear layers and NeuronLayers.
        data: A `train.Dataset`, whose test split is run, or pairs (x, labels). The last axis of
            the labels counts the samples.
        size: Samples of a batch of a Dataset; `batch_size(data)` by default.
        limit: Largest number of samples, or None for all. x of a pair is cut along the axis of its
            samples: of the first two, the one as long as the last axis of the labels.
        fan_out: "exact" or "mean", see `EnergyReport`.
        encoder: "as run" or "every step".

    Raises:
        ModelError: A word is unknown, there are no samples, no axis of a pair to cut is certain, or
            a convolution pads with other values than zeros.
    """
    require_one_of("energy", "fan_out", fan_out, FAN_OUTS)
    require_one_of("energy", "encoder", encoder, ENCODERS)
    with evaluating(network):
        layers, samples = counted(network, _batches(data, size, limit))
    return EnergyReport(layers, samples, fan_out, encoder)


def batch_size(data: Any) -> int:
    """Return the batch size for a Dataset: 256, or fewer for large samples."""
    return max(1, min(256, VALUES // max(int(math.prod(data.sample)), 1)))


def _batches(data: Any, size: int | None, limit: int | None) -> Iterator[tuple[Tensor, int]]:
    pairs: Iterable[tuple[Tensor, Tensor]]
    pairs = data
    if hasattr(data, "batches"):
        pairs = data.batches(data.test, batch_size(data) if size is None else size)
        if not data.has_classes:
            pairs = ((x, y.new_zeros(data.count(y))) for x, y in pairs)
        if data.padded:
            pairs = (part for x, y in pairs for part in by_length(x, y))
    seen = 0
    for x, labels in pairs:
        whole = labels.shape[-1]
        number = whole if limit is None else min(limit - seen, whole)
        if number <= 0:
            return
        seen += number
        if number < whole:
            kind = getattr(data, "kind", None)
            axis = _sample_axis(x, whole) if kind is None else int(kind == "sequence")
            x = x.narrow(axis, 0, number)
        yield x, number


def _sample_axis(x: Tensor, samples: int) -> int:
    """Return the axis of the samples, the first or the second, by its length."""
    fits = [axis for axis, length in enumerate(x.shape[:2]) if length == samples]
    if len(fits) != 1:
        problem = f"limit cuts x of shape {tuple(x.shape)}, and labels are of {samples} samples"
        accepted = "samples along one of the first two axes, of another length than the other"
        raise ModelError("energy", problem, accepted, "Leave out limit, and give fewer samples.")
    return fits[0]


@dataclass(frozen=True, slots=True)
class Overhead:
    """Energy of one network beyond another's, in percent of the other's energy.

    Attributes:
        neuron: Part of the neuron updates, which does not depend on spikes.
        rates: Part of the spikes: synaptic operations, resets and, in `LEMAIRE`, messages.
    """

    neuron: float
    rates: float

    @property
    def total(self) -> float:
        """Sum of both parts."""
        return self.neuron + self.rates


def overhead(report: EnergyReport, baseline: EnergyReport, by: Convention = FP32) -> Overhead:
    """Return the overhead of a network over the same network with another neuron."""
    whole = baseline.total(by).total
    if not whole:
        raise ModelError(
            "overhead", "the baseline has no operations", remedy="Give another baseline."
        )
    neuron = report.updates(by).total - baseline.updates(by).total
    rates = report.driven(by).total - baseline.driven(by).total
    return Overhead(100 * neuron / whole, 100 * rates / whole)
