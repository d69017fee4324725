"""ResNet-19 of tdBN (Zheng et al. 2021, AAAI) on 32x32 images, counted from its sizes and rates.

    conv 3 -> 128 | 3 blocks of 128 at 32x32 | 3 of 256 at 16x16 | 2 of 512 at 8x8 | mean | 256 | 10

A block is two 3x3 convolutions, each followed by a neuron layer; where channels change, the first
has stride 2 and a 1x1 convolution stands beside. The image is shown at every step and convolved
once. Mean fan-outs: AC = rate * steps * dense operations.
"""

from __future__ import annotations

from collections.abc import Sequence

from lnm_codegen.errors import ModelError
from lnm_codegen.families import FAMILIES
from lnm_codegen.insight.energy.cost import FP32, Convention
from lnm_codegen.insight.energy.layers import Layer, Neurons, Synapses
from lnm_codegen.insight.energy.neuron import NeuronOperations, neuron_operations
from lnm_codegen.insight.energy.report import EnergyReport, Overhead, overhead
from lnm_codegen.language.neuron import Neuron

_STAGES = ((128, 3, 32), (256, 3, 16), (512, 2, 8))
"""Channels, blocks and size of the images of each stage."""
NEURON_LAYERS = 18


def resnet19(
    neuron: Neuron, rates: float | Sequence[float], steps: int = 4, classes: int = 10
) -> EnergyReport:
    """Return the counts of one inference.

    Args:
        neuron: Of every layer.
        rates: Spikes per neuron and step: one number, or one for each of the 18 neuron layers.
        steps: T.
        classes: Outputs of the last layer.

    Raises:
        ModelError: Another number of rates, or one that is negative.
    """
    given = [float(rates)] * NEURON_LAYERS if isinstance(rates, int | float) else list(rates)
    if len(given) != NEURON_LAYERS or not all(rate >= 0 for rate in given):
        raise ModelError(
            "resnet19", f"rates is {rates!r}", f"one number >= 0, or {NEURON_LAYERS} of them"
        )
    net = _Net(given, steps, neuron_operations(neuron), neuron)
    net.conv("conv1", 3, 128, 32, 3)
    net.fire("conv1", 128 * 32 * 32)
    channels = 128
    for stage, (wide, blocks, size) in enumerate(_STAGES, 1):
        for block in range(1, blocks + 1):
            name, into = f"stage{stage}.block{block}", channels
            if into != wide:
                net.conv(f"{name}.shortcut", into, wide, size, 1)
            for k in (1, 2):
                net.conv(f"{name}.conv{k}", into if k == 1 else wide, wide, size, 3)
                net.fire(f"{name}.neuron{k}", wide * size * size)
            channels = wide
    net.linear("fc1", 512, 256)
    net.fire("fc1.neuron", 256)
    net.linear("fc2", 256, classes)
    return EnergyReport(tuple(net.layers), samples=1, fan_out="mean")


class _Net:
    """Layers so far; spikes come from the last neuron layer, or from the one before a block."""

    def __init__(
        self, rates: list[float], steps: int, operations: NeuronOperations, neuron: Neuron
    ) -> None:
        self.layers: list[Layer] = []
        self._rates, self._steps = rates, steps
        self._operations, self._neuron, self._fired = operations, neuron, 0

    def conv(self, name: str, channels: int, wide: int, size: int, kernel: int) -> None:
        """Add a convolution that makes images of size x size."""
        halved = self._fired > 0 and channels != wide
        inputs = channels * (2 * size if halved else size) ** 2
        filters = wide * kernel * kernel
        taps = channels * kernel * kernel
        self._add(name, inputs, wide * size * size, taps, wide * taps, filters)

    def linear(self, name: str, inputs: int, outputs: int) -> None:
        """Add a linear layer."""
        self._add(name, inputs, outputs, inputs, inputs * outputs, 0)

    def fire(self, name: str, neurons: int) -> None:
        """Add a neuron layer."""
        made = Neurons(
            name=name, neuron=self._neuron.name, neurons=neurons, steps=self._steps,
            spikes=self._rates[self._fired] * neurons * self._steps, operations=self._operations,
            states=len(self._neuron.states),
            parameters=sum(p.size or 1 for p in self._neuron.params),
        )  # fmt: skip
        self.layers.append(made)
        self._fired += 1

    def _add(
        self, name: str, inputs: int, outputs: int, taps: int, weights: int, filters: int
    ) -> None:
        first = not self._fired
        frames = 1 if first else self._steps
        rate = 0.0 if first else self._rates[self._fired - 1]
        dense = outputs * taps * frames
        made = Synapses(
            name=name, spiking=not first, encoder=first, inputs=inputs * frames,
            events=rate * inputs * frames, dense=dense, reached=dense if first else rate * dense,
            outputs=outputs * frames, frames=frames, weights=weights, filters=filters,
        )  # fmt: skip
        self.layers.append(made)


def resnet19_overhead(
    rates: float | Sequence[float],
    degree: int,
    *,
    baseline_rates: float | Sequence[float] | None = None,
    steps: int = 4,
    by: Convention = FP32,
) -> Overhead:
    """Return the overhead of an LNM over LIF, h = lambda*v + x, in ResNet-19.

    theta_0 is left out of the LNM, as the bias of the normalisation before it does its work: d
    multiplications and d additions a step, where LIF has one of each.

    Args:
        rates: Of the LNM, as for `resnet19`.
        degree: d.
        baseline_rates: Of LIF; the same by default.
        steps: T.
        by: The convention.
    """
    neuron = FAMILIES["lnm"](degree=degree, learn_theta_0=False)
    lif = FAMILIES["lif"](decay_input=False)
    same = rates if baseline_rates is None else baseline_rates
    return overhead(resnet19(neuron, rates, steps), resnet19(lif, same, steps), by)
