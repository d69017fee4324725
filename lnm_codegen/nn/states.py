"""Reset of a model: of neuron layers, and of modules of a user or of other libraries.

A module is reset by the convention of its library: `reset()` of SpikingJelly, `reset_mem()` of
snnTorch. Norse passes states from call to call, so its layers keep none.
"""

from __future__ import annotations

import functools
import inspect
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from lnm_codegen.nn.call import StatefulModule
from lnm_codegen.nn.convert.recipe import assigned_names, filled_names
from lnm_codegen.nn.load.warn import warn
from lnm_codegen.validation import counted, wrong

_KNOWN = ("torch", "lnm_codegen", "spikingjelly", "snntorch", "norse")
"""Packages whose classes keep no state that their own reset does not discard."""

_BEGIN = ("__init__", "reset_parameters", "_load_from_state_dict", "__setstate__")
"""Methods that assign constants, and no state of a call."""


def reset(model: nn.Module) -> None:
    """Discard the states that the modules of a model keep from call to call.

    Those are our layers; a layer of snnTorch, by `reset_mem()`; and any other module whose class
    has `reset()`, as SpikingJelly and its `reset_net` have it, except metrics of torchmetrics. A
    RuntimeWarning has the paths of modules that keep tensors from their calls and have no such
    method, or one that needs arguments. Not seen are a state in an object that is no module, and a
    buffer of a `state_dict` that is changed in place. A compiled function that calls `reset` does
    not warn.

    Raises:
        ModelError: `model` is not a module.
    """
    if not isinstance(model, nn.Module):
        raise wrong("reset", "model", model, "a torch.nn.Module")
    open_ones: list[str] = []
    for path, module in model.named_modules():
        method = reset_of(module)
        if method is not None and not _needs_arguments(method):
            method()
            if _is_of_user(type(module), method.__name__):
                continue
        if torch.compiler.is_compiling():
            continue  # Dynamo cannot trace the search of sources
        names = [f"{method.__name__}(...)"] if method and _needs_arguments(method) else []
        if found := names or sorted(kept_by(module)):
            open_ones.append(f"{path or '(model)'} ({type(module).__name__}: {', '.join(found)})")
    if open_ones:
        modules = counted(len(open_ones), "module")
        warn(
            f"lnm.nn.reset: {modules} may keep a state that was not reset: "
            f"{', '.join(open_ones)}. Give their class a method reset() without arguments."
        )


def reset_of(module: nn.Module) -> Callable[..., Any] | None:
    """Return the method that discards the states of a module, or None."""
    if isinstance(module, StatefulModule):
        return module.reset
    kind = type(module)
    own = "reset_mem" if _is_of(kind, "snntorch") else "reset"
    if _is_metric(kind) or not callable(getattr(kind, own, None)):
        return None
    method: Callable[..., Any] = getattr(module, own)
    return method if callable(method) else None


def kept_by(module: nn.Module) -> Iterator[str]:
    """Yield the attributes in which a module of a user keeps tensors of a call.

    Those that a method other than `__init__` assigns, or fills if they are lists or dicts: no
    parameters, no modules, and no buffers that a state_dict has.
    """
    kind: type = type(module)
    names, filled = _written_in_calls(kind)
    if not names | filled or _is_metric(kind):
        return
    buffers = {n: module._buffers[n] for n in module._non_persistent_buffers_set}
    for name, value in {**vars(module), **buffers}.items():
        holds = name in filled and isinstance(value, list | dict | deque)
        if (holds or name in names) and _has_tensor(value):
            yield name


@functools.lru_cache(maxsize=512)
def _written_in_calls(kind: type) -> tuple[frozenset[str], frozenset[str]]:
    """Return the attributes that methods of a class assign, and those that they fill."""
    if kind.__name__ == "RegularizationCell" and _is_of(kind, "norse"):
        return frozenset({"state"}), frozenset()
    assigned: set[str] = set()
    filled: set[str] = set()
    for base in kind.__mro__:
        if base is object or _root(base) in _KNOWN:
            continue
        methods = [value for name, value in vars(base).items() if name not in _BEGIN]
        assigned = assigned.union(*map(assigned_names, methods))
        filled = filled.union(*map(filled_names, methods))
    return frozenset(assigned), frozenset(filled)


def _is_of_user(kind: type, method: str) -> bool:
    owner = next(base for base in kind.__mro__ if method in vars(base))
    return _root(owner) not in _KNOWN


def _is_of(kind: type, package: str) -> bool:
    return any(_root(base) == package for base in kind.__mro__)


def _is_metric(kind: type) -> bool:
    return callable(getattr(kind, "update", None)) and callable(getattr(kind, "compute", None))


def _root(kind: type) -> str:
    return kind.__module__.partition(".")[0]


def _needs_arguments(method: Callable[..., Any]) -> bool:
    try:
        inspect.signature(method).bind()
    except (TypeError, ValueError):
        return True
    return False


def _has_tensor(value: Any) -> bool:
    if isinstance(value, list | tuple | deque):
        return any(map(_has_tensor, value))
    if isinstance(value, dict):
        return any(map(_has_tensor, value.values()))
    return isinstance(value, Tensor) and not isinstance(value, nn.Parameter)
