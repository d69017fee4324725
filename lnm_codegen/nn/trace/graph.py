"""Graph of a traced function, and the charge that it contains.

A function that returns outputs and states reads every state at step t-1. It mostly computes the
charged states first, and everything else from these. Such nodes of the graph become the charge of
the neuron, so that it has the phases of a neuron that was written with `lnm.Neuron`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lnm_codegen.language.symbols import is_spike
from lnm_codegen.nn.trace.operations import TracedCondition, Value

MOST = 20_000
"""Largest number of combinations of nodes that are tried as charged states."""
MAX_SIZE = 80_000
"""Largest number of operations of a value, each counted as often as it is read."""


@dataclass(frozen=True, slots=True, eq=False)
class TraceNode:
    """A value of the function, and the operation that made it; a symbol or a number has none.

    `size` counts the operations of its expression, each as often as it is read.
    """

    value: Value
    make: Callable[..., Value] | None = None
    operands: tuple[Any, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    size: int = 1

    def parts(self) -> Iterator[TraceNode]:
        """Yield the nodes that the operation reads."""
        for part in (*self.operands, *self.options.values()):
            if isinstance(part, TraceNode):
                yield part


def applied_to(make: Callable[..., Value], *operands: Any, **options: Any) -> TraceNode:
    """Return the node of an operation on nodes and numbers."""
    value = make(*map(_value, operands), **{k: _value(o) for k, o in options.items()})
    parts = [p for p in (*operands, *options.values()) if isinstance(p, TraceNode)]
    return TraceNode(value, make, operands, options, 1 + sum(p.size for p in parts))


def _value(part: Any) -> Any:
    return part.value if isinstance(part, TraceNode) else part


def replayed(node: TraceNode, table: dict[TraceNode, Value]) -> Any:
    """Return the value of a node with the values of `table`, to which it adds those it computes."""
    if node not in table:
        if node.make is None:
            return node.value
        operands = [replayed(p, table) if isinstance(p, TraceNode) else p for p in node.operands]
        options = {
            k: replayed(p, table) if isinstance(p, TraceNode) else p
            for k, p in node.options.items()
        }
        table[node] = node.make(*operands, **options)
    return table[node]


def charged(
    states: Sequence[TraceNode], after: Sequence[TraceNode], roots: Sequence[TraceNode]
) -> list[Any]:
    """Return a node for each state that holds its charged value, or None for no charge.

    No root depends on a state of step t-1 but through these nodes. Where several fit, each is the
    last one before the new state. Without a fit every state has None.

    Args:
        states: Nodes of the states of step t-1.
        after: Nodes of their new values, in the same order.
        roots: All results of the function: outputs, new states, arguments of spikes.
    """
    spiking = _Spiking()
    choices = [[*(n for n in _above(root) if _is_charge(n, spiking)), None] for root in after]
    combinations: Iterator[tuple[Any, ...]] = itertools.product(*choices)
    for nodes in itertools.islice(combinations, MOST):
        chosen = [n for n in nodes if n is not None]
        if len(set(chosen)) == len(chosen) and not _leaks(roots, {*chosen}, {*states}):
            return list(nodes)
    return [None] * len(states)


class _Spiking:
    """Memo of the nodes that read a spike."""

    def __init__(self) -> None:
        self._known: dict[TraceNode, bool] = {}

    def __call__(self, node: TraceNode) -> bool:
        if node not in self._known:
            own = node.make is None and is_spike(node.value)
            self._known[node] = own or any([self(p) for p in node.parts()])
        return self._known[node]


def _is_charge(node: TraceNode, spiking: Callable[[TraceNode], bool]) -> bool:
    return (
        node.make is not None and not isinstance(node.value, TracedCondition) and not spiking(node)
    )


def _above(root: TraceNode) -> list[TraceNode]:
    """Return the nodes that a root depends on, itself first, each before those that it reads."""
    found: dict[TraceNode, None] = {}

    def visit(node: TraceNode) -> None:
        if node not in found:
            for part in node.parts():
                visit(part)
            found[node] = None

    visit(root)
    return list(reversed(found))


def _leaks(
    roots: Sequence[TraceNode], cut: Collection[TraceNode], states: Collection[TraceNode]
) -> bool:
    """Report whether a root reads a state on a path that avoids the nodes of the cut."""
    seen: set[TraceNode] = set()
    stack = list(roots)
    while stack:
        node = stack.pop()
        if node in seen or node in cut:
            continue
        seen.add(node)
        if node in states:
            return True
        stack.extend(node.parts())
    return False
