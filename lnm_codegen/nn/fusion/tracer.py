"""Graph of a module's own forward by `torch.fx`, if every call of the forward has that graph.

An argument in a trace is a stand-in, which is neither None nor a tensor. So a forward that tests
its arguments may have other graphs. `graph_of` looks for these: it traces again with None and with
defaults in place of arguments, and it refuses tests of types.
"""

from __future__ import annotations

import operator
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import Tensor, fx, nn
from torch.fx.proxy import TraceError

from lnm_codegen.errors import reason
from lnm_codegen.nn.fusion.attributes import Attributes
from lnm_codegen.nn.fusion.pair import has_hooks
from lnm_codegen.nn.fusion.sequence import is_sequential
from lnm_codegen.validation import shown

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
