"""`lnm.nn.from_nir`: the network of a NIR graph."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from lnm_codegen.errors import LnmError, ModelError, ShapeError, UnsupportedError, reason
from lnm_codegen.nn.exchange.layers import BUILDERS, Shape, output_shape
from lnm_codegen.nn.exchange.metadata import described_layer, graph_dtype, is_described
from lnm_codegen.nn.exchange.network import NirNetwork
from lnm_codegen.nn.exchange.neurons import FIELDS, neuron_layer
from lnm_codegen.nn.exchange.package import graph_of
from lnm_codegen.nn.exchange.wiring import Wiring, wiring_of
from lnm_codegen.nn.layer import NeuronLayer
from lnm_codegen.options import BackendName
from lnm_codegen.validation import listed, require_number

if TYPE_CHECKING:
    import nir

_WHERE = "from_nir"
_ENDS = ("Input", "Output")


def from_nir(graph: nir.NIRNode | str | os.PathLike[str], dt: float = 1.0) -> NirNetwork:
    """Return the network of a NIR graph, with its weights and neurons as parameters.

    Neurons follow the equations of NIR, discretised by forward Euler with step dt:

        LIF     h[t] = v[t-1] + (dt/tau)*(v_leak - v[t-1] + r*x[t])
                s[t] = 1 if h[t] > v_threshold else 0
                v[t] = v_reset where s[t] = 1, else h[t]
        CubaLIF i[t] = i[t-1] + (dt/tau_syn)*(w_in*x[t] - i[t-1]), and LIF of i[t]
        IF      h[t] = v[t-1] + dt*r*x[t]

    LI, CubaLI and I give h[t]. Potentials begin at v_leak, or 0 without a leak. A node that
    `to_nir` wrote has its neuron in the metadata, and becomes that neuron: same equations,
    surrogate and parameters. Only our own grammar reads that text, and it runs no code.

    Nodes: Affine, Linear, Scale, Conv1d, Conv2d, SumPool2d, AvgPool2d, Flatten, Delay (whole
    steps), Threshold, I, IF, LI, LIF, CubaLI, CubaLIF, and nested graphs. Several edges to a node
    are summed. In a cycle, the edge back has a delay of one step, as in nirtorch (`NirNetwork`).

    Args:
        graph: A `nir.NIRGraph`, a node, or the path of a .nir file.
        dt: Length of a time step in the graph's unit of time, > 0 and < 2*tau for every tau.

    Returns:
        A module from (T, N, *) to (T, N, *). Parameters have PyTorch's default type; those of a
        graph that `to_nir` wrote have the type of its model. All parameters are learnable.

    Raises:
        ModelError: No graph, a wrong file, a wrong edge, or a value out of its range; metadata that
            do not fit their node.
        ShapeError: The shapes of two nodes do not fit.
        ToolError: The package `nir` is not installed (extra "nir").
        UnsupportedError: A node of another class, or an unstable step.
    """
    step = float(require_number(_WHERE, "dt", dt, above=0))
    found = graph_of(_WHERE, graph)
    dtype = graph_dtype(_WHERE, found.metadata)
    before = torch.get_default_dtype()
    try:
        torch.set_default_dtype(dtype or before)
        return network_of(found, step)
    finally:
        torch.set_default_dtype(before)


def network_of(
    graph: nir.NIRGraph, dt: float, *, described: bool = True, backend: BackendName = "auto"
) -> NirNetwork:
    """Return the network of a graph; without our metadata if not `described`."""
    flat = _Flat()
    flat.add(graph, "")
    first, last = flat.end("Input"), flat.end("Output")
    wiring = wiring_of(_WHERE, flat.nodes, flat.edges, first, last)
    builder = _Builder(flat.nodes, wiring, dt, described, backend)
    builder.build()
    return NirNetwork(builder.modules, flat.edges, wiring, builder.shapes)


@dataclass
class _Flat:
    """Nodes and edges of a graph without nested graphs: their nodes are "outer.inner"."""

    nodes: dict[str, Any] = field(default_factory=dict)
    edges: list[tuple[str, str]] = field(default_factory=list)

    def add(self, graph: nir.NIRGraph, prefix: str) -> None:
        """Add a graph; Input and Output of a nested one are identities."""
        inner: dict[str, tuple[str, str]] = {}
        for name, node in graph.nodes.items():
            place = f"{prefix}{name}"
            inner[name] = (place, place)
            if type(node).__name__ == "NIRGraph":
                self.add(node, f"{place}.")
                inner[name] = tuple(self._end(node, place, e) for e in _ENDS)  # type: ignore[assignment]
            elif place in self.nodes:
                raise ModelError(_WHERE, f"two nodes are called {place!r}")
            else:
                self.nodes[place] = node
        for source, target in graph.edges:
            for word in (source, target):
                if word not in inner:
                    problem = f"edge {(source, target)} names {word!r}, which is no node"
                    raise ModelError(_place(prefix[:-1]), problem, listed(inner))
            self.edges.append((inner[source][1], inner[target][0]))

    def _end(self, graph: nir.NIRGraph, place: str, kind: str) -> str:
        found = [n for n, node in graph.nodes.items() if type(node).__name__ == kind]
        if len(found) != 1:
            raise ModelError(_place(place), f"{len(found)} nodes are {kind}", f"one {kind}")
        return f"{place}.{found[0]}"

    def end(self, kind: str) -> str:
        """Return the name of the only Input or Output of the outermost graph."""
        nested = {n for n in self.nodes if type(self.nodes[n]).__name__ == kind}
        reading = 1 if kind == "Input" else 0
        found = [n for n in self.nodes if n in nested and all(e[reading] != n for e in self.edges)]
        if len(found) != 1:
            raise ModelError(_WHERE, f"{len(found)} nodes are {kind}", f"one {kind}")
        return found[0]


@dataclass
class _Builder:
    """Modules and shapes of the nodes, in the order of calls."""

    nodes: dict[str, Any]
    wiring: Wiring
    dt: float
    described: bool
    backend: BackendName
    modules: dict[str, nn.Module] = field(default_factory=dict)
    shapes: dict[str, Shape] = field(default_factory=dict)

    def build(self) -> None:
        for group in self.wiring.groups:
            for name in group:
                where = _place(name)
                kind = type(self.nodes[name]).__name__
                if kind in _ENDS:
                    self._end(where, name, kind)
                    continue
                self._require_known(where, kind)
                try:
                    self._add(where, name, self._input_shape(where, name))
                except LnmError:
                    raise
                except (TypeError, ValueError, RuntimeError, AttributeError) as error:
                    raise ModelError(where, f"{kind}: {reason(error)}") from None
        self._require_back_edges()

    def _require_known(self, where: str, kind: str) -> None:
        if kind not in BUILDERS and kind not in FIELDS:
            problem = f"a node of class {kind}"
            raise UnsupportedError(where, problem, (*BUILDERS, *FIELDS, "NIRGraph"))

    def _add(self, where: str, name: str, shape: Shape) -> None:
        node = self.nodes[name]
        kind = type(node).__name__
        layer: nn.Module | None = None
        if self.described and is_described(node):
            layer = described_layer(where, node, shape, self.dt, self.backend)
        elif kind in FIELDS:
            layer = neuron_layer(where, node, shape, self.dt, self.backend)
        if layer is None:
            layer = BUILDERS[kind](where, node, shape, self.dt)
        is_neuron = isinstance(layer, NeuronLayer)
        self.modules[name] = layer
        self.shapes[name] = shape if is_neuron else output_shape(where, layer, shape)

    def _end(self, where: str, name: str, kind: str) -> None:
        """Add an Input or an Output; its own shape, if it has one, is that of its value."""
        word = "input" if kind == "Input" else "output"
        own = getattr(self.nodes[name], f"{word}_type")[word]
        shape = None if own is None else tuple(int(k) for k in np.asarray(own).reshape(-1))
        if self.wiring.sources[name]:
            found = self._input_shape(where, name)
            if shape is not None and shape != found:
                problem = f"its shape is {shape}, that of its input {found}, without T and N"
                raise ShapeError(where, problem)
            shape = found
            if name != self.wiring.groups[-1][0]:
                self.modules[name] = nn.Identity()
        if shape is None:
            raise ModelError(where, "the Input has no shape", "input_type with a shape")
        self.shapes[name] = shape

    def _input_shape(self, where: str, name: str) -> Shape:
        """Return the common shape of the sources that are known; those of edges back come later."""
        known = {s: self.shapes[s] for s in self.wiring.sources[name] if s in self.shapes}
        if len(set(known.values())) > 1:
            text = ", ".join(f"{s!r} {shape}" for s, shape in known.items())
            raise ShapeError(where, f"its inputs have different shapes: {text}", "one shape")
        return next(iter(known.values()))

    def _require_back_edges(self) -> None:
        """Raise ShapeError unless an edge back has the shape of the node's other inputs."""
        for _, name in sorted(self.wiring.delayed):
            shapes = {self.shapes[s] for s in self.wiring.sources[name]}
            if len(shapes) > 1:
                problem = f"its inputs have different shapes: {sorted(shapes)}"
                raise ShapeError(_place(name), problem, "one shape")


def _place(name: str) -> str:
    return f"{_WHERE}: node {name!r}" if name else _WHERE
