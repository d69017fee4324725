"""Networks of the benchmark of training steps: ours, and the same with SpikingJelly's neurons."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

import lnm_codegen.nn
from lnm_codegen.bench.subjects import Resetting, spikingjelly_lif
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.nn import NeuronLayer
from lnm_codegen.train.models import Network, build, options_of

CLASSES = 10
COMPILED_STEPS = 64
"""Greatest T at which a loop is compiled: `torch.compile` unrolls it, which then takes minutes."""


@dataclass(frozen=True, slots=True)
class Design:
    """A network of `train.models` and its default sizes.

    Attributes:
        model: Name in `train.models.MODELS`.
        steps: Sequence lengths T.
        batch: Samples in a step.
        size: Side of an image of three channels, or features of a sequence.
        kind: "image" or "sequence".
        options: Options of the model.
    """

    model: str
    steps: tuple[int, ...]
    batch: int
    size: int
    kind: str = "image"
    options: Mapping[str, Any] = field(default_factory=dict)

    def sample(self, steps: int, size: int) -> tuple[int, ...]:
        """Return the shape of one sample."""
        return (3, size, size) if self.kind == "image" else (steps, size)


DESIGNS = {
    "conv": Design("conv", (4,), 16, 28),
    "resnet18": Design("resnet18", (4,), 16, 32),
    "sew_resnet18": Design("resnet18", (4,), 16, 32, options={"shortcut": "sew"}),
    "vgg11": Design("vgg11", (4,), 16, 32),
    "feedforward": Design(
        "feedforward", (40, 784), 16, 64, kind="sequence", options={"readout": "linear"}
    ),
}
"""Networks by name."""


@dataclass(frozen=True, slots=True)
class Contender:
    """A network to time.

    Attributes:
        name: Name in the table.
        net: The network, with weights that equal those of the others.
        around: Context of its forward.
    """

    name: str
    net: nn.Module
    around: Callable[[], AbstractContextManager[object]] = nullcontext


@dataclass(frozen=True, slots=True)
class Lineup:
    """Networks to compare, and a sentence for each one that is left out."""

    contenders: tuple[Contender, ...]
    left_out: tuple[str, ...]


def contenders(
    design: Design, neuron: Neuron, steps: int, size: int, device: str, peers: bool, compiles: bool
) -> Lineup:
    """Return SpikingJelly's networks, with LIF neurons, then ours with `neuron`.

    Ours are one with separate layers, one after `lnm.nn.fuse`, and one under `lnm.nn.pack_spikes`.

    Raises:
        ModelError: The network has no such sizes, or the neuron does not fit.
    """
    net = _built(design, neuron, steps, size, device)
    found: list[Contender] = []
    left_out: list[str] = []
    peer = spikingjelly_lif() if peers else None
    if peers and peer is None:
        left_out.append("SpikingJelly: it is not installed.")
    if peer is not None:
        found.append(Contender("SpikingJelly LIFNode", with_node(net, Resetting(peer).to(device))))
        if compiles and steps > COMPILED_STEPS:
            left_out.append(
                f"SpikingJelly, compiled, T = {steps}: torch.compile unrolls the loop over time,"
                f" which takes minutes from T = {COMPILED_STEPS + 1} on."
            )
        elif compiles:
            node = Resetting(copy.deepcopy(peer), compiles=True).to(device)
            found.append(Contender("SpikingJelly LIFNode, torch.compile", with_node(net, node)))
    ours, others = _variants(net, neuron.name)
    return Lineup((*found, *ours), (*left_out, *others))


def _built(design: Design, neuron: Neuron, steps: int, size: int, device: str) -> Network:
    """Return our network with separate layers."""
    options = dict(design.options)
    if design.kind == "image":
        options["time_steps"] = steps
    if "fused" in options_of(design.model):
        options["fused"] = False
    torch.manual_seed(0)
    net = build(
        design.model, neuron, design.sample(steps, size), CLASSES, kind=design.kind,
        backend="c" if device == "cpu" else "triton", **options,
    )  # fmt: skip
    return net.to(device)


def with_node(net: Network, node: nn.Module) -> nn.Module:
    """Return a copy of a network whose neuron layers are all `node`, which learns nothing."""
    copied = copy.deepcopy(net)
    for module in list(copied.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, NeuronLayer):
                setattr(module, name, node)
    return copied


def _variants(net: Network, name: str) -> tuple[list[Contender], list[str]]:
    """Return our networks, and sentences for those that this version cannot make."""
    found, left_out, label = [Contender(f"{name} layer", net)], [], "layer"
    fuse: Callable[[nn.Module], object] | None = getattr(lnm_codegen.nn, "fuse", None)
    if fuse is None:
        left_out.append(f"{name} fused: this version has no lnm.nn.fuse.")
    else:
        fused = copy.deepcopy(net)
        fuse(fused)
        if [type(m) for m in fused.modules()] == [type(m) for m in net.modules()]:
            left_out.append(f"{name} fused: lnm.nn.fuse finds nothing to fuse in this network.")
        else:
            found.append(Contender(f"{name} fused", fused))
            net, label = fused, "fused"
    pack: Callable[[], AbstractContextManager[object]] | None
    pack = getattr(lnm_codegen.nn, "pack_spikes", None)
    if pack is None:
        left_out.append(f"{name} {label}, bits: this version has no lnm.nn.pack_spikes.")
    else:
        found.append(Contender(f"{name} {label}, bits", copy.deepcopy(net), pack))
    return found, left_out
