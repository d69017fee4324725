"""Spiking VGG: 3x3 convolutions, tdBN and neurons, pooling between, one linear readout.

VGG-11 has the convolutions of configuration A of Simonyan and Zisserman 2015 (arXiv 1409.1556);
VGGSNN is the network for event frames of Deng et al. 2022 (arXiv 2202.11946).
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from lnm_codegen.errors import ModelError
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.nn.chain import Chain
from lnm_codegen.nn.fusion.pair import Pair
from lnm_codegen.options import BackendName
from lnm_codegen.train.models.base import (
    FrameNetwork,
    Shape,
    Task,
    before_neuron,
    over_steps,
    require_frames,
)
from lnm_codegen.train.models.norm import Builder
from lnm_codegen.validation import require_integer, require_one_of

POOLS = {"max": nn.MaxPool2d, "avg": nn.AvgPool2d}


@dataclass(frozen=True, slots=True)
class VggDesign:
    """A VGG: channels of each convolution in units of the first one's, 0 for a pooling by 2."""

    name: str
    plan: tuple[int, ...]
    pool: str


VGG11 = VggDesign("vgg11", (1, 0, 2, 0, 4, 4, 0, 8, 8, 0, 8, 8, 0), "max")
VGGSNN = VggDesign("vggsnn", (1, 2, 0, 4, 4, 0, 8, 8, 0, 8, 8, 0), "avg")


class Unit(nn.Module):
    """Convolution, tdBN, neuron."""

    def __init__(self, build: Builder, inputs: int, shape: Shape) -> None:
        super().__init__()
        self.weights = build.conv(inputs, shape[0])
        self.neuron = build.neurons(shape)

    def norm_pairs(self) -> tuple[Pair, ...]:
        """Return the normalisation and the neurons."""
        return (before_neuron("weights.norm", "neuron"),)

    def forward(self, x_seq: Tensor) -> Tensor:
        """Run the unit."""
        spikes: Tensor = self.neuron(self.weights(x_seq))
        return spikes


class Vgg(FrameNetwork):
    """A VGG of any design.

    Args, besides those of every network:
        design: `VGG11` or `VGGSNN`.
        width: Channels of the first convolution; the others are 2, 4 and 8 times as many.
        pool: "max" or "avg"; "max" in VGG-11, "avg" in VGGSNN by default.

    Raises:
        ModelError: An option out of its range, or an image too small for the poolings.
    """

    def __init__(
        self,
        design: VggDesign,
        neuron: Neuron,
        task: Task,
        *,
        backend: BackendName = "auto",
        width: int = 64,
        pool: str | None = None,
        time_steps: int | None = None,
        fused: bool = True,
    ) -> None:
        (inputs, height, width_px), steps = require_frames(design.name, neuron, task, time_steps)
        super().__init__(steps, task.per_step)
        require_integer(design.name, "width", width)
        pool = design.pool if pool is None else pool
        require_one_of(design.name, "pool", pool, tuple(POOLS))
        least = 2 ** design.plan.count(0)
        if min(height, width_px) < least:
            problem = f"{design.plan.count(0)} poolings of an image of {height}x{width_px} pixels"
            raise ModelError(design.name, problem, f"{least}x{least} or more")
        build = Builder(neuron, backend)
        self.layers = nn.ModuleList()
        for times in design.plan:
            if times:
                self.layers.append(Unit(build, inputs, (times * width, height, width_px)))
                inputs = times * width
            else:
                self.layers.append(POOLS[pool](2))
                height, width_px = height // 2, width_px // 2
        self.readout = nn.Linear(inputs * height * width_px, task.classes)
        self.fuse(fused)

    def chain(self) -> Chain:
        """Return the network as a chain of modules."""
        words = ("weights.conv", "weights.norm", "neuron")
        return self.chained(
            (f"layers.{k}.{word}".rstrip("."), layer.get_submodule(word))
            for k, layer in enumerate(self.layers)
            for word in (words if isinstance(layer, Unit) else ("",))
        )

    def features(self, x_seq: Tensor) -> Tensor:
        """Return the last pooled spikes (T, N, F)."""
        for layer in self.layers:
            x_seq = layer(x_seq) if isinstance(layer, Unit) else over_steps(layer, x_seq)
        return x_seq.flatten(2)
