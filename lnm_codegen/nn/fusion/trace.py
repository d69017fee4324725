"""Pairs in a `forward` that `torch.fx` can trace, and a forward with shortcuts as second inputs."""

from __future__ import annotations

import copy
import operator
from typing import Any, NamedTuple, NoReturn

import torch
from torch import fx, nn

from lnm_codegen.errors import UnsupportedError
from lnm_codegen.nn.fusion.memory import Memory
from lnm_codegen.nn.fusion.pair import Pair, joined
from lnm_codegen.nn.fusion.sequence import is_spiking, last_norm, restores_time
from lnm_codegen.nn.fusion.tracer import graph_of
from lnm_codegen.nn.norm.layer import NormNeuron

_ADD = (operator.add, operator.iadd, torch.add)


class _Sum(NamedTuple):
    """The sum of the output of a normalisation and a shortcut."""

    node: fx.Node
    value: fx.Node
    shortcut: fx.Node


class Trace:
    """The graph of a module's own forward.

    Attributes:
        problem: Why there is no graph; empty if there is one.
    """

    def __init__(self, path: str, module: nn.Module) -> None:
        self._path, self._module, self._sums = path, module, dict[str, _Sum]()
        self._graph, self.problem = graph_of(module)
        self._memory = Memory(module, self._graph)

    def pairs(self) -> tuple[list[Pair], dict[str, str], set[str]]:
        """Return the pairs, the reasons of the other normalisations, and those read by others.

        Normalisations are paths. The last are those whose output, or whose neurons, a call of this
        forward uses on their own.
        """
        found: list[Pair] = []
        reasons: dict[str, str] = {}
        alone: set[str] = set()
        for node in self._graph.nodes:
            module = self._called(node)
            last = None if module is None else last_norm(module)
            if last is None:
                continue
            norm = joined(node.target, last[0])
            result, calls = self._follow(node, norm, last[1]), self._calls(str(node.target))
            if isinstance(result, str):
                reasons[norm] = result
                alone.add(norm)
            elif calls != (others := self._calls(result.neuron)):
                called = norm if calls > others else result.neuron
                reasons[norm] = f"{joined(self._path, called)} runs more than once in a call"
                alone.add(norm)
            elif calls > 1:
                reasons.setdefault(norm, "it runs more than once in a call")
            elif result.neuron in (pair.neuron for pair in found):
                reasons[norm] = self._is_shortcut_of(result.neuron)
            else:
                found.append(result)
        return found, reasons, alone

    def _follow(self, node: fx.Node, norm: str, flattened: bool) -> Pair | str:
        """Return the pair of a normalisation, or the reason why it has none."""
        value: fx.Node = node
        total: _Sum | None = None
        crossed = [str(node.target)] if str(node.target) != norm else []
        while True:
            if len(value.users) != 1:
                return "its output has several readers, or none"
            user = next(iter(value.users))
            module = self._called(user)
            if type(module) is nn.Identity:
                pass
            elif total is None and not flattened and self._restores_time(user, value):
                flattened = True
            elif total is None and (total := _sum_of(user, value)) is not None:
                pass
            elif module is not None and is_spiking(module):
                break
            else:
                added = [name for name, known in self._sums.items() if known.shortcut is value]
                name = _name_of(user, module)
                return self._is_shortcut_of(added[0]) if added else f"its output goes to {name}"
            if module is not None:
                crossed.append(str(user.target))
            value = user
        if isinstance(module, NormNeuron) and user.args[1:] == (value,):
            return self._is_shortcut_of(str(user.target))
        if user.args != (value,) or user.kwargs:
            return f"{joined(self._path, str(user.target))} has further inputs or options"
        if self._is_changed(node, total, user):
            return f"its input or a shortcut is changed in place before {user.target} runs"
        if total is not None:
            self._sums.setdefault(str(user.target), total)
        return Pair(norm, str(user.target), total is not None, flattened, tuple(crossed))

    def _is_shortcut_of(self, neuron: str) -> str:
        """Return the reason of a normalisation whose output is the second input of a layer."""
        return f"its output is the shortcut of {joined(self._path, neuron)}"

    def _is_changed(self, norm: fx.Node, total: _Sum | None, neuron: fx.Node) -> bool:
        """Report whether an input of the fused neuron changes between its old and new reader."""
        read = self._memory.of(*norm.all_input_nodes)
        node = norm.next
        while node is not neuron:
            if total is not None and node is total.node:
                read |= self._memory.of(total.shortcut)
            elif read & self._memory.changed_by(node):
                return True
            node = node.next
        return False

    def _called(self, node: fx.Node) -> nn.Module | None:
        return self._module.get_submodule(str(node.target)) if node.op == "call_module" else None

    def _calls(self, target: str) -> int:
        return sum(n.op == "call_module" and n.target == target for n in self._graph.nodes)

    def _restores_time(self, user: fx.Node, value: fx.Node) -> bool:
        module = self._called(user)
        if module is not None:
            return restores_time(module)
        named = user.op == "call_method" and user.target == "unflatten"
        if not (named or user.target is torch.unflatten) or user.kwargs or len(user.args) != 3:
            return False
        first, axis, sizes = user.args
        is_pair = isinstance(sizes, tuple | list) and len(sizes) == 2
        is_pair |= isinstance(sizes, fx.Node) and _is_first_two(sizes)
        return first is value and isinstance(axis, int) and axis == 0 and is_pair

    def pass_shortcuts(self, pairs: list[Pair]) -> None:
        """Change the class of the module, so that its forward passes shortcuts to their neurons.

        The new class is a subclass of the same name with the traced forward.
        """
        neurons = {pair.neuron for pair in pairs if pair.shortcut}
        for node in [n for n in self._graph.nodes if n.target in neurons]:
            total, last = self._sums[str(node.target)], node.args[0]
            node.args = total.value, total.shortcut
            while last is not total.node:
                before = last.args[0]
                self._graph.erase_node(last)
                last = before
            self._graph.erase_node(total.node)
        traced = type(fx.GraphModule(self._module, self._graph))
        own = type(self._module)
        methods = {
            "forward": traced.forward,
            "__module__": own.__module__,
            "__deepcopy__": _copied,
            "__reduce_ex__": _refuse,
        }
        self._module.__class__ = type(own.__name__, (own,), methods)


def _is_first_two(sizes: fx.Node) -> bool:
    """Report whether a node is `x.shape[:2]`."""
    if sizes.target is not operator.getitem or sizes.args[1] not in (slice(2), slice(0, 2)):
        return False
    shape = sizes.args[0]
    return isinstance(shape, fx.Node) and shape.target is getattr and shape.args[1] == "shape"


def _name_of(user: fx.Node, module: nn.Module | None) -> str:
    """Return a module's class, or the name of a function, a method or the output."""
    if module is not None:
        return type(module).__name__
    return (
        "the output" if user.op == "output" else getattr(user.target, "__name__", str(user.target))
    )


def _sum_of(user: fx.Node, value: fx.Node) -> _Sum | None:
    """Return the sum of a value and another, or None if the node is something else."""
    in_place = user.target in (operator.iadd, "add_")
    is_sum = user.op == "call_function" and user.target in _ADD
    is_sum |= user.op == "call_method" and user.target in ("add", "add_")
    if not is_sum or user.kwargs or len(user.args) != 2:
        return None
    a, b = user.args
    if not (isinstance(a, fx.Node) and isinstance(b, fx.Node)) or a is b:
        return None
    if a is value:
        return _Sum(user, a, b)
    return None if in_place else _Sum(user, b, a)


def _copied(module: nn.Module, memo: dict[int, Any]) -> nn.Module:
    """Return a deep copy, of the same class."""
    made = memo[id(module)] = type(module).__new__(type(module))
    made.__dict__.update(copy.deepcopy(vars(module), memo))
    return made


def _refuse(module: nn.Module, _: Any) -> NoReturn:
    problem = f"{type(module).__name__} has a traced forward, which cannot be pickled"
    remedy = "Save its state_dict. Delete the file that torch.save has begun: it is incomplete."
    raise UnsupportedError("fuse", problem, remedy=remedy)
