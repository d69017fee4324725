"""What one layer did in one inference: counts, without prices."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeAlias

from lnm_codegen.insight.energy.neuron import NeuronOperations


@dataclass(frozen=True, slots=True)
class Synapses:
    """A convolution or linear layer in one inference; means over the samples.

    Attributes:
        name: Its path in the network.
        spiking: Whether spikes entered, and so whether it adds (AC) or multiplies (MAC).
        encoder: Whether it ran before any neuron layer.
        inputs: Values that entered.
        events: Spikes that entered; 0 where numbers did.
        dense: Products of a dense computation, those with padded zeros among them.
        reached: Outputs reached by the spikes, or by all values where numbers entered: exact.
        outputs: Values that left.
        frames: Vectors or images that it computed.
        weights: Its weights.
        filters: Output channels times weights of one from one input; 0 for a linear layer.
    """

    name: str
    spiking: bool
    encoder: bool
    inputs: float
    events: float
    dense: float
    reached: float
    outputs: float
    frames: float
    weights: int
    filters: int

    def repeated(self, times: float) -> Synapses:
        """Return what it did in so many times as many frames."""
        counts = ("inputs", "events", "dense", "reached", "outputs", "frames")
        return replace(self, **{word: getattr(self, word) * times for word in counts})

    @property
    def mean_fan_out(self) -> float:
        """Products of a dense computation for each input."""
        return self.dense / self.inputs if self.inputs else 0.0


@dataclass(frozen=True, slots=True)
class Neurons:
    """A neuron layer in one inference; means over the samples.

    Attributes:
        name: Its path in the network.
        neuron: Name of its model.
        neurons: How many.
        steps: T.
        spikes: Spikes that left: values other than 0; 0 for a neuron without spikes.
        operations: Of one neuron.
        states: Values that a neuron keeps from step to step.
        parameters: Parameter values that a step reads: one for the layer, each channel or neuron.
        fires: Whether it has spikes; a readout of leaky integrators has none.
    """

    name: str
    neuron: str
    neurons: float
    steps: float
    spikes: float
    operations: NeuronOperations
    states: int
    parameters: int
    fires: bool = True

    @property
    def updates(self) -> float:
        """Neurons times steps."""
        return self.neurons * self.steps

    @property
    def rate(self) -> float:
        """Spikes per neuron and step."""
        return self.spikes / self.updates if self.updates else 0.0


Layer: TypeAlias = Synapses | Neurons
