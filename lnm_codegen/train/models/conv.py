"""A small convolutional spiking network, with any neuron in its place."""

from __future__ import annotations

from torch import Tensor, nn

from lnm_codegen.errors import ModelError
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.nn import NeuronLayer
from lnm_codegen.train.models.base import (
    Network,
    Task,
    check_neuron,
    checked_frames,
    checked_sizes,
    checked_steps,
    over_steps,
    read,
    shown,
)


class Block(nn.Module):
    """Convolution, batch norm, neuron, pooling: (T, N, C, H, W) -> (T, N, C', H/2, W/2)."""

    def __init__(
        self, neuron: Neuron, inputs: int, outputs: int, size: tuple[int, int], backend: str
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(outputs)
        self.neuron = NeuronLayer(neuron, channels=outputs, shape=(outputs, *size), backend=backend)
        self.pool = nn.MaxPool2d(2)

    def forward(self, x_seq: Tensor) -> Tensor:
        """Run the block. A time axis of stride 0 (one image, shown T times) is computed once."""
        current_seq = over_steps(lambda x: self.norm(self.conv(x)), x_seq)
        return over_steps(self.pool, self.neuron(current_seq))


class ConvNet(Network):
    """Blocks, then a linear readout of what they fire, averaged over time.

    Direct encoding: the image itself is the input current of every step, so that the first
    convolution is the encoder; it runs once, not T times. Event frames run as they are.

    Args:
        neuron: The neuron of every block, one input and one output.
        classes: Length of the readout.
        image: (C, H, W) of an image, or of an event frame.
        channels: Output channels of each block.
        time_steps: T; None where the input is a sequence.
        backend: Of the neuron layers.
        per_step: Read out each step.

    Shape:
        images (N, C, H, W), or sequences (T, N, C, H, W) -> logits (N, classes), or
        (T, N, classes) per step.

    Raises:
        ModelError: More blocks than the image has halvings.
    """

    def __init__(
        self,
        neuron: Neuron,
        classes: int,
        image: tuple[int, int, int],
        channels: tuple[int, ...] = (16, 32),
        time_steps: int | None = 4,
        backend: str = "auto",
        per_step: bool = False,
    ) -> None:
        super().__init__()
        self.time_steps, self.per_step = time_steps, per_step
        inputs, height, width = image
        blocks: list[Block] = []
        for outputs in channels:
            if min(height, width) < 2:
                raise ModelError(
                    "train",
                    f"{len(channels)} blocks halve an image of {image[1]}x{image[2]} pixels away",
                    f"at most {len(blocks)} channels here",
                )
            blocks.append(Block(neuron, inputs, outputs, (height, width), backend))
            inputs, height, width = outputs, height // 2, width // 2
        self.blocks = nn.Sequential(*blocks)
        self.readout = nn.Linear(inputs * height * width, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of a batch of images, or of event frames."""
        spikes: Tensor = self.blocks(shown(images, self.time_steps))
        return read(self.readout, spikes.flatten(2), self.per_step)


def conv_net(
    neuron: Neuron,
    task: Task,
    *,
    backend: str = "auto",
    channels: tuple[int, ...] = (16, 32),
    time_steps: int | None = None,
) -> ConvNet:
    """Return a ConvNet for a task: images, shown 4 times by default, or event frames."""
    check_neuron(neuron)
    image = checked_frames("conv", task)
    steps = checked_steps("conv", task, time_steps)
    widths = checked_sizes("conv", "channels", channels)
    return ConvNet(neuron, task.classes, image, widths, steps, backend, task.per_step)
