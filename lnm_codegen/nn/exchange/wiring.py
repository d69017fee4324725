"""Nodes and edges of a graph: structural validation, nested graphs, and the order of calls.

A cycle runs step by step. An edge whose source runs after its target has a delay of one step, and
gives 0 at the first step. The order is that of nirtorch, so that the same edges have delays: nodes
are taken in the order of the graph; one waits until its inputs are known, but a node with several
inputs does not wait for those of its own cycle.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter
from typing import TypeAlias

from lnm_codegen.errors import ModelError
from lnm_codegen.validation import did_you_mean, listed

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
