"""Energy per operation, under a stated convention.

Energies of an operation at 45 nm, 0.9 V (M. Horowitz, ISSCC 2014), in pJ:

    FP32   add 0.9, mul 3.7      INT8   add 0.03, mul 0.2      INT32   add 0.1, mul 3.1

`FP32` and `INT8` count operations alone, as most papers on spiking networks do: an AC is an
addition, a MAC a multiplication and an addition. `LEMAIRE` adds memory and addressing in INT32,
after Lemaire et al., "An Analytical Estimation of Spiking Neural Networks Energy Efficiency"
(ICONIP 2022). Per inference, with `ac` synaptic operations of `events` spikes:

    memory       A spike is a message that is read and written. An AC reads a weight, and reads and
                 writes a potential. A neuron update reads and writes each state. A MAC reads its
                 input and its weight. A step reads the layer's parameters.
    addressing   A spike into a convolution takes 2 MACs, an AC 1 addition. For numbers, an
                 addition for each input, each output, and each weight of a kernel and output
                 channel.
    an access    10, 20, 100 pJ a word from a memory of 8 kB, 32 kB, 1 MB; linear between them and
                 down to 0; 100 pJ beyond. Messages are queued in memories of 1000 words.

The paper takes (K/stride)**2 outputs of each channel as the fan-out of a convolution. Here
`fan_out` sets it, for operations and memory.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TypeAlias

from lnm_codegen.analysis.linear.step import silent_neuron
from lnm_codegen.compiler.pipeline import lower
from lnm_codegen.ir.count import Count, count
from lnm_codegen.ir.kernel import Phase
from lnm_codegen.language.neuron import Neuron

WORD, QUEUE = 4, 1000
"""Bytes of a word, and words of a message queue, in `LEMAIRE`."""
_MEMORIES = ((0.0, 0.0), (8192.0, 10.0), (32768.0, 20.0), (1048576.0, 100.0))


@dataclass(frozen=True, slots=True)
class Convention:
    """Energies of the operations.

    Attributes:
        name: Key in the report and in JSON.
        add: Energy of an addition in pJ.
        mul: Energy of a multiplication in pJ.
        memory: Count memory and addressing too.
    """

    name: str
    add: float
    mul: float
    memory: bool = False

    def arithmetic(self, mul: float, add: float) -> float:
        """Return the energy in pJ of multiplications and additions."""
        return mul * self.mul + add * self.add


FP32 = Convention("fp32", 0.9, 3.7)
INT8 = Convention("int8", 0.03, 0.2)
LEMAIRE = Convention("lemaire", 0.1, 3.1, memory=True)
CONVENTIONS = (FP32, INT8, LEMAIRE)


@dataclass(frozen=True, slots=True)
class EnergyCost:
    """Energy in pJ. Costs can be added."""

    arithmetic: float = 0.0
    memory: float = 0.0
    addressing: float = 0.0

    def __add__(self, other: EnergyCost) -> EnergyCost:
        return EnergyCost(
            self.arithmetic + other.arithmetic,
            self.memory + other.memory,
            self.addressing + other.addressing,
        )

    @property
    def total(self) -> float:
        """Sum of the three parts."""
        return self.arithmetic + self.memory + self.addressing


def access(size: float) -> float:
    """Return the energy in pJ of an access to a word in a memory of `size` bytes."""
    for (x0, y0), (x1, y1) in pairwise(_MEMORIES):
        if size <= x1:
            return y0 + (y1 - y0) * (size - x0) / (x1 - x0)
    return _MEMORIES[-1][1]


def synapse_cost(layer: Synapses, steps: float, operations: float, by: Convention) -> EnergyCost:
    """Return the energy of a synaptic layer.

    Args:
        layer: Counts of the layer.
        steps: Number of time steps T.
        operations: ACs, or MACs if its inputs are numbers, by the selected fan-out.
        by: The convention.
    """
    if not layer.spiking:
        multiplied = by.arithmetic(operations, operations)
        if not by.memory:
            return EnergyCost(multiplied)
        frames = max(layer.frames, 1.0)
        read = operations * (access(layer.inputs / frames * WORD) + access(layer.weights * WORD))
        return EnergyCost(
            multiplied, read, (layer.inputs + layer.outputs + layer.filters * frames) * by.add
        )
    added = by.arithmetic(0, operations)
    if not by.memory:
        return EnergyCost(added)
    potentials = layer.outputs / min(max(layer.frames, 1.0), max(steps, 1.0))
    touched = access(layer.weights * WORD) + 2 * access(potentials * WORD)
    first = 2 * layer.events * (by.mul + by.add) if layer.filters else 0.0
    return EnergyCost(
        added,
        layer.events * access(QUEUE * WORD) + operations * touched,
        first + operations * by.add,
    )


def update_cost(layer: Neurons, by: Convention) -> EnergyCost:
    """Return the energy of a neuron layer's updates, which does not depend on spikes."""
    done = layer.operations
    worked = layer.updates * by.arithmetic(done.mul, done.add)
    if not by.memory:
        return EnergyCost(worked)
    states = layer.neurons * layer.states
    moved = 2 * states * layer.steps * access(states * WORD)
    read = layer.parameters * layer.steps * access(layer.parameters * WORD)
    return EnergyCost(worked, moved + read)


def spike_cost(layer: Neurons, by: Convention) -> EnergyCost:
    """Return the energy of a neuron layer's spikes: a reset and a message for each."""
    reset = layer.spikes * layer.operations.reset_add * by.add
    return EnergyCost(reset, layer.spikes * access(QUEUE * WORD) if by.memory else 0.0)


# Operation counts of one layer in one inference, without energies.


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
