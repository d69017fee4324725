"""A small convolutional spiking network, with any neuron."""

from __future__ import annotations

from torch import Tensor, nn

from lnm_codegen.errors import ModelError
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.nn import NeuronLayer
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
from lnm_codegen.train.models.norm import ConvNorm
from lnm_codegen.validation import require_integers


class ConvBlock(ConvNorm):
    """Convolution, batch norm, neuron, pooling: (T, N, C, H, W) -> (T, N, C', H/2, W/2)."""

    def __init__(
        self, neuron: Neuron, inputs: int, outputs: int, size: tuple[int, int], backend: BackendName
    ) -> None:
        super().__init__(inputs, outputs)
        self.neuron = NeuronLayer(neuron, channels=outputs, shape=(outputs, *size), backend=backend)
        self.pool = nn.MaxPool2d(2)

    def norm_pairs(self) -> tuple[Pair, ...]:
        """Return the normalisation and the neurons."""
        return (before_neuron("norm", "neuron"),)

    def forward(self, x_seq: Tensor) -> Tensor:
        """Run the block."""
        return over_steps(self.pool, self.neuron(super().forward(x_seq)))


class ConvNet(FrameNetwork):
    """Blocks, then a linear readout of their spikes.

    Direct encoding: the image itself is the input current of every step, so the first convolution
    is the encoder. It runs once, not T times. Event frames run as they are.

    Args:
        neuron: Neuron of every block, with one input and one output.
        classes: Length of the readout.
        image: (C, H, W) of an image, or of an event frame.
        channels: Output channels of each block.
        time_steps: T of an image; None for event frames.
        backend: Backend of the neuron layers.
        per_step: Read out each step.
        fused: Run normalisation and neurons as one kernel; see `lnm.nn.fuse`.

    Raises:
        ModelError: More blocks than times that the image can be halved.
    """

    def __init__(
        self,
        neuron: Neuron,
        classes: int,
        image: Shape,
        channels: tuple[int, ...] = (16, 32),
        time_steps: int | None = 4,
        backend: BackendName = "auto",
        per_step: bool = False,
        fused: bool = True,
    ) -> None:
        super().__init__(time_steps, per_step)
        inputs, height, width = image
        blocks: list[ConvBlock] = []
        for outputs in channels:
            if min(height, width) < 2:
                problem = f"{len(channels)} blocks each halve an image of {image[1]}x{image[2]}"
                raise ModelError("conv", problem, f"at most {len(blocks)} channels here")
            blocks.append(ConvBlock(neuron, inputs, outputs, (height, width), backend))
            inputs, height, width = outputs, height // 2, width // 2
        self.blocks = nn.Sequential(*blocks)
        self.readout = nn.Linear(inputs * height * width, classes)
        self.fuse(fused)

    def chain(self) -> Chain:
        """Return the network as a chain of modules."""
        words = ("conv", "norm", "neuron", "pool")
        return self.chained(
            (f"blocks.{k}.{word}", getattr(block, word))
            for k, block in enumerate(self.blocks)
            for word in words
        )

    def features(self, x_seq: Tensor) -> Tensor:
        """Return the spikes (T, N, F) of the last block."""
        spikes: Tensor = self.blocks(x_seq)
        return spikes.flatten(2)


def conv_net(
    neuron: Neuron,
    task: Task,
    *,
    backend: BackendName = "auto",
    channels: tuple[int, ...] = (16, 32),
    time_steps: int | None = None,
    fused: bool = True,
) -> ConvNet:
    """Return a ConvNet for a task: images, repeated for 4 steps by default, or event frames."""
    image, steps = require_frames("conv", neuron, task, time_steps)
    widths = require_integers("conv", "channels", channels)
    return ConvNet(neuron, task.classes, image, widths, steps, backend, task.per_step, fused)
