"""Convolutional networks: small ones, VGG, ResNet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import torch
from torch import Tensor, nn

from lnm_codegen.errors import ModelError, UnsupportedError
from lnm_codegen.language.binding import read_by
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.nn.chain import Chain
from lnm_codegen.nn.fusion.pair import Pair, joined
from lnm_codegen.nn.layer import NeuronLayer
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
from lnm_codegen.validation import require_integer, require_integers, require_one_of

# Threshold-dependent batch normalisation, with the convolution before and the neurons after it.
#
# tdBN (Zheng et al. 2021, arXiv 2011.05280) normalises over T, N, H and W and starts at a scale of
# alpha * v_threshold: alpha is 1, or 1/sqrt(2) where two normalised branches are added. With time
# as a batch axis, it is batch normalisation with another initial scale.


def threshold_of(neuron: Neuron) -> float:
    """Return the lowest potential at which a neuron at rest fires, with its initial parameters.

    It is h - z after a step without input. h is the first state that z = h - v_threshold reads, and
    the neuron fires at z >= 0. It is 1 for a neuron that never fires.
    """
    z = neuron.fire[0][1] if neuron.fire else None
    read = [s for s in neuron.states if z is not None and s in read_by(z, dict(neuron.bindings))]
    if z is None or not read:
        return 1.0
    probe = neuron.with_outputs(potential_probe=read[0], fire_probe=z)
    with torch.device("cpu"), torch.random.fork_rng(devices=[]), torch.no_grad():
        layer = NeuronLayer(probe, channels=1, shape=(1,), backend="torch")
        zero = torch.zeros(1, 1, 1)
        *_, potential, fire = layer(*(zero for _ in neuron.inputs))
    return float(potential - fire)


class ConvNorm(nn.Module):
    """Convolution without bias, then tdBN: (T, N, C, H, W) -> (T, N, C', H', W').

    Args:
        inputs: C.
        outputs: C'.
        kernel: Odd; the padding keeps the size if the stride is 1.
        stride: H' is H/stride, rounded up.
        scale: alpha * v_threshold.
    """

    def __init__(
        self, inputs: int, outputs: int, kernel: int = 3, *, stride: int = 1, scale: float = 1.0
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
        self.norm = nn.BatchNorm2d(outputs)
        nn.init.constant_(self.norm.weight, scale)

    def norm_pairs(self) -> tuple[Pair, ...]:
        """Return no pair: the neurons are in another module."""
        return ()

    def forward(self, x_seq: Tensor) -> Tensor:
        """Run both; a repeated image is computed once."""
        return over_steps(lambda x: self.norm(self.conv(x)), x_seq)


class Builder:
    """Constructor of the layers of a network around one neuron."""

    def __init__(self, neuron: Neuron, backend: BackendName) -> None:
        self._neuron, self._backend = neuron, backend
        self.threshold = threshold_of(neuron)

    def neurons(self, shape: tuple[int, ...]) -> NeuronLayer:
        """Return a neuron layer of shape (C, *)."""
        return NeuronLayer(self._neuron, channels=shape[0], shape=shape, backend=self._backend)

    def conv(
        self, inputs: int, outputs: int, kernel: int = 3, *, stride: int = 1, alpha: float = 1.0
    ) -> ConvNorm:
        """Return a `ConvNorm` whose scale is alpha * v_threshold."""
        return ConvNorm(inputs, outputs, kernel, stride=stride, scale=alpha * self.threshold)


# A small convolutional spiking network, with any neuron.


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


# Spiking VGG: 3x3 convolutions, tdBN and neurons, pooling between, one linear readout.
#
# VGG-11 has the convolutions of configuration A of Simonyan and Zisserman 2015 (arXiv 1409.1556);
# VGGSNN is the network for event frames of Deng et al. 2022 (arXiv 2202.11946).


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


# Spiking ResNets with basic blocks and three kinds of shortcut.
#
#     "tdbn"  o = N(F(x) + S(x))          F = tdBN conv N tdBN conv; both branches start at alpha =
#                                         1/sqrt(2)    Zheng et al. 2021, arXiv 2011.05280
#     "ms"    o = F(N(x)) + S(x)          x, o are currents and F's last scale starts at 0; spikes
#                                         are never added    Hu et al. 2021, arXiv 2112.08954
#     "sew"   o = g(N(F(x)), N(S(x)))     g adds spikes, or is a logic gate
#                                                      Fang et al. 2021, arXiv 2102.04159
#
# N is a layer of neurons. S is the identity, or conv 1x1 and tdBN where the shape changes; only in
# that case "sew" has an N after S. ResNet-18 and 34 are the designs of He et al. 2016 (arXiv
# 1512.03385) for ImageNet. ResNet-20 is their design for CIFAR with 1x1 convolutions in the
# shortcuts. ResNet-19 is the design of the tdBN paper.


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


Link: TypeAlias = tuple[str, tuple[str, ...]]
"""Path of a module in its block, and the paths that it reads; none: the module before."""
BEFORE = "<"
"""The input of a block, in a `Link`."""
FIRST: tuple[Link, ...] = (("first.conv", ()), ("first.norm", ()))
SECOND: tuple[Link, ...] = (("second.conv", ()), ("second.norm", ()))


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

    def links(self) -> tuple[Link, ...]:
        """Return the modules in order, each with the words of what it reads."""
        raise NotImplementedError

    def _short_links(self) -> tuple[Link, ...]:
        """Return the modules of S, which read the input of the block."""
        if isinstance(self.short, nn.Identity):
            return (("short", (BEFORE,)),)
        return (("short.conv", (BEFORE,)), ("short.norm", ()))

    @property
    def _short_end(self) -> str:
        return "short" if isinstance(self.short, nn.Identity) else "short.norm"


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

    def links(self) -> tuple[Link, ...]:
        """Return the modules in order."""
        body = (*FIRST, ("neuron_1", ()), *SECOND, *self._short_links())
        return (*body, ("neuron_2", ("second.norm", self._short_end)))


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

    def links(self) -> tuple[Link, ...]:
        """Return the modules in order."""
        body = (("neuron_1", ()), *FIRST, ("neuron_2", ()), *SECOND, *self._short_links())
        return (*body, ("", ("second.norm", self._short_end)))


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

    def links(self) -> tuple[Link, ...]:
        """Return the modules in order.

        Raises:
            UnsupportedError: g is a logic gate.
        """
        if self.connect != "add":
            problem = f"connect={self.connect!r} has no form in integers"
            raise UnsupportedError("network: ResNet", problem, "connect='add'")
        body = (*FIRST, ("neuron_1", ()), *SECOND, ("neuron_2", ()), *self._short_links())
        return (*body, ("neuron_short", ()), ("", ("neuron_2", "neuron_short")))


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

    def chain(self) -> Chain:
        """Return the network as a chain of modules with shortcuts."""
        found = [(p, self.get_submodule(p)) for p in ("stem.conv", "stem.norm", "stem_neuron")]
        found.append(("stem_pool", self.stem_pool))
        inputs, before = dict[str, tuple[str, ...]](), "stem_pool"
        for k, block in enumerate(self.blocks):
            assert isinstance(block, ResNetBlock)
            own = f"blocks.{k}"
            for word, read in block.links():
                path = joined(own, word)
                found.append((path, block.get_submodule(word) if word else nn.Identity()))
                if read:
                    inputs[path] = tuple(before if r == BEFORE else joined(own, r) for r in read)
            before = found[-1][0]
        found += [("last_neuron", self.last_neuron), ("pool", self.pool), ("flat", nn.Flatten())]
        if self.hidden is not None:
            found += [("hidden", self.hidden), ("hidden_neuron", self.hidden_neuron)]
        return self.chained(found, inputs)

    def features(self, x_seq: Tensor) -> Tensor:
        """Return the mean (T, N, F) over pixels, or the spikes of the hidden layer."""
        x_seq = over_steps(self.stem_pool, self.stem_neuron(self.stem(x_seq)))
        for block in self.blocks:
            x_seq = block(x_seq)
        features = over_steps(self.pool, self.last_neuron(x_seq)).flatten(2)
        if self.hidden is not None:
            features = self.hidden_neuron(self.hidden(features))
        return features
