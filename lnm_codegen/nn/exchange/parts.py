"""Parts of a network: modules, the edges between them, and what a forward on a sample did."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from lnm_codegen.nn.exchange.layers import Shape
from lnm_codegen.nn.exchange.wiring import Edges
from lnm_codegen.nn.layer import NeuronLayer

INPUT, OUTPUT = "input", "output"
"""Names of the ends of a graph that `to_nir` writes."""


class Parts(NamedTuple):
    """A network as modules and edges between them.

    Attributes:
        modules: Name -> module.
        edges: Pairs of names of modules, or of an end and a module.
        shapes: Name -> features of its output.
        first: Name of the input in the edges.
        last: Name of the output in the edges.
    """

    modules: Mapping[str, nn.Module]
    edges: Edges
    shapes: Mapping[str, Shape]
    first: str = INPUT
    last: str = OUTPUT


@runtime_checkable
class HasParts(Protocol):
    """A module that names its own parts, so that `to_nir` does not record its forward."""

    def nir_parts(self) -> Parts:
        """Return the parts, or raise UnsupportedError."""


class NodeCall(NamedTuple):
    """A node: a module, its sources, and the features of its input and output.

    `shortcut` are the sources that a `NormNeuron` adds after the normalisation.
    """

    module: nn.Module
    sources: tuple[str, ...]
    before: Shape
    after: Shape
    shortcut: tuple[str, ...] = ()


@dataclass
class ForwardRecord:
    """What a forward did.

    Attributes:
        shape: Features of the input.
        calls: Name of a node -> its call.
        output: Nodes whose sum is the output.
        inputs: Path of a neuron layer -> its first inputs, in the order of its calls.
        shortcuts: The same of its second inputs.
        layers: Path of a neuron layer -> the layer.
        result: The output, (T, N, *).
        frames: The input, (T, N, *).
    """

    shape: Shape
    calls: dict[str, NodeCall] = field(default_factory=dict)
    output: tuple[str, ...] = ()
    inputs: dict[str, list[Tensor]] = field(default_factory=dict)
    shortcuts: dict[str, list[Tensor]] = field(default_factory=dict)
    layers: dict[str, NeuronLayer] = field(default_factory=dict)
    result: Tensor = field(default_factory=lambda: torch.zeros(0))
    frames: Tensor = field(default_factory=lambda: torch.zeros(0))
