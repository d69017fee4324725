"""Pairs in a `forward` that `torch.fx` can trace, and a forward with shortcuts as second inputs."""

from __future__ import annotations

import copy
import operator
from typing import Any, NamedTuple, NoReturn

import torch
from torch import fx, nn

from lnm_codegen.errors import UnsupportedError, reason
from lnm_codegen.nn.fusion.pair import Pair, joined
from lnm_codegen.nn.fusion.sequence import is_sequential, last_norm, restores_time
from lnm_codegen.nn.layer import NeuronLayer

_ADD = (operator.add, operator.iadd, torch.add)


class _Sum(NamedTuple):
    """The sum of the output of a normalisation and a shortcut."""

    node: fx.Node
    value: fx.Node
    shortcut: fx.Node


class _Tracer(fx.Tracer):
    """Tracer that records a call of every module but a sequential one."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return not is_sequential(m)


class Trace:
    """The graph of a module's own forward.

    Attributes:
        problem: Why there is no graph; empty if there is one.
    """

    def __init__(self, path: str, module: nn.Module) -> None:
        self._path, self._module, self.problem = path, module, ""
        self._graph, self._sums = fx.Graph(), dict[str, _Sum]()
        training, before, after = module.training, dict(vars(module)), vars(module)
        try:
            graphs = []
            for mode in (True, False):
                module.training = mode
                graphs.append(_Tracer().trace(module))
            self._graph = graphs[0]
            if str(graphs[0]) != str(graphs[1]):
                self.problem = "its forward depends on the mode, train or eval"
        except Exception as error:  # a user's code may raise anything on a proxy
            self.problem = f"torch.fx cannot trace it: {reason(error).splitlines()[0]}"
        finally:  # also where the user interrupts it
            module.training = training
            if after.keys() != before.keys() or any(after[k] is not v for k, v in before.items()):
                self.problem = self.problem or "its forward changes its attributes"
                after.clear()
                after.update(before)

    def pairs(self) -> tuple[list[Pair], dict[str, str]]:
        """Return the pairs, and the reasons of the other normalisations, by path."""
        found: list[Pair] = []
        reasons: dict[str, str] = {}
        for node in self._graph.nodes:
            module = self._called(node)
            last = None if module is None else last_norm(module)
            if last is None:
                continue
            norm = joined(node.target, last[0])
            result = self._follow(node, norm, last[1])
            if isinstance(result, str):
                reasons[norm] = result
            elif result.neuron in (pair.neuron for pair in found):
                reasons[norm] = f"its output is the shortcut of {joined(self._path, result.neuron)}"
            else:
                found.append(result)
        return found, reasons

    def _follow(self, node: fx.Node, norm: str, flattened: bool) -> Pair | str:
        """Return the pair of a normalisation, or the reason why it has none."""
        if self._calls(str(node.target)) > 1:
            return "it runs more than once in a call"
        value: fx.Node = node
        total: _Sum | None = None
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
            elif isinstance(module, NeuronLayer):
                break
            else:
                return f"its output goes to {_name_of(user, module)}"
            value = user
        if user.args != (value,) or user.kwargs:
            return f"{joined(self._path, str(user.target))} has further inputs or options"
        if self._calls(str(user.target)) > 1:
            return f"{joined(self._path, str(user.target))} runs more than once in a call"
        if total is not None:
            self._sums.setdefault(str(user.target), total)
        return Pair(norm, str(user.target), total is not None, flattened)

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
    raise UnsupportedError("fuse", problem, remedy="Save its state_dict.")
