"""A small spike-driven transformer (Yao et al. 2023, arXiv 2307.01404), with any neuron.

Tokens are the pixels (T, N, D, H, W) of the patches; a linear layer on tokens is a 1x1 convolution.
N is a layer of neurons, U are currents, and shortcuts add only currents.

    patches     U = tdBN(conv(...)),  U = U + tdBN(conv(N(U)))
    attention   s = N(U);  q, k, v = N(tdBN(W s)) each
                a = q * N(sum over tokens of k * v)       masks and sums of spikes, no product
                U = U + tdBN(W a)
    MLP         U = U + tdBN(W_2 N(tdBN(W_1 N(U))))
    readout     of the mean over tokens of N(U)

The attention is that of the paper's released code; the paper uses other letters. It acts on each
channel alone, so several heads would be equivalent to one.
"""

from __future__ import annotations

from torch import Tensor, nn

from lnm_codegen.language.neuron import Neuron
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
from lnm_codegen.train.models.convolutional import Builder
from lnm_codegen.validation import require_integer, wrong


class Patches(nn.Module):
    """Spiking patch splitting: four convolutions, pooling after the last `halvings` of them."""

    def __init__(self, build: Builder, image: Shape, width: int, halvings: int) -> None:
        super().__init__()
        inputs, height, pixels = image
        self.weights, self.neurons = nn.ModuleList(), nn.ModuleList()
        self.pools = nn.ModuleList()
        for k, part in enumerate((8, 4, 2, 1)):
            outputs = max(width // part, 1)
            halves = k >= 4 - halvings
            self.weights.append(build.conv(inputs, outputs))
            self.pools.append(nn.MaxPool2d(3, 2, 1) if halves else nn.Identity())
            before = (outputs, height, pixels)
            if halves:
                height, pixels = -(-height // 2), -(-pixels // 2)
            # The currents of the last one are pooled before its neurons, the others' spikes after.
            self.neurons.append(build.neurons((outputs, height, pixels) if k == 3 else before))
            inputs = outputs
        self.shape = (width, height, pixels)
        self.position = build.conv(width, width)

    def norm_pairs(self) -> tuple[Pair, ...]:
        """Return the normalisations and their neurons; the last one's output is pooled first."""
        return tuple(before_neuron(f"weights.{k}.norm", f"neurons.{k}") for k in range(3))

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
    """Spike-driven self-attention with its shortcut: currents to currents."""

    def __init__(self, build: Builder, shape: Shape) -> None:
        super().__init__()
        width = shape[0]
        self.neuron = build.neurons(shape)
        self.q, self.k, self.v = (build.conv(width, width, 1) for _ in range(3))
        self.q_neuron, self.k_neuron, self.v_neuron = (build.neurons(shape) for _ in range(3))
        self.mask_neuron = build.neurons((width, 1, 1))
        self.out = build.conv(width, width, 1)

    def norm_pairs(self) -> tuple[Pair, ...]:
        """Return the normalisations and their neurons."""
        return tuple(before_neuron(f"{word}.norm", f"{word}_neuron") for word in "qkv")

    def forward(self, current_seq: Tensor) -> Tensor:
        """Return currents (T, N, D, H, W)."""
        spikes = self.neuron(current_seq)
        q = self.q_neuron(self.q(spikes))
        both = self.k_neuron(self.k(spikes)) * self.v_neuron(self.v(spikes))
        mask = self.mask_neuron(both.sum((3, 4), keepdim=True))
        out: Tensor = self.out(q * mask)
        return current_seq + out


class Mlp(nn.Module):
    """Two layers of weights with their shortcut: currents to currents."""

    def __init__(self, build: Builder, shape: Shape, expansion: int) -> None:
        super().__init__()
        width, inner = shape[0], shape[0] * expansion
        self.neuron_1, self.neuron_2 = build.neurons(shape), build.neurons((inner, *shape[1:]))
        self.first, self.second = build.conv(width, inner, 1), build.conv(inner, width, 1)

    def norm_pairs(self) -> tuple[Pair, ...]:
        """Return the first normalisation and its neurons."""
        return (before_neuron("first.norm", "neuron_2"),)

    def forward(self, current_seq: Tensor) -> Tensor:
        """Return currents (T, N, D, H, W)."""
        out: Tensor = self.second(self.neuron_2(self.first(self.neuron_1(current_seq))))
        return current_seq + out


class Transformer(FrameNetwork):
    """Patches, `depth` times attention and MLP, a linear readout.

    Args, besides those of every network:
        width: D, channels of a token.
        depth: Number of blocks.
        expansion: Channels inside the MLP, in units of D.
        halvings: Number of poolings of the patches, 0 to 4; (H/2^h)*(W/2^h) tokens.

    Raises:
        ModelError: An option out of its range.
    """

    def __init__(
        self,
        neuron: Neuron,
        task: Task,
        *,
        backend: BackendName = "auto",
        width: int = 128,
        depth: int = 2,
        expansion: int = 4,
        halvings: int = 2,
        time_steps: int | None = None,
        fused: bool = True,
    ) -> None:
        image, steps = require_frames("transformer", neuron, task, time_steps)
        super().__init__(steps, task.per_step)
        for word, value in (("width", width), ("depth", depth), ("expansion", expansion)):
            require_integer("transformer", word, value)
        if halvings not in range(5):
            raise wrong("transformer", "halvings", halvings, "an integer from 0 to 4")
        build = Builder(neuron, backend)
        self.patches = Patches(build, image, width, halvings)
        shape = self.patches.shape
        self.blocks = nn.ModuleList()
        for _ in range(depth):
            self.blocks.extend((Attention(build, shape), Mlp(build, shape, expansion)))
        self.last_neuron = build.neurons(shape)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.readout = nn.Linear(width, task.classes)
        self.fuse(fused)

    def features(self, x_seq: Tensor) -> Tensor:
        """Return the mean of spikes (T, N, D) over tokens."""
        current_seq = self.patches(x_seq)
        for block in self.blocks:
            current_seq = block(current_seq)
        return over_steps(self.pool, self.last_neuron(current_seq)).flatten(2)
