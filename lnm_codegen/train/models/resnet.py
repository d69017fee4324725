"""Spiking ResNets with basic blocks and three kinds of shortcut.

    "tdbn"  o = N(F(x) + S(x))          F = tdBN conv N tdBN conv; both branches start at alpha =
                                        1/sqrt(2)    Zheng et al. 2021, arXiv 2011.05280
    "ms"    o = F(N(x)) + S(x)          x, o are currents and F's last scale starts at 0; spikes
                                        are never added    Hu et al. 2021, arXiv 2112.08954
    "sew"   o = g(N(F(x)), N(S(x)))     g adds spikes, or is a logic gate
                                                     Fang et al. 2021, arXiv 2102.04159

N is a layer of neurons. S is the identity, or conv 1x1 and tdBN where the shape changes; only in
that case "sew" has an N after S. ResNet-18 and 34 are the designs of He et al. 2016 (arXiv
1512.03385) for ImageNet. ResNet-20 is their design for CIFAR with 1x1 convolutions in the
shortcuts. ResNet-19 is the design of the tdBN paper.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn

from lnm_codegen.language.neuron import Neuron
from lnm_codegen.nn.fusion.pair import Pair
from lnm_codegen.nn.norm.layer import with_shortcut
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


@dataclass(frozen=True, slots=True)
class ResNetDesign:
    """A ResNet: blocks and channels of each stage, and neurons before the readout, if any."""

    name: str
    blocks: tuple[int, ...]
    widths: tuple[int, ...]
    hidden: int = 0


RESNET18 = ResNetDesign("resnet18", (2, 2, 2, 2), (64, 128, 256, 512))
RESNET34 = ResNetDesign("resnet34", (3, 4, 6, 3), (64, 128, 256, 512))
RESNET20 = ResNetDesign("resnet20", (3, 3, 3), (16, 32, 64))
RESNET19 = ResNetDesign("resnet19", (3, 3, 2), (128, 256, 512), hidden=256)

CONNECT: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "add": lambda a, s: a + s,
    "and": lambda a, s: a * s,
    "iand": lambda a, s: (1 - a) * s,
}
"""g of "sew", of the spikes of the branch and of the shortcut."""


def strided(shape: Shape, channels: int, stride: int) -> Shape:
    """Return the shape after a convolution to `channels`, or a pooling, with a stride."""
    return channels, -(-shape[1] // stride), -(-shape[2] // stride)


class ResNetBlock(nn.Module):
    """The convolutions of a block, from frames of shape `before` to frames of shape `after`.

    `alpha` and `alpha_short` are the initial scales, in units of the threshold, of F's last
    normalisation and of S.
    """

    def __init__(
        self,
        build: Builder,
        before: Shape,
        channels: int,
        stride: int,
        alpha: float = 1.0,
        alpha_short: float = 1.0,
    ) -> None:
        super().__init__()
        self.after = strided(before, channels, stride)
        self.first = build.conv(before[0], channels, stride=stride)
        self.second = build.conv(channels, channels, alpha=alpha)
        self.short: nn.Module = nn.Identity()
        if stride != 1 or channels != before[0]:
            self.short = build.conv(before[0], channels, 1, stride=stride, alpha=alpha_short)


class TdBlock(ResNetBlock):
    """The block "tdbn": spikes to spikes."""

    def __init__(self, build: Builder, before: Shape, channels: int, stride: int) -> None:
        super().__init__(build, before, channels, stride, alpha=0.5**0.5, alpha_short=0.5**0.5)
        self.neuron_1, self.neuron_2 = build.neurons(self.after), build.neurons(self.after)

    def norm_pairs(self) -> tuple[Pair, ...]:
        """Return the normalisations of F and their neurons."""
        first = before_neuron("first.norm", "neuron_1")
        return first, before_neuron("second.norm", "neuron_2", shortcut=True)

    def forward(self, x_seq: Tensor) -> Tensor:
        """Return spikes."""
        branch = self.second(self.neuron_1(self.first(x_seq)))
        return with_shortcut(self.neuron_2, branch, self.short(x_seq))


class MsBlock(ResNetBlock):
    """The block "ms": currents to currents."""

    def __init__(self, build: Builder, before: Shape, channels: int, stride: int) -> None:
        super().__init__(build, before, channels, stride, alpha=0.0)
        self.neuron_1, self.neuron_2 = build.neurons(before), build.neurons(self.after)

    def norm_pairs(self) -> tuple[Pair, ...]:
        """Return the first normalisation and its neurons; the others' outputs are added."""
        return (before_neuron("first.norm", "neuron_2"),)

    def forward(self, x_seq: Tensor) -> Tensor:
        """Return currents."""
        branch = self.second(self.neuron_2(self.first(self.neuron_1(x_seq))))
        current_seq: Tensor = branch + self.short(x_seq)
        return current_seq


class SewBlock(ResNetBlock):
    """The block "sew": spikes to spikes, or to counts of them if g adds them."""

    def __init__(
        self, build: Builder, before: Shape, channels: int, stride: int, connect: str
    ) -> None:
        super().__init__(build, before, channels, stride)
        self.neuron_1, self.neuron_2 = build.neurons(self.after), build.neurons(self.after)
        is_identity = isinstance(self.short, nn.Identity)
        self.neuron_short = nn.Identity() if is_identity else build.neurons(self.after)
        self.connect = connect

    def norm_pairs(self) -> tuple[Pair, ...]:
        """Return the normalisations and their neurons."""
        words = [("first", "neuron_1"), ("second", "neuron_2"), ("short", "neuron_short")]
        count = 2 if isinstance(self.short, nn.Identity) else 3
        return tuple(before_neuron(f"{name}.norm", neuron) for name, neuron in words[:count])

    def forward(self, x_seq: Tensor) -> Tensor:
        """Return spikes, or counts."""
        branch: Tensor = self.neuron_2(self.second(self.neuron_1(self.first(x_seq))))
        return CONNECT[self.connect](branch, self.neuron_short(self.short(x_seq)))


class ResNet(FrameNetwork):
    """A ResNet of any design.

    Args, besides those of every network:
        design: `RESNET18`, `RESNET19`, `RESNET20` or `RESNET34`.
        shortcut: "tdbn", "ms" or "sew".
        connect: g of "sew": "add", "and" or "iand".
        stem: "cifar", a 3x3 convolution; or "imagenet", 7x7 with stride 2, then max pooling by 2.
        width: Channels of the first stage, the others in proportion; None for the design's.

    Raises:
        ModelError: An option out of its range.
    """

    def __init__(
        self,
        design: ResNetDesign,
        neuron: Neuron,
        task: Task,
        *,
        backend: BackendName = "auto",
        shortcut: str = "tdbn",
        connect: str = "add",
        stem: str = "cifar",
        width: int | None = None,
        time_steps: int | None = None,
        fused: bool = True,
    ) -> None:
        frame, steps = require_frames(design.name, neuron, task, time_steps)
        super().__init__(steps, task.per_step)
        kinds: dict[str, Callable[..., ResNetBlock]] = {
            "tdbn": TdBlock,
            "ms": MsBlock,
            "sew": partial(SewBlock, connect=connect),
        }
        require_one_of(design.name, "shortcut", shortcut, tuple(kinds))
        require_one_of(design.name, "connect", connect, tuple(CONNECT))
        require_one_of(design.name, "stem", stem, ("cifar", "imagenet"))
        base = design.widths[0]
        width = require_integer(design.name, "width", base if width is None else width)
        build = Builder(neuron, backend)
        large = stem == "imagenet"
        kernel, stride = (7, 2) if large else (3, 1)
        self.stem = build.conv(frame[0], width, kernel, stride=stride)
        shape = strided(frame, width, stride)
        self.stem_neuron = nn.Identity() if shortcut == "ms" else build.neurons(shape)
        self.stem_pool = nn.MaxPool2d(3, 2, 1) if large else nn.Identity()
        shape = strided(shape, width, 2 if large else 1)
        self.blocks = nn.ModuleList()
        for stage, (count, channels) in enumerate(zip(design.blocks, design.widths, strict=True)):
            for k in range(count):
                stride = 2 if stage and not k else 1
                outputs = max(channels * width // base, 1)
                block = kinds[shortcut](build, shape, outputs, stride)
                self.blocks.append(block)
                shape = block.after
        self.last_neuron = build.neurons(shape) if shortcut == "ms" else nn.Identity()
        self.pool = nn.AdaptiveAvgPool2d(1)
        features = shape[0]
        self.hidden: nn.Linear | None = None
        if design.hidden:
            hidden = max(design.hidden * width // base, 1)
            self.hidden = nn.Linear(features, hidden)
            self.hidden_neuron = build.neurons((hidden,))
            features = hidden
        self.readout = nn.Linear(features, task.classes)
        self.fuse(fused)

    def norm_pairs(self) -> tuple[Pair, ...]:
        """Return the normalisation and the neurons of the stem, if it has neurons."""
        has_neurons = not isinstance(self.stem_neuron, nn.Identity)
        return (before_neuron("stem.norm", "stem_neuron"),) if has_neurons else ()

    def features(self, x_seq: Tensor) -> Tensor:
        """Return the mean (T, N, F) over pixels, or the spikes of the hidden layer."""
        x_seq = over_steps(self.stem_pool, self.stem_neuron(self.stem(x_seq)))
        for block in self.blocks:
            x_seq = block(x_seq)
        features = over_steps(self.pool, self.last_neuron(x_seq)).flatten(2)
        if self.hidden is not None:
            features = self.hidden_neuron(self.hidden(features))
        return features
