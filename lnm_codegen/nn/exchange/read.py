"""`lnm.nn.from_nir`: the network of a NIR graph."""

from __future__ import annotations

import keyword
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, cat, nn

from lnm_codegen.errors import LnmError, ModelError, ShapeError, UnsupportedError, reason
from lnm_codegen.nn.convert.recipe import is_hooked
from lnm_codegen.nn.exchange.graph import Edges, Parts, Wiring, graph_of, wiring_of
from lnm_codegen.nn.exchange.layers import BUILDERS, Shape, StepDelay, output_shape
from lnm_codegen.nn.exchange.neurons import (
    FIELDS,
    described_layer,
    graph_dtype,
    is_described,
    neuron_layer,
)
from lnm_codegen.nn.feedback import run_layer
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
    return network_of(found, step, graph_dtype(_WHERE, found.metadata))


def network_of(
    graph: nir.NIRGraph,
    dt: float,
    dtype: torch.dtype | None,
    *,
    described: bool = True,
    backend: BackendName = "auto",
) -> NirNetwork:
    """Return the network of a graph; without our metadata if not `described`.

    Its parameters have the type `dtype`, or PyTorch's default type.
    """
    before = torch.get_default_dtype()
    try:
        torch.set_default_dtype(dtype or before)
        flat = _Flat()
        flat.add(graph, "")
        first, last = flat.end("Input"), flat.end("Output")
        wiring = wiring_of(_WHERE, flat.nodes, flat.edges, first, last)
        builder = _Builder(flat.nodes, wiring, dt, described, backend)
        builder.build()
        return NirNetwork(builder.modules, flat.edges, wiring, builder.shapes)
    finally:
        torch.set_default_dtype(before)


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


# `NirNetwork`: a graph of modules as one module, over whole sequences or step by step.


class NirNetwork(nn.Module):
    """The network of a NIR graph; `from_nir` makes it.

    The inputs of a node are the sum of the outputs of its sources. Outside of cycles, a node runs
    once over the whole sequence. The nodes of a cycle run step by step, and an edge back reads the
    output of the step before, which is 0 at the first step.

    Attributes:
        nodes: Name -> module. A character that a module's name may not have is "_".
        shapes: Name -> features of its output, without T and N.
        wiring: Order of the calls.

    Shape:
        (T, N, *) -> (T, N, *). Each call begins with the initial states.

    Raises:
        ShapeError: The input of a call has other features.
    """

    def __init__(
        self,
        modules: Mapping[str, nn.Module],
        edges: Edges,
        wiring: Wiring,
        shapes: Mapping[str, Shape],
    ) -> None:
        super().__init__()
        self.wiring, self.shapes, self.edges = wiring, dict(shapes), tuple(edges)
        self._keys = _keys([*modules])
        self.nodes = nn.ModuleDict({self._keys[name]: m for name, m in modules.items()})
        (self._first,), (self._last,) = wiring.groups[0], wiring.groups[-1]

    def module_of(self, name: str) -> nn.Module:
        """Return the module of a node, by its name in the graph."""
        return self.nodes[self._keys[name]]

    def nir_parts(self) -> Parts:
        """Return the modules and edges, for `to_nir`."""
        modules = {name: self.module_of(name) for name in self._keys}
        return Parts(modules, self.edges, self.shapes, self._first, self._last)

    def forward(self, x_seq: Tensor) -> Tensor:
        """Run the network."""
        shape = self.shapes[self._first]
        expected = f"(T, N, {', '.join(map(str, shape))})"
        if not isinstance(x_seq, Tensor):
            problem = f"x_seq is of type {type(x_seq).__name__}"
            raise ShapeError("NirNetwork", problem, f"a tensor {expected}")
        if x_seq.dim() < 2 or tuple(x_seq.shape[2:]) != shape:
            raise ShapeError("NirNetwork", f"x_seq has shape {tuple(x_seq.shape)}", expected)
        values = {self._first: x_seq}
        for group in self.wiring.groups[1:-1]:
            if self._is_layer(group):
                self._run_layer(group, values)
            elif self.wiring.is_cycle(group):
                self._run_cycle(group, values)
            else:
                values[group[0]], _ = self._run(group[0], self._input(group[0], values), None)
        return self._input(self._last, values)

    def _input(self, name: str, values: Mapping[str, Tensor]) -> Tensor:
        first, *more = (values[s] for s in self.wiring.sources[name])
        for other in more:
            first = first + other
        return first

    def _run(self, name: str, x_seq: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Return the output of a node, and its state after it."""
        module = self.module_of(name)
        if isinstance(module, NeuronLayer):
            out, final, *_ = module(x_seq, state=state, return_state=True)
            return out, final
        if isinstance(module, StepDelay):
            return module.run(x_seq, state)
        if isinstance(module, nn.Linear):
            return module(x_seq), None
        out = module(x_seq.flatten(0, 1))
        return out.reshape(*x_seq.shape[:2], *out.shape[1:]), None

    def _is_layer(self, group: Sequence[str]) -> bool:
        """Report whether a cycle is neurons of one axis and a linear node that reads them alone."""
        if len(group) != 2:
            return False
        neuron, back = group
        layer = self.module_of(neuron)
        return (
            isinstance(layer, NeuronLayer)
            and not layer.record
            and not any(is_hooked(self.module_of(name)) for name in group)
            and isinstance(self.module_of(back), nn.Linear)
            and neuron not in self.wiring.sources[neuron]
            and self.wiring.sources[back] == (neuron,)
            and (back, neuron) in self.wiring.delayed
            and len(self.shapes[neuron]) == 1
        )

    def _run_layer(self, group: Sequence[str], values: dict[str, Tensor]) -> None:
        """Run such a cycle at once; the linear node gives 0 before the first step, without b."""
        neuron, back = group
        linear: Any = self.module_of(back)
        c, *more = (values[s] for s in self.wiring.sources[neuron] if s != back)
        for other in more:
            c = c + other
        if linear.bias is not None:
            c = cat([c[:1], c[1:] + linear.bias])
        layer: Any = self.module_of(neuron)
        outputs, *_ = run_layer(layer, c, linear.weight)
        values[neuron], values[back] = outputs[0], linear(outputs[0])

    def _run_cycle(self, group: Sequence[str], values: dict[str, Tensor]) -> None:
        """Run the nodes of a cycle step by step, and add their outputs to `values`."""
        outside = {s for n in group for s in self.wiring.sources[n] if s not in group}
        some = next(values[s] for s in outside)
        steps, batch = some.shape[:2]
        last = {n: some.new_zeros(1, batch, *self.shapes[n]) for n in group}
        states: dict[str, Any] = dict.fromkeys(group)
        found: dict[str, list[Tensor]] = {n: [] for n in group}
        recording = {n for n in group if getattr(self.module_of(n), "record", ())}
        begun: Any = {n: getattr(self.module_of(n), "state", {}) for n in recording}
        given: dict[str, list[Tensor]] = {n: [] for n in recording}
        for t in range(steps):
            at = {s: values[s][t : t + 1] for s in outside} | last
            for name in group:
                x = self._input(name, at)
                at[name], states[name] = self._run(name, x, states[name])
                found[name].append(at[name])
                if name in recording:
                    given[name].append(x)
            last = {n: at[n] for n in group}
        with torch.no_grad():
            for name in recording if steps else ():  # of all steps, where a step left its own
                self._run(name, cat(given[name]), begun[name])
        for name in group:
            nothing = some.new_zeros(0, batch, *self.shapes[name])
            values[name] = cat([nothing, *found[name]])


def _keys(names: Sequence[str]) -> dict[str, str]:
    """Return the name of a submodule for each name of a node; they are distinct."""
    found: dict[str, str] = {}
    for name in names:
        key = "".join(c if c.isalnum() else "_" for c in name) or "_"
        key = f"{key}_" if keyword.iskeyword(key) or hasattr(nn.ModuleDict, key) else key
        while key in found.values():
            key += "_"
        found[name] = key
    return found
