"""Pairs in a `forward` that `torch.fx` can trace, and a forward with shortcuts as second inputs."""

from __future__ import annotations

import copy
import operator
import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping, MutableMapping, MutableSequence, MutableSet
from itertools import chain
from typing import Any, NamedTuple, NoReturn

import torch
from torch import Tensor, fx, nn
from torch.fx.proxy import TraceError
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from lnm_codegen.errors import UnsupportedError, reason
from lnm_codegen.nn.convert.libraries import is_spiking
from lnm_codegen.nn.fusion.pair import (
    Pair,
    has_hooks,
    is_sequential,
    joined,
    last_norm,
    restores_time,
)
from lnm_codegen.nn.layer import NeuronLayer
from lnm_codegen.nn.norm.layer import NormNeuron
from lnm_codegen.validation import shown

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
    made = memo[id(module)] = type(module).__new__(type(module))
    made.__dict__.update(copy.deepcopy(vars(module), memo))
    return made


def _refuse(module: nn.Module, _: Any) -> NoReturn:
    problem = f"{type(module).__name__} has a traced forward, which cannot be pickled"
    remedy = "Save its state_dict. Delete the file that torch.save has begun: it is incomplete."
    raise UnsupportedError("fuse", problem, remedy=remedy)


# Graph of a module's own forward by `torch.fx`, if every call of the forward has that graph.
#
# An argument in a trace is a stand-in, which is neither None nor a tensor. So a forward that tests
# its arguments may have other graphs. `graph_of` looks for these: it traces again with None and
# with defaults in place of arguments, and it refuses tests of types.


_SIGNS = (
    "add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "and", "or", "xor", "lshift", "rshift"
)  # fmt: skip
IN_PLACE = {f"i{sign}": getattr(operator, f"i{sign}") for sign in _SIGNS}
"""Functions of `operator` that change their first argument, if it is a tensor."""

_TESTS = {"isinstance", "__class__", "_abc_instancecheck"}
"""Names in a function that tests types. PyTorch's functions in C test types in its frame too."""

_EQUAL = (int, float, complex, str, tuple, list, dict, Tensor)
"""Types of values that a forward compares by `==`, which a trace refuses, and not by `is`."""


class _Proxy(fx.Proxy):
    """Value of a trace. `a += b` changes a, as for a tensor; fx alone makes a new value."""

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        """Return the class to PyTorch, and raise TraceError in a function that tests types."""
        code, names = sys._getframe(1).f_code, sys._getframe(1).f_globals
        if names.get("__name__", "").startswith("torch.") or _TESTS.isdisjoint(code.co_names):
            return type(self)
        raise TraceError("it tests the type of a value")


def _recorded(function: Callable[..., Any]) -> Callable[..., Any]:
    def record(a: fx.Proxy, b: Any) -> fx.Proxy:
        return a.tracer.create_proxy("call_function", function, (a, b), {})

    return record


for _name, _function in IN_PLACE.items():
    setattr(_Proxy, f"__{_name}__", _recorded(_function))


class _Tracer(fx.Tracer):
    """Tracer that records a call of every module but a sequential one without hooks.

    `bound` are values of arguments, by the names of their placeholders. Operations on a buffer
    become operations of the graph too.
    """

    proxy_buffer_attributes = True

    def __init__(self, bound: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        self._bound = bound or {}

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Proxy(node, self)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return not is_sequential(m) or has_hooks(m)

    def create_args_for_root(self, *given: Any, **options: Any) -> tuple[Any, list[Any]]:
        function, arguments = super().create_args_for_root(*given, **options)
        return function, [
            self._bound.get(str(a.node.target), a) if type(a) is _Proxy else a for a in arguments
        ]


def graph_of(module: nn.Module) -> tuple[fx.Graph, str]:
    """Return the graph of a module's own forward, and why there is none; empty if there is one."""
    if "forward" in vars(module):
        return fx.Graph(), "its forward was replaced on the object"
    graph, problem = fx.Graph(), ""
    training, attributes = module.training, Attributes(module)
    try:
        graphs = []
        for mode in (True, False):
            module.training = mode
            graphs.append(_Tracer().trace(module))
            problem = problem or _other_branch(module, graphs[-1])
        graph = graphs[0]
        if str(graphs[0]) != str(graphs[1]):
            problem = "its forward depends on the mode, train or eval"
    except Exception as error:  # a user's code may raise anything on a proxy
        problem = _untraced("", error)
    finally:  # also where the user interrupts it
        module.training = training
        if attributes.restore():
            problem = problem or "its forward changes its attributes"
    return graph, problem


def _untraced(where: str, error: Exception) -> str:
    return f"torch.fx cannot trace it{where}: {reason(error).splitlines()[0]}"


def _other_branch(module: nn.Module, graph: fx.Graph) -> str:
    """Return which values of arguments lead to another graph; empty if none is found."""
    for bound, is_default in _bindings([n for n in graph.nodes if n.op == "placeholder"]):
        words = " and ".join(f"{name} is {shown(value)}" for name, value in bound.items())
        try:
            other = _Tracer(bound).trace(module)
        except Exception as error:
            if is_default or isinstance(error, TraceError):
                return _untraced(f" where {words}", error)
            continue  # no call has this value
        if _written(graph, bound) != _written(other, bound):
            return f"its forward takes another branch where {words}"
    return ""


def _bindings(arguments: list[fx.Node]) -> Iterator[tuple[dict[str, Any], bool]]:
    """Yield values of arguments for a trace, and whether they are defaults.

    Each argument is None, its default, or the opposite of its default; then all are their defaults.
    """
    defaults = {str(n.target): n.args[0] for n in arguments if n.args}
    told = {n: v for n, v in defaults.items() if type(v) is bool or not isinstance(v, _EQUAL)}
    for name in (str(n.target) for n in arguments):
        if name.startswith("*"):
            yield {name: {} if name.startswith("**") else ()}, False
            continue
        if name in told:
            yield {name: told[name]}, True
        if type(told.get(name)) is bool:
            yield {name: not told[name]}, False
        if told.get(name, told) is not None:
            yield {name: None}, False
    if len(told) > 1:
        yield told, True


def _written(graph: fx.Graph, bound: Mapping[str, Any]) -> list[str]:
    """Return the operations of a graph as text, with values in place of bound arguments."""

    def value(node: fx.Node) -> Any:
        return bound.get(str(node.target), node) if node.op == "placeholder" else node

    return [
        f"{node} = {node.op} {node.target} {fx.map_arg((node.args, node.kwargs), value)}"
        for node in graph.nodes
        if node.op != "placeholder"
    ]


# Attributes of a module before a trace of its forward, to find and undo what the trace changed.


_CONTAINERS = (MutableMapping, MutableSequence, MutableSet, deque)


class Attributes:
    """Attributes of a module as they are, with the contents of containers and tensors in them."""

    def __init__(self, module: nn.Module) -> None:
        own = {id(buffer) for buffer in module._buffers.values()}
        self._contents = [
            (value, value.detach().clone() if isinstance(value, Tensor) else copy.copy(value))
            for value in _mutable(vars(module), own)
        ]

    def restore(self) -> bool:
        """Undo changes of the attributes and of their contents; report whether there were any."""
        changed = [pair for pair in self._contents if not _same(*pair)]
        for value, before in changed:
            _fill(value, before)
        return bool(changed)


def _mutable(value: Any, seen: set[int]) -> Iterator[Any]:
    """Yield the containers and tensors in a value that are not in `seen`; no parameters."""
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, Tensor):
        if not value.is_meta and not isinstance(value, nn.Parameter):
            yield value
    elif isinstance(value, (*_CONTAINERS, tuple)):
        if not isinstance(value, tuple):
            yield value
        items = value.values() if isinstance(value, MutableMapping) else value
        yield from chain.from_iterable(_mutable(item, seen) for item in items)


def _same(value: Any, before: Any) -> bool:
    """Report whether contents are those of before: the same objects, or equal numbers."""
    if isinstance(before, Tensor):
        same = value.shape == before.shape
        return same and bool(((value == before) | (value.isnan() & before.isnan())).all())
    if isinstance(before, MutableMapping):
        return value.keys() == before.keys() and all(value[k] is v for k, v in before.items())
    if isinstance(before, MutableSet):
        return bool(value == before)
    return len(value) == len(before) and all(a is b for a, b in zip(value, before, strict=True))


def _fill(value: Any, before: Any) -> None:
    """Give a container or a tensor its contents of before."""
    if isinstance(before, Tensor):
        with torch.no_grad():
            value.copy_(before)
        return
    value.clear()
    if isinstance(before, MutableMapping):
        value.update(before)
    elif isinstance(before, MutableSet):
        value |= before
    else:
        value.extend(before)


# Operations of a traced forward that change tensors in place, and tensors that share memory.


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
        return _storage_name(node) in _FRESH and node.op.startswith("call_")

    def _is_in_place(self, node: fx.Node) -> bool:
        """Report whether a node changes its first argument, by the names of PyTorch and Python."""
        if node.op == "call_module":
            return bool(getattr(self._called(node), "inplace", False))
        return (
            node.target in IN_PLACE.values()
            or _storage_name(node).endswith("_")
            or bool(node.kwargs.get("inplace"))
        )

    def _called(self, node: fx.Node) -> Any:
        return self._module.get_submodule(str(node.target))


def _storage_name(node: fx.Node) -> str:
    return getattr(node.target, "__name__", str(node.target))
