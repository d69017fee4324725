"""Spiking VGG: 3x3 convolutions, tdBN and neurons, pooling between, one linear readout.

VGG-11 has the convolutions of configuration A of Simonyan and Zisserman 2015 (arXiv 1409.1556);
VGGSNN is the network for event frames of Deng et al. 2022 (arXiv 2202.11946).
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from lnm_codegen.errors import ModelError
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.train.models.base import (
    Network,
    Task,
    check_choice,
    check_neuron,
    check_size,
    checked_frames,
    checked_steps,
    over_steps,
    read,
    shown,
)
from lnm_codegen.train.models.norm import ConvNorm, Make, maker, threshold_of

POOLS = {"max": nn.MaxPool2d, "avg": nn.AvgPool2d}


@dataclass(frozen=True, slots=True)
class Design:
    """A VGG: channels of each convolution in units of the first one's, 0 for a pooling by 2."""

    name: str
    plan: tuple[int, ...]
    pool: str


VGG11 = Design("vgg11", (1, 0, 2, 0, 4, 4, 0, 8, 8, 0, 8, 8, 0), "max")
VGGSNN = Design("vggsnn", (1, 2, 0, 4, 4, 0, 8, 8, 0, 8, 8, 0), "avg")


class Unit(nn.Module):
    """Convolution, tdBN, neuron."""

    def __init__(
        self, make: Make, inputs: int, shape: tuple[int, int, int], threshold: float
    ) -> None:
        super().__init__()
        self.weights = ConvNorm(inputs, shape[0], scale=threshold)
        self.neuron = make(shape)

    def forward(self, x_seq: Tensor) -> Tensor:
        """Run the unit."""
        spikes: Tensor = self.neuron(self.weights(x_seq))
        return spikes


class Vgg(Network):
    """A VGG of any design.

    Args:
        design: `VGG11` or `VGGSNN`.
        neuron: Of every layer, one input and one output.
        task: Images, or event frames.
        backend: Of the neuron layers.
        width: Channels of the first convolution; the others are 2, 4 and 8 times as many.
        pool: "max" or "avg"; "max" in VGG-11, "avg" in VGGSNN by default.
        time_steps: How often an image is shown; 4 by default.

    Shape:
        images (N, C, H, W), or event frames (T, N, C, H, W) -> (N, classes), or (T, N, classes)
        per step.

    Raises:
        ModelError: An option outside what is said here; an image that is pooled away.
    """

    def __init__(
        self,
        design: Design,
        neuron: Neuron,
        task: Task,
        *,
        backend: str = "auto",
        width: int = 64,
        pool: str | None = None,
        time_steps: int | None = None,
    ) -> None:
        super().__init__()
        check_neuron(neuron)
        check_size(design.name, "width", width)
        pool = design.pool if pool is None else pool
        check_choice(design.name, "pool", pool, tuple(POOLS))
        inputs, height, width_px = checked_frames(design.name, task)
        self.time_steps = checked_steps(design.name, task, time_steps)
        self.per_step = task.per_step
        halvings = design.plan.count(0)
        if min(height, width_px) < 2**halvings:
            raise ModelError(
                design.name,
                f"{halvings} poolings leave nothing of {height}x{width_px} pixels",
                f"{2**halvings}x{2**halvings} or more",
            )
        make, threshold = maker(neuron, backend), threshold_of(neuron)
        self.layers = nn.ModuleList()
        for times in design.plan:
            if times:
                shape = (times * width, height, width_px)
                self.layers.append(Unit(make, inputs, shape, threshold))
                inputs = shape[0]
            else:
                self.layers.append(POOLS[pool](2))
                height, width_px = height // 2, width_px // 2
        self.readout = nn.Linear(inputs * height * width_px, task.classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of a batch."""
        x_seq = shown(x, self.time_steps)
        for layer in self.layers:
            x_seq = layer(x_seq) if isinstance(layer, Unit) else over_steps(layer, x_seq)
        return read(self.readout, x_seq.flatten(2), self.per_step)
