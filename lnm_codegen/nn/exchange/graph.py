"""Graphs: their nodes and edges, the parts of a network, values in a forward, the package `nir`."""

from __future__ import annotations

import importlib
import math
import os
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from graphlib import TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, TypeAlias, runtime_checkable

import torch
from torch import Tensor, nn

from lnm_codegen.errors import ModelError, UnsupportedError, reason
from lnm_codegen.files import unreadable
from lnm_codegen.nn.exchange.layers import Shape
from lnm_codegen.nn.layer import NeuronLayer
from lnm_codegen.validation import did_you_mean, listed, require_package, wrong

if TYPE_CHECKING:
    import nir


# Nodes and edges of a graph: structural validation, nested graphs, and the order of calls.
#
# A cycle runs step by step. An edge whose source runs after its target has a delay of one step, and
# gives 0 at the first step. The order is that of nirtorch, so that the same edges have delays:
# nodes are taken in the order of the graph; one waits until its inputs are known, but a node with
# several inputs does not wait for those of its own cycle.


Edges: TypeAlias = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Wiring:
    """An order of calls.

    Attributes:
        sources: Node -> the nodes whose outputs are summed to its input.
        groups: Nodes in the order of calls. A group of several nodes, or of one that reads itself,
            is a cycle, which runs step by step.
        delayed: Edges with a delay of one step.
    """

    sources: Mapping[str, tuple[str, ...]]
    groups: tuple[tuple[str, ...], ...]
    delayed: frozenset[tuple[str, str]]

    def is_cycle(self, group: Sequence[str]) -> bool:
        """Report whether the nodes of a group read each other."""
        return len(group) > 1 or group[0] in self.sources[group[0]]


def wiring_of(where: str, nodes: Iterable[str], edges: Edges, first: str, last: str) -> Wiring:
    """Return the order of calls of a graph with one input, `first`, and one output, `last`.

    Raises:
        ModelError: An edge names no node or occurs twice; a node is not between input and output; a
            cycle has no input from outside.
    """
    names = list(nodes)
    _require_edges(where, names, edges)
    sources = {n: tuple(a for a, b in edges if b == n) for n in names}
    readers = {n: tuple(b for a, b in edges if a == n) for n in names}
    for kind, name, found in (("incoming", first, sources), ("outgoing", last, readers)):
        if found[name]:
            raise ModelError(where, f"node {name!r} has {kind} edges", "none at that end")
    after, before = _reached(first, readers), _reached(last, sources)
    for name in names:
        side = "incoming" if name not in after else "outgoing" if name not in before else ""
        if side:
            end = first if side == "incoming" else last
            problem = f"node {name!r} has no path {'from' if end == first else 'to'} node {end!r}"
            raise ModelError(where, problem, remedy=f"Add its {side} edge, or remove the node.")
    cycle = {n: _reached(n, readers, own=False) for n in names}
    order, delayed = _order(where, [first, *(n for n in names if n != first)], sources, cycle)
    return Wiring(sources, _groups(order, sources, cycle), delayed)


def _require_edges(where: str, names: Sequence[str], edges: Edges) -> None:
    for edge in edges:
        for end in edge:
            if end not in names:
                problem = f"edge {edge} names {end!r}, which is no node"
                raise ModelError(where, problem, listed(names), did_you_mean(end, names))
    for edge, count in Counter(edges).items():
        if count > 1:
            raise ModelError(where, f"edge {edge} occurs {count} times", "each edge once")


def _reached(start: str, following: Mapping[str, Sequence[str]], own: bool = True) -> set[str]:
    """Return the nodes on paths from `start`; itself too if `own`, or if a cycle leads back."""
    found, waiting = {start} if own else set(), [*following[start]]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += following[name]
    return found


def _order(
    where: str,
    names: Sequence[str],
    sources: Mapping[str, tuple[str, ...]],
    after: Mapping[str, set[str]],
) -> tuple[list[str], frozenset[tuple[str, str]]]:
    """Return the order of calls, and the edges whose source is later than their target."""
    order: list[str] = []
    delayed: set[tuple[str, str]] = set()
    queue, idle = deque(names), 0
    while queue:
        name = queue.popleft()
        missing = [s for s in sources[name] if s not in order]
        if all(s in after[name] and len(sources[name]) > 1 for s in missing):
            order.append(name)
            delayed |= {(s, name) for s in missing}
            idle = 0
            continue
        queue.append(name)
        idle += 1
        if idle > len(queue):
            problem = f"nodes {listed(sorted(queue))} wait for each other"
            accepted = "a cycle in which a node also has an input from outside"
            raise ModelError(where, problem, accepted)
    return order, frozenset(delayed)


def _groups(
    order: Sequence[str], sources: Mapping[str, tuple[str, ...]], after: Mapping[str, set[str]]
) -> tuple[tuple[str, ...], ...]:
    """Return the cycles and single nodes, each after those that it reads."""
    group = {
        n: tuple(m for m in order if m == n or (m in after[n] and n in after[m])) for n in order
    }
    below = {
        group[n]: [group[s] for m in group[n] for s in sources[m] if group[s] != group[n]]
        for n in order
    }
    return tuple(TopologicalSorter(below).static_order())


# Parts of a network: modules, the edges between them, and what a forward on a sample did.


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
        outputs: Path of a recurrent layer -> its outputs.
        recurrent: Name of its neurons -> its path.
        result: The output, (T, N, *).
        frames: The input, (T, N, *).
    """

    shape: Shape
    calls: dict[str, NodeCall] = field(default_factory=dict)
    output: tuple[str, ...] = ()
    inputs: dict[str, list[Tensor]] = field(default_factory=dict)
    shortcuts: dict[str, list[Tensor]] = field(default_factory=dict)
    layers: dict[str, NeuronLayer] = field(default_factory=dict)
    outputs: dict[str, list[Tensor]] = field(default_factory=dict)
    recurrent: dict[str, str] = field(default_factory=dict)
    result: Tensor = field(default_factory=lambda: torch.zeros(0))
    frames: Tensor = field(default_factory=lambda: torch.zeros(0))


# Values in a forward: nodes that they are sums of, features, and where T and N are.


Layout: TypeAlias = Literal["steps", "merged", "once", "step"]
"""Axes before the features: (T, N), (T*N,), (N,) of a value that is the same at each step, or (N,)
of one time step."""


@dataclass(frozen=True)
class FrameSignal:
    """A value of the forward.

    Attributes:
        sources: Nodes whose sum it is.
        shape: Its features.
        layout: Its axes before them.
        repeated: It has the axis T, and is the same at each step.
        time: Index of its time step, of layout "step".
    """

    sources: tuple[str, ...]
    shape: Shape
    layout: Layout
    repeated: bool = False
    time: int = 0

    def of_node(self, name: str, shape: Shape) -> FrameSignal:
        """Return the output of a node with this input."""
        return replace(self, sources=(name,), shape=shape)


@dataclass(frozen=True)
class Frame:
    """T and N of the sample; T is 0 until it is known."""

    steps: int
    batch: int

    def lead(self, layout: Layout) -> Shape:
        """Return the axes before the features."""
        if layout == "steps":
            return self.steps, self.batch
        return (self.steps * self.batch,) if layout == "merged" else (self.batch,)

    def features(self, where: str, value: Tensor, layout: Layout) -> Shape:
        """Return the axes after T and N of a value of known layout, or raise UnsupportedError."""
        lead = self.lead(layout)
        if tuple(value.shape[: len(lead)]) != lead:
            problem = f"its output has shape {tuple(value.shape)}"
            raise UnsupportedError(where, problem, f"{lead} before the features")
        return tuple(value.shape[len(lead) :])

    def reshaped(
        self, where: str, signal: FrameSignal, shape: Shape
    ) -> tuple[FrameSignal, Shape | None]:
        """Return a signal after a reshape that keeps the order of its elements.

        The second result is (start, end) where features are merged, or None.
        """
        alone = signal.layout in ("once", "step")
        layouts: tuple[Layout, ...] = (signal.layout,) if alone else ("steps", "merged")
        for layout in layouts:
            if shape == (*self.lead(layout), *signal.shape):
                return replace(signal, layout=layout), None
        for layout in layouts:
            lead = self.lead(layout)
            found = merged_axes(signal.shape, shape[len(lead) :])
            if shape[: len(lead)] == lead and found is not None:
                return replace(signal, layout=layout, shape=shape[len(lead) :]), found
        leads = " or ".join(f"({', '.join(map(str, self.lead(k)))}, ...)" for k in layouts)
        problem = f"a reshape of features {signal.shape} to {shape}"
        raise UnsupportedError(where, problem, f"{leads} with the features kept or flattened")


def merged_axes(before: Shape, after: Shape) -> tuple[int, int] | None:
    """Return (start, end) of the axes that a flattening merges, or None if it is none."""
    count = len(before) - len(after)
    for start in range(len(after)) if count > 0 else ():
        end = start + count
        merged = (*before[:start], math.prod(before[start : end + 1]), *before[end + 1 :])
        if merged == after:
            return start, end
    return None


# The package `nir`, which an extra installs: import, and files.


_MOST_OBJECTS = 100_000
"""Bound on the groups and data of a file; a node has up to about ten."""
_WRITE = "Write the file with nir.write."


def nir_package(where: str) -> Any:
    """Return the module `nir`, or raise ToolError."""
    require_package(where, "nir", "nir", "nir")
    return importlib.import_module("nir")


def graph_of(where: str, graph: nir.NIRNode | str | os.PathLike[str]) -> nir.NIRGraph:
    """Return a graph, or that of a .nir file; a node becomes a graph of its own.

    Raises:
        ModelError: No graph; a file that cannot be read, or is no NIR file.
        ToolError: The package `nir` is not installed.
    """
    package = nir_package(where)
    if isinstance(graph, str | os.PathLike):
        return _read(package, Path(graph))
    if isinstance(graph, package.NIRGraph):
        return graph
    if not isinstance(graph, package.NIRNode):
        raise wrong(where, "graph", graph, "a nir.NIRGraph, or the path of a .nir file")
    ends = {"input": package.Input(dict(graph.input_type)), "node": graph}
    ends["output"] = package.Output({"output": None})
    edges = [("input", "node"), ("node", "output")]
    return package.NIRGraph(ends, edges, type_check=False)


def _read(package: Any, path: Path) -> nir.NIRGraph:
    try:
        with path.open("rb"):  # h5py's own message of a missing file has several lines
            pass
        _require_tree(path)
        graph = package.read(path, type_check=False)
    except ModelError:
        raise
    except FileNotFoundError as error:
        raise unreadable(path, error) from None
    except AssertionError:  # nir asserts that it knows the class of a node, without a message
        found = sorted(_classes(path) - set(dir(package)))
        problem = f"a node of class {', '.join(found)}" if found else _misfit(package, path)
        raise ModelError(path, problem, "the nodes of NIR", _WRITE) from None
    except Exception as error:  # nir and h5py raise errors of many classes
        kind = f"not a NIR file: {type(error).__name__}: {reason(error)}"
        raise ModelError(path, kind, remedy=_WRITE) from None
    if not isinstance(graph, package.NIRGraph):
        kind = type(graph).__name__
        raise ModelError(path, f"it contains a {kind}", "a NIRGraph", _WRITE)
    return graph


def _require_tree(path: Path) -> None:
    """Raise ModelError unless each object of a file has one name and is in the file itself.

    `nir.read` follows every name: n groups with two names each would be 2**n nodes.
    """
    h5py = importlib.import_module("h5py")
    with h5py.File(path, "r") as file:
        seen = {h5py.h5o.get_info(file.id).addr}
        groups = [file]
        while groups:
            group = groups.pop()
            for name in group:
                place = f"{group.name.rstrip('/')}/{name}"
                if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                    raise ModelError(path, f"{place} is a link", "groups and data", _WRITE)
                item = group[name]
                address = h5py.h5o.get_info(item.id).addr
                if address in seen:
                    problem = f"{place} is another name of an object"
                    raise ModelError(path, problem, "one name for each", _WRITE)
                seen.add(address)
                if len(seen) > _MOST_OBJECTS:
                    problem = f"more than {_MOST_OBJECTS} groups and data"
                    raise ModelError(path, problem, remedy="Use fewer nodes.")
                if isinstance(item, h5py.Group):
                    groups.append(item)
                elif isinstance(item, h5py.Dataset) and (item.external or item.is_virtual):
                    raise ModelError(path, f"{place} is data of another file", remedy=_WRITE)


def _misfit(package: Any, path: Path) -> str:
    """Return what is wrong with a file whose nodes are of known classes."""
    with importlib.import_module("h5py").File(path, "r") as file:
        nodes = file.get("node/nodes", {})
        for name, node in nodes.items():
            try:
                package.serialization.read_node(node)
            except Exception:  # as in _read
                return f"node {name!r}: the shapes or types of its fields do not fit"
        return "the edges cannot be read" if len(nodes) else "not a NIR file"


def _classes(path: Path) -> set[str]:
    """Return the classes of the nodes of a file."""
    h5py, found = importlib.import_module("h5py"), set[str]()

    def visit(name: str, item: Any) -> None:
        if name.rpartition("/")[2] == "type" and isinstance(item, h5py.Dataset):
            value = item[()]
            found.add(value.decode() if isinstance(value, bytes) else str(value))

    with h5py.File(path, "r") as file:
        file.visititems(visit)
    return found
