"""Operations of a traced forward that change tensors in place, and tensors that share memory."""

from __future__ import annotations

from typing import Any

from torch import fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from lnm_codegen.nn.fusion.tracer import IN_PLACE
from lnm_codegen.nn.layer import NeuronLayer

_FRESH_MODULES = (_ConvNd, nn.Linear, _BatchNorm, NeuronLayer)
_FRESH = {"add", "sub", "mul", "div", "truediv", "pow", "neg", "matmul", "relu", "cat", "clone"}
"""Names of functions and methods whose result has memory of its own, unless they are in place."""


class Memory:
    """Memory of the values of a graph.

    A result may share the memory of every tensor that its operation reads, as a view does, unless
    the operation is known to make a new tensor.
    """

    def __init__(self, module: nn.Module, graph: fx.Graph) -> None:
        self._module = module
        self._found: dict[fx.Node, frozenset[fx.Node]] = {}
        for node in graph.nodes:  # in order of execution
            read = () if self._is_fresh(node) else node.all_input_nodes
            self._found[node] = self.of(*read) or frozenset((node,))

    def of(self, *nodes: fx.Node) -> frozenset[fx.Node]:
        """Return the nodes that made the memory that values may have."""
        return frozenset().union(*(self._found[node] for node in nodes))

    def changed_by(self, node: fx.Node) -> frozenset[fx.Node]:
        """Return the memory that an operation changes in place."""
        first = node.args[:1] if self._is_in_place(node) else ()
        changed: list[fx.Node] = []
        fx.map_arg((first, node.kwargs.get("out")), changed.append)
        return self.of(*changed)

    def _is_fresh(self, node: fx.Node) -> bool:
        if self._is_in_place(node) or node.kwargs.get("out") is not None:
            return False
        if node.op == "call_module":
            return isinstance(self._called(node), _FRESH_MODULES)
        return _name_of(node) in _FRESH and node.op.startswith("call_")

    def _is_in_place(self, node: fx.Node) -> bool:
        """Report whether a node changes its first argument, by the names of PyTorch and Python."""
        if node.op == "call_module":
            return bool(getattr(self._called(node), "inplace", False))
        return (
            node.target in IN_PLACE.values()
            or _name_of(node).endswith("_")
            or bool(node.kwargs.get("inplace"))
        )

    def _called(self, node: fx.Node) -> Any:
        return self._module.get_submodule(str(node.target))


def _name_of(node: fx.Node) -> str:
    return getattr(node.target, "__name__", str(node.target))
