"""Spiking ResNets with basic blocks, and three ways of the shortcut.

    "tdbn"  o = N(F(x) + S(x))          F = tdBN conv N tdBN conv; both branches start at alpha =
                                        1/sqrt(2)    Zheng et al. 2021, arXiv 2011.05280
    "ms"    o = F(N(x)) + S(x)          x, o are currents and F's last scale starts at 0; no spike
                                        is added     Hu et al. 2021, arXiv 2112.08954
    "sew"   o = g(N(F(x)), N(S(x)))     g adds spikes, or is a logic gate
                                                     Fang et al. 2021, arXiv 2102.04159

N is a layer of neurons. S is the identity, or conv 1x1 and tdBN where the shape changes; the N
after S in "sew" is there in that case alone. ResNet-18 and 34 are the designs of He et al. 2016
(arXiv 1512.03385) for ImageNet, 20 theirs for CIFAR with 1x1 convolutions in the shortcuts, 19 that
of the tdBN paper.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

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
from lnm_codegen.train.models.norm import HALF, ConvNorm, Make, maker, threshold_of


@dataclass(frozen=True, slots=True)
class Design:
    """A ResNet: blocks and channels of each stage, and neurons before the readout, if any."""

    name: str
    blocks: tuple[int, ...]
    widths: tuple[int, ...]
    hidden: int = 0


RESNET18 = Design("resnet18", (2, 2, 2, 2), (64, 128, 256, 512))
RESNET34 = Design("resnet34", (3, 4, 6, 3), (64, 128, 256, 512))
RESNET20 = Design("resnet20", (3, 3, 3), (16, 32, 64))
RESNET19 = Design("resnet19", (3, 3, 2), (128, 256, 512), hidden=256)

CONNECT: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "add": lambda a, s: a + s,
    "and": lambda a, s: a * s,
    "iand": lambda a, s: (1 - a) * s,
}
"""g of "sew", of the spikes of the branch and of the shortcut."""


@dataclass(frozen=True, slots=True)
class Place:
    """What a block is given: channels and size before and after, and the threshold."""

    inputs: int
    outputs: int
    size: tuple[int, int]
    stride: int
    threshold: float

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) after the stride."""
        height, width = (-(-n // self.stride) for n in self.size)
        return self.outputs, height, width

    @property
    def changes(self) -> bool:
        """Whether the shortcut needs a convolution."""
        return self.stride != 1 or self.inputs != self.outputs

    def convs(self, last: float, short: float) -> tuple[ConvNorm, ConvNorm, nn.Module]:
        """Return both convolutions of F and S, given alpha of F's last and of S."""
        first = ConvNorm(self.inputs, self.outputs, stride=self.stride, scale=self.threshold)
        second = ConvNorm(self.outputs, self.outputs, scale=last * self.threshold)
        if not self.changes:
            return first, second, nn.Identity()
        scale = short * self.threshold
        return (
            first,
            second,
            ConvNorm(self.inputs, self.outputs, 1, stride=self.stride, scale=scale),
        )


class TdBlock(nn.Module):
    """The block "tdbn"."""

    def __init__(self, make: Make, place: Place) -> None:
        super().__init__()
        self.first, self.second, self.short = place.convs(HALF, HALF)
        self.neuron_1, self.neuron_2 = make(place.shape), make(place.shape)

    def forward(self, x_seq: Tensor) -> Tensor:
        """Return spikes."""
        branch = self.second(self.neuron_1(self.first(x_seq)))
        spikes: Tensor = self.neuron_2(branch + self.short(x_seq))
        return spikes


class MsBlock(nn.Module):
    """The block "ms"."""

    def __init__(self, make: Make, place: Place) -> None:
        super().__init__()
        self.first, self.second, self.short = place.convs(0.0, 1.0)
        self.neuron_1 = make((place.inputs, *place.size))
        self.neuron_2 = make(place.shape)

    def forward(self, x_seq: Tensor) -> Tensor:
        """Return currents."""
        branch = self.second(self.neuron_2(self.first(self.neuron_1(x_seq))))
        current_seq: Tensor = branch + self.short(x_seq)
        return current_seq


class SewBlock(nn.Module):
    """The block "sew"."""

    def __init__(self, make: Make, place: Place, connect: str) -> None:
        super().__init__()
        self.first, self.second, self.short = place.convs(1.0, 1.0)
        self.neuron_1, self.neuron_2 = make(place.shape), make(place.shape)
        self.neuron_short = make(place.shape) if place.changes else nn.Identity()
        self.connect = connect

    def forward(self, x_seq: Tensor) -> Tensor:
        """Return spikes, or counts of them where they are added."""
        branch: Tensor = self.neuron_2(self.second(self.neuron_1(self.first(x_seq))))
        return CONNECT[self.connect](branch, self.neuron_short(self.short(x_seq)))


class ResNet(Network):
    """A ResNet of any design.

    Args:
        design: `RESNET18`, `RESNET19`, `RESNET20` or `RESNET34`.
        neuron: Of every layer, one input and one output.
        task: Images, or event frames.
        backend: Of the neuron layers.
        shortcut: "tdbn", "ms" or "sew".
        connect: g of "sew": "add", "and" or "iand".
        stem: "cifar", a 3x3 convolution; or "imagenet", 7x7 with stride 2, then max pooling by 2.
        width: Channels of the first stage, the others in proportion; None for the design's.
        time_steps: How often an image is shown; 4 by default.

    Shape:
        images (N, C, H, W), or event frames (T, N, C, H, W) -> (N, classes), or (T, N, classes)
        per step.

    Raises:
        ModelError: An option outside what is said here.
    """

    def __init__(
        self,
        design: Design,
        neuron: Neuron,
        task: Task,
        *,
        backend: str = "auto",
        shortcut: str = "tdbn",
        connect: str = "add",
        stem: str = "cifar",
        width: int | None = None,
        time_steps: int | None = None,
    ) -> None:
        super().__init__()
        check_neuron(neuron)
        check_choice(design.name, "shortcut", shortcut, ("tdbn", "ms", "sew"))
        check_choice(design.name, "connect", connect, tuple(CONNECT))
        check_choice(design.name, "stem", stem, ("cifar", "imagenet"))
        width = design.widths[0] if width is None else width
        check_size(design.name, "width", width)
        inputs, *size = checked_frames(design.name, task)
        self.time_steps = checked_steps(design.name, task, time_steps)
        self.per_step = task.per_step
        make, threshold = maker(neuron, backend), threshold_of(neuron)
        large = stem == "imagenet"
        kernel, stride = (7, 2) if large else (3, 1)
        self.stem = ConvNorm(inputs, width, kernel, stride=stride, scale=threshold)
        shape = Place(inputs, width, (size[0], size[1]), stride, threshold).shape
        self.stem_neuron = nn.Identity() if shortcut == "ms" else make(shape)
        self.stem_pool = nn.MaxPool2d(3, 2, 1) if large else nn.Identity()
        if large:
            shape = Place(width, width, shape[1:], 2, threshold).shape
        self.blocks = nn.ModuleList()
        for stage, (count, channels) in enumerate(zip(design.blocks, design.widths, strict=True)):
            outputs = max(channels * width // design.widths[0], 1)
            for k in range(count):
                stride = 2 if stage and not k else 1
                place = Place(shape[0], outputs, shape[1:], stride, threshold)
                match shortcut:
                    case "tdbn":
                        block: nn.Module = TdBlock(make, place)
                    case "ms":
                        block = MsBlock(make, place)
                    case _:
                        block = SewBlock(make, place, connect)
                self.blocks.append(block)
                shape = place.shape
        self.last_neuron = make(shape) if shortcut == "ms" else nn.Identity()
        self.pool = nn.AdaptiveAvgPool2d(1)
        features = shape[0]
        self.hidden: nn.Linear | None = None
        if design.hidden:
            hidden = max(design.hidden * width // design.widths[0], 1)
            self.hidden = nn.Linear(features, hidden)
            self.hidden_neuron = make((hidden,))
            features = hidden
        self.readout = nn.Linear(features, task.classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of a batch."""
        x_seq = self.stem_neuron(self.stem(shown(x, self.time_steps)))
        x_seq = over_steps(self.stem_pool, x_seq)
        for block in self.blocks:
            x_seq = block(x_seq)
        features = over_steps(self.pool, self.last_neuron(x_seq)).flatten(2)
        if self.hidden is not None:
            features = self.hidden_neuron(self.hidden(features))
        return read(self.readout, features, self.per_step)
