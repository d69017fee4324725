"""What counts cost, under a stated convention.

Prices per operation are those of 45 nm, 0.9 V (M. Horowitz, ISSCC 2014), in pJ:

    FP32   add 0.9, mul 3.7      INT8   add 0.03, mul 0.2      INT32   add 0.1, mul 3.1

`FP32` and `INT8` price operations alone, as most papers on spiking networks do: an AC is an
addition, a MAC a multiplication and an addition. `LEMAIRE` adds memory and addressing, after
Lemaire et al., "An Analytical Estimation of Spiking Neural Networks Energy Efficiency" (ICONIP
2022), in INT32. Per inference, with `ac` the synaptic operations of `events` spikes:

    memory       a spike is read and written as a message; every AC reads a weight, and reads and
                 writes a potential; an update of a neuron reads and writes each of its states.
                 A MAC reads its input and its weight. A step reads the layer's parameters.
    addressing   a spike into a convolution: 2 MACs; every AC: 1 addition. For numbers, an addition
                 for each input, each output and each weight of a kernel and output channel.
    an access    10, 20, 100 pJ a word from a memory of 8 kB, 32 kB, 1 MB; between them, and down
                 to 0, on a line; 100 pJ beyond. Messages wait in a queue of 1000 words.

The paper takes the fan-out of a convolution as (K/stride)**2 outputs of each channel; here it is
what `fan_out` says, for operations and memory alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from lnm_codegen.insight.energy.layers import Neurons, Synapses

WORD, QUEUE = 4, 1000
"""Bytes of a word in `LEMAIRE`; messages that its queues hold."""
_MEMORIES = ((0.0, 0.0), (8192.0, 10.0), (32768.0, 20.0), (1048576.0, 100.0))


@dataclass(frozen=True, slots=True)
class Convention:
    """Prices.

    Attributes:
        name: The word that the report and JSON have for it.
        add: pJ of an addition.
        mul: pJ of a multiplication.
        memory: Whether memory and addressing are priced too.
    """

    name: str
    add: float
    mul: float
    memory: bool = False

    def arithmetic(self, mul: float, add: float) -> float:
        """Return the pJ of so many multiplications and additions."""
        return mul * self.mul + add * self.add


FP32 = Convention("fp32", 0.9, 3.7)
INT8 = Convention("int8", 0.03, 0.2)
LEMAIRE = Convention("lemaire", 0.1, 3.1, memory=True)
CONVENTIONS = (FP32, INT8, LEMAIRE)


@dataclass(frozen=True, slots=True)
class Cost:
    """pJ of an inference; costs add."""

    arithmetic: float = 0.0
    memory: float = 0.0
    addressing: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.arithmetic + other.arithmetic,
            self.memory + other.memory,
            self.addressing + other.addressing,
        )

    @property
    def total(self) -> float:
        """All of it."""
        return self.arithmetic + self.memory + self.addressing


def access(size: float) -> float:
    """Return the pJ of reading or writing a word in a memory of `size` bytes."""
    for (x0, y0), (x1, y1) in pairwise(_MEMORIES):
        if size <= x1:
            return y0 + (y1 - y0) * (size - x0) / (x1 - x0)
    return _MEMORIES[-1][1]


def synapse_cost(layer: Synapses, steps: float, operations: float, by: Convention) -> Cost:
    """Return what a synaptic layer costs.

    Args:
        layer: Its counts.
        steps: T of the network.
        operations: Its AC, or MAC where numbers enter, by the fan-out that was chosen.
        by: The convention.
    """
    if not layer.spiking:
        multiplied = by.arithmetic(operations, operations)
        if not by.memory:
            return Cost(multiplied)
        frames = max(layer.frames, 1.0)
        read = operations * (access(layer.inputs / frames * WORD) + access(layer.weights * WORD))
        return Cost(
            multiplied, read, (layer.inputs + layer.outputs + layer.filters * frames) * by.add
        )
    added = by.arithmetic(0, operations)
    if not by.memory:
        return Cost(added)
    potentials = layer.outputs / min(max(layer.frames, 1.0), max(steps, 1.0))
    touched = access(layer.weights * WORD) + 2 * access(potentials * WORD)
    first = 2 * layer.events * (by.mul + by.add) if layer.filters else 0.0
    return Cost(
        added,
        layer.events * access(QUEUE * WORD) + operations * touched,
        first + operations * by.add,
    )


def update_cost(layer: Neurons, by: Convention) -> Cost:
    """Return what the updates of a neuron layer cost, whatever it fires."""
    done = layer.operations
    worked = layer.updates * by.arithmetic(done.mul, done.add)
    if not by.memory:
        return Cost(worked)
    states = layer.neurons * layer.states
    moved = 2 * states * layer.steps * access(states * WORD)
    read = layer.parameters * layer.steps * access(layer.parameters * WORD)
    return Cost(worked, moved + read)


def spike_cost(layer: Neurons, by: Convention) -> Cost:
    """Return what the spikes of a neuron layer cost it: the reset, and a message each."""
    reset = layer.spikes * layer.operations.reset_add * by.add
    return Cost(reset, layer.spikes * access(QUEUE * WORD) if by.memory else 0.0)
