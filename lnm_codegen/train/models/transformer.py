"""A small spike-driven transformer (Yao et al. 2023, arXiv 2307.01404), with any neuron in it.

Tokens are the pixels (T, N, D, H, W) of the patches; a linear layer on tokens is a 1x1 convolution.
N is a layer of neurons, U are currents, shortcuts add currents alone.

    patches     U = tdBN(conv(...)),  U = U + tdBN(conv(N(U)))
    attention   s = N(U);  q, k, v = N(tdBN(W s)) each
                a = q * N(sum over tokens of k * v)       masks and sums of spikes, no product
                U = U + tdBN(W a)
    MLP         U = U + tdBN(W_2 N(tdBN(W_1 N(U))))
    readout     of the mean over tokens of N(U)

The attention is that of the paper's released code; its text writes the same with other letters. It
acts on each channel alone, so that heads would change nothing.
"""

from __future__ import annotations

from torch import Tensor, nn

from lnm_codegen.errors import ModelError
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.train.models.base import (
    Network,
    Task,
    check_neuron,
    check_size,
    checked_frames,
    checked_steps,
    over_steps,
    read,
    shown,
)
from lnm_codegen.train.models.norm import ConvNorm, Make, maker, threshold_of

Shape = tuple[int, int, int]


class Patches(nn.Module):
    """Spiking patch splitting: four convolutions, pooling after the last `halvings` of them."""

    def __init__(
        self, make: Make, image: Shape, width: int, halvings: int, threshold: float
    ) -> None:
        super().__init__()
        inputs, height, pixels = image
        self.weights, self.neurons = nn.ModuleList(), nn.ModuleList()
        self.pools = nn.ModuleList()
        for k, part in enumerate((8, 4, 2, 1)):
            outputs = max(width // part, 1)
            halves = k >= 4 - halvings
            self.weights.append(ConvNorm(inputs, outputs, scale=threshold))
            self.pools.append(nn.MaxPool2d(3, 2, 1) if halves else nn.Identity())
            inside = (outputs, height, pixels)
            if halves:
                height, pixels = -(-height // 2), -(-pixels // 2)
            # The last one's currents are pooled before its neurons, the others' spikes after.
            self.neurons.append(make((outputs, height, pixels) if k == 3 else inside))
            inputs = outputs
        self.shape = (width, height, pixels)
        self.position = ConvNorm(width, width, scale=threshold)

    def forward(self, x_seq: Tensor) -> Tensor:
        """Return currents (T, N, D, H, W)."""
        for k, (weights, pool) in enumerate(zip(self.weights, self.pools, strict=True)):
            x_seq = weights(x_seq)
            if k < 3:
                x_seq = self.neurons[k](x_seq)
            x_seq = over_steps(pool, x_seq)
        position: Tensor = self.position(self.neurons[3](x_seq))
        return x_seq + position


class Attention(nn.Module):
    """Spike-driven self-attention, with its shortcut: currents to currents."""

    def __init__(self, make: Make, shape: Shape, threshold: float) -> None:
        super().__init__()
        width = shape[0]
        self.neuron = make(shape)
        self.q, self.k, self.v = (ConvNorm(width, width, 1, scale=threshold) for _ in range(3))
        self.q_neuron, self.k_neuron, self.v_neuron = (make(shape) for _ in range(3))
        self.mask_neuron = make((width, 1, 1))
        self.out = ConvNorm(width, width, 1, scale=threshold)

    def forward(self, current_seq: Tensor) -> Tensor:
        """Return currents (T, N, D, H, W)."""
        spikes = self.neuron(current_seq)
        q = self.q_neuron(self.q(spikes))
        agree = self.k_neuron(self.k(spikes)) * self.v_neuron(self.v(spikes))
        mask = self.mask_neuron(agree.sum((3, 4), keepdim=True))
        out: Tensor = self.out(q * mask)
        return current_seq + out


class Mlp(nn.Module):
    """Two layers of weights, with their shortcut: currents to currents."""

    def __init__(self, make: Make, shape: Shape, expansion: int, threshold: float) -> None:
        super().__init__()
        width, inner = shape[0], shape[0] * expansion
        self.neuron_1, self.neuron_2 = make(shape), make((inner, *shape[1:]))
        self.first = ConvNorm(width, inner, 1, scale=threshold)
        self.second = ConvNorm(inner, width, 1, scale=threshold)

    def forward(self, current_seq: Tensor) -> Tensor:
        """Return currents (T, N, D, H, W)."""
        out: Tensor = self.second(self.neuron_2(self.first(self.neuron_1(current_seq))))
        return current_seq + out


class Transformer(Network):
    """Patches, `depth` times attention and MLP, a linear readout.

    Args:
        neuron: Of every layer, one input and one output.
        task: Images, or event frames.
        backend: Of the neuron layers.
        width: D, channels of a token.
        depth: Blocks.
        expansion: Channels inside the MLP, in units of D.
        halvings: How often the image is halved, 0 to 4; (H/2^h)*(W/2^h) tokens.
        time_steps: How often an image is shown; 4 by default.

    Shape:
        images (N, C, H, W), or event frames (T, N, C, H, W) -> (N, classes), or (T, N, classes)
        per step.

    Raises:
        ModelError: An option outside what is said here.
    """

    def __init__(
        self,
        neuron: Neuron,
        task: Task,
        *,
        backend: str = "auto",
        width: int = 128,
        depth: int = 2,
        expansion: int = 4,
        halvings: int = 2,
        time_steps: int | None = None,
    ) -> None:
        super().__init__()
        check_neuron(neuron)
        for word, value in (("width", width), ("depth", depth), ("expansion", expansion)):
            check_size("transformer", word, value)
        if halvings not in range(5):
            raise ModelError("transformer", f"halvings is {halvings!r}", "an integer from 0 to 4")
        image = checked_frames("transformer", task)
        self.time_steps = checked_steps("transformer", task, time_steps)
        self.per_step = task.per_step
        make, threshold = maker(neuron, backend), threshold_of(neuron)
        self.patches = Patches(make, image, width, halvings, threshold)
        shape = self.patches.shape
        self.blocks = nn.ModuleList()
        for _ in range(depth):
            self.blocks.append(Attention(make, shape, threshold))
            self.blocks.append(Mlp(make, shape, expansion, threshold))
        self.last_neuron = make(shape)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.readout = nn.Linear(width, task.classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of a batch."""
        current_seq = self.patches(shown(x, self.time_steps))
        for block in self.blocks:
            current_seq = block(current_seq)
        features = over_steps(self.pool, self.last_neuron(current_seq)).flatten(2)
        return read(self.readout, features, self.per_step)
