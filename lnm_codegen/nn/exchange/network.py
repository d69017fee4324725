"""`NirNetwork`: a graph of modules as one module, over whole sequences or step by step."""

from __future__ import annotations

import keyword
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, cat, nn

from lnm_codegen.errors import ShapeError
from lnm_codegen.nn.exchange.layers import Shape
from lnm_codegen.nn.exchange.modules import Delay
from lnm_codegen.nn.exchange.parts import Parts
from lnm_codegen.nn.exchange.wiring import Edges, Wiring
from lnm_codegen.nn.layer import NeuronLayer


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
            if self.wiring.is_cycle(group):
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
            if not module.neuron.states:
                return module(x_seq), None
            return module(x_seq, state=state, return_state=True)
        if isinstance(module, Delay):
            return module.run(x_seq, state)
        if isinstance(module, nn.Linear):
            return module(x_seq), None
        out = module(x_seq.flatten(0, 1))
        return out.reshape(*x_seq.shape[:2], *out.shape[1:]), None

    def _run_cycle(self, group: Sequence[str], values: dict[str, Tensor]) -> None:
        """Run the nodes of a cycle step by step, and add their outputs to `values`."""
        outside = {s for n in group for s in self.wiring.sources[n] if s not in group}
        some = next(values[s] for s in outside)
        steps, batch = some.shape[:2]
        last = {n: some.new_zeros(1, batch, *self.shapes[n]) for n in group}
        states: dict[str, Any] = dict.fromkeys(group)
        found: dict[str, list[Tensor]] = {n: [] for n in group}
        for t in range(steps):
            at = {s: values[s][t : t + 1] for s in outside} | last
            for name in group:
                at[name], states[name] = self._run(name, self._input(name, at), states[name])
                found[name].append(at[name])
            last = {n: at[n] for n in group}
        for name in group:
            values[name] = _joined(found[name], some, self.shapes[name])


def _joined(steps: Sequence[Tensor], like: Tensor, shape: Shape) -> Tensor:
    return cat([*steps]) if steps else like.new_zeros(0, like.shape[1], *shape)


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
