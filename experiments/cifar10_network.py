"""A small VGG for images of 32 x 32 that trains fast on a processor."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

import lnm_codegen as lnm
from lnm_codegen.nn.chain import mean_over_time
from lnm_codegen.nn.fusion.pair import Pair
from lnm_codegen.options import BackendName
from lnm_codegen.train.models.base import before_neuron, over_steps, repeated
from lnm_codegen.train.models.convolutional import Builder


class Unit(nn.Module):
    """Convolution, max pooling, normalisation, neurons."""

    def __init__(self, build: Builder, inputs: int, outputs: int, size: int, pool: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(outputs)
        self.pool = nn.MaxPool2d(2) if pool else nn.Identity()
        nn.init.constant_(self.norm.weight, build.threshold)
        self.size = size // 2 if pool else size
        self.neuron = build.neurons((outputs, self.size, self.size))

    def norm_pairs(self) -> tuple[Pair, ...]:
        """Return the normalisation and its neurons."""
        return (before_neuron("norm", "neuron"),)

    def forward(self, x_seq: Tensor) -> Tensor:
        """Return spikes (T, N, C, H, W)."""
        current_seq = over_steps(lambda x: self.norm(self.pool(self.conv(x))), x_seq)
        spikes: Tensor = self.neuron(current_seq)
        return spikes


class SmallVgg(nn.Module):
    """Units, and a linear readout of the mean of the last spikes over time.

    Args:
        neuron: The neuron of every layer.
        classes: Number of classes.
        backend: Of the neurons.
        plan: Channels of each unit; a negative number is one with a pooling.
        time_steps: T.

    Shape:
        images (N, 3, 32, 32) -> logits (N, classes).
    """

    def __init__(
        self,
        neuron: lnm.Neuron,
        classes: int,
        backend: BackendName = "auto",
        plan: Sequence[int] = (-64, -128, 128, -256, 256),
        time_steps: int = 4,
    ) -> None:
        super().__init__()
        build = Builder(neuron, backend)
        self.time_steps = time_steps
        self.units = nn.ModuleList()
        inputs, size = 3, 32
        for channels in plan:
            unit = Unit(build, inputs, abs(channels), size, channels < 0)
            self.units.append(unit)
            inputs, size = abs(channels), unit.size
        self.readout = nn.Linear(inputs * size * size, classes)
        lnm.nn.fuse(self)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of a batch."""
        x_seq = repeated(x, self.time_steps)
        for unit in self.units:
            x_seq = unit(x_seq)
        logits: Tensor = self.readout(mean_over_time(x_seq.flatten(2)))
        return logits
