"""A small convolutional spiking network, with any neuron in its place."""

from __future__ import annotations

from torch import Tensor, nn

from lnm_codegen.errors import ModelError
from lnm_codegen.neuron import Neuron
from lnm_codegen.nn import NeuronLayer


class Block(nn.Module):
    """Convolution, batch normalisation, neuron, pooling: (T, N, C, H, W) -> (T, N, C', H/2, W/2).

    The first three axes of a convolution's input are (T*N, C): time is one more batch axis to it.
    """

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
        steps, batch = x_seq.shape[:2]
        shown_once = x_seq.stride(0) == 0
        x = x_seq[0] if shown_once else x_seq.flatten(0, 1)
        current: Tensor = self.norm(self.conv(x))
        if shown_once:
            current_seq = current.expand(steps, *current.shape)
        else:
            current_seq = current.reshape(steps, batch, *current.shape[1:])
        spikes: Tensor = self.neuron(current_seq)
        pooled: Tensor = self.pool(spikes.flatten(0, 1))
        return pooled.reshape(steps, batch, *pooled.shape[1:])


class ConvNet(nn.Module):
    """Blocks, then a linear readout of what they fire, averaged over time.

    Direct encoding: the image itself is the input current of every step, so that the first
    convolution is the encoder; it runs once, not T times.

    Args:
        neuron: The neuron of every block, one input and one output.
        classes: Length of the readout.
        image: (C, H, W) of an image.
        channels: Output channels of each block.
        time_steps: T.
        backend: Of the neuron layers.

    Shape:
        images (N, C, H, W) -> logits (N, classes).

    Raises:
        ModelError: More blocks than the image has halvings.
    """

    def __init__(
        self,
        neuron: Neuron,
        classes: int,
        image: tuple[int, int, int],
        channels: tuple[int, ...] = (16, 32),
        time_steps: int = 4,
        backend: str = "auto",
    ) -> None:
        super().__init__()
        self.time_steps = time_steps
        inputs, height, width = image
        blocks: list[Block] = []
        for outputs in channels:
            if min(height, width) < 2:
                raise ModelError(
                    f"train: {len(channels)} blocks halve an image of {image[1]}x{image[2]} pixels"
                    f" away. Accepted: at most {len(blocks)} channels here."
                )
            blocks.append(Block(neuron, inputs, outputs, (height, width), backend))
            inputs, height, width = outputs, height // 2, width // 2
        self.blocks = nn.Sequential(*blocks)
        self.readout = nn.Linear(inputs * height * width, classes)

    @property
    def neurons(self) -> tuple[NeuronLayer, ...]:
        """The neuron layers, first to last."""
        return tuple(m for m in self.modules() if isinstance(m, NeuronLayer))

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of a batch of images."""
        x_seq = images.expand(self.time_steps, *images.shape)
        spikes: Tensor = self.blocks(x_seq)
        # The readout is linear, so the mean over time may come first.
        logits: Tensor = self.readout(spikes.mean(0).flatten(1))
        return logits


def parameter_groups(network: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Return the weights, and apart from them what the neurons learn."""
    layers = [m for m in network.modules() if isinstance(m, NeuronLayer)]
    learned = [p for layer in layers for p in layer.parameters()]
    known = {id(p) for p in learned}
    return [p for p in network.parameters() if id(p) not in known], learned
