"""Operation counts of one layer in one inference, without energies."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeAlias

from lnm_codegen.analysis.linear.step import silent_neuron
from lnm_codegen.compiler.pipeline import lower
from lnm_codegen.ir.count import Count, count
from lnm_codegen.ir.operators import Phase
from lnm_codegen.language.neuron import Neuron


@dataclass(frozen=True, slots=True)
class NeuronOperations:
    """Operations of one neuron, counted in the IR.

    They are the arithmetic of the charge, of a moving threshold, and of the reset without a spike,
    such as the decay of an adaptation. By custom, selects and the threshold comparison (a
    difference and a comparison for each spike) are not counted.

    Attributes:
        mul: Multiplications in a step. A fused multiply-add is one multiplication, one addition.
        add: Additions in a step.
        reset_add: Additions in the reset that only a spike needs, for each spike.
        unpriced: (name, number) in a step: divisions and functions, which have no energy.
    """

    mul: int
    add: int
    reset_add: int
    unpriced: tuple[tuple[str, int], ...] = ()


def neuron_operations(neuron: Neuron) -> NeuronOperations:
    """Return the operations of a step in Horner form."""
    kernel = lower(neuron).forward
    step, reset, tests = Count(), Count(), len(neuron.spikes)
    for let in kernel.body:
        one = count(replace(kernel, body=(let,)))
        if let.phase is Phase.CHARGE:
            step += one
        elif let.phase is Phase.FIRE:
            free = min(tests, one.additions)
            step += replace(one, additions=one.additions - free)
            tests -= free
        elif let.phase is Phase.RESET:
            reset += one
    silent = _silent_reset(neuron)
    step += silent
    unpriced = dict(step.functions)
    if step.divisions:
        unpriced["division"] = step.divisions
    return NeuronOperations(
        mul=step.multiplications + step.fused,
        add=step.additions + step.fused,
        reset_add=max(reset.additions + reset.fused - silent.additions - silent.fused, 0),
        unpriced=tuple(sorted(unpriced.items())),
    )


def _silent_reset(neuron: Neuron) -> Count:
    """Return the operations of the reset in a step without a spike."""
    found = Count()
    if neuron.states:
        kernel = lower(silent_neuron(neuron)).forward
        for let in kernel.body:
            if let.phase is Phase.RESET:
                found += count(replace(kernel, body=(let,)))
    return found


@dataclass(frozen=True, slots=True)
class Synapses:
    """A convolution or linear layer in one inference; means over the samples.

    Attributes:
        name: Path in the network.
        spiking: Its inputs are spikes (AC), not numbers (MAC).
        encoder: It runs before every neuron layer.
        inputs: Number of input values.
        events: Number of input spikes; 0 if the inputs are numbers.
        dense: Products of a dense computation, including those with padded zeros.
        reached: Outputs that the input spikes, or all inputs, reach: exact.
        outputs: Number of output values.
        frames: Number of input vectors or images.
        weights: Number of weights.
        filters: Output channels times weights per input channel; 0 for a linear layer.
        steps: Number of time steps in the frames; 1 for an image that is repeated after the layer.
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
    steps: float = 1.0

    def repeated(self, times: float) -> Synapses:
        """Return the counts of `times` as many frames."""
        counts = ("inputs", "events", "dense", "reached", "outputs", "frames", "steps")
        return replace(self, **{word: getattr(self, word) * times for word in counts})

    @property
    def mean_fan_out(self) -> float:
        """Products of a dense computation per input."""
        return self.dense / self.inputs if self.inputs else 0.0


@dataclass(frozen=True, slots=True)
class Neurons:
    """A neuron layer in one inference; means over the samples.

    Attributes:
        name: Path in the network.
        neuron: Name of the neuron model.
        neurons: Number of neurons.
        steps: Number of time steps T.
        spikes: Number of outputs other than 0; 0 for a neuron without spikes.
        operations: Operations of one neuron.
        states: Number of states of a neuron.
        parameters: Number of parameter values that a step reads.
        fires: The output reads a spike. That of a leaky integrator, a readout, is its potential.
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
        """Number of neuron updates: neurons times steps."""
        return self.neurons * self.steps

    @property
    def rate(self) -> float:
        """Spikes per neuron and step."""
        return self.spikes / self.updates if self.updates else 0.0


Layer: TypeAlias = Synapses | Neurons
