"""Record of one forward on a sample: the modules that run, and the values between them.

Modules with a node of their own are recorded as a whole. Between them, operations that move T and N
or flatten features are followed, and additions. Any other operation is refused by its name.
`torch.fx`, which `fuse` uses, cannot trace a forward that depends on a shape; a sample can.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode, resolve_name

from lnm_codegen.errors import UnsupportedError
from lnm_codegen.nn.exchange.known import RESHAPING, SAME, WHERE, is_leaf, require_forward
from lnm_codegen.nn.exchange.modules import Delay
from lnm_codegen.nn.exchange.parts import INPUT, OUTPUT, ForwardRecord, HasParts, NodeCall, Parts
from lnm_codegen.nn.exchange.signals import Frame, FrameSignal, Layout
from lnm_codegen.nn.layer import NeuronLayer
from lnm_codegen.nn.norm.deferred import DeferredNorm

_RESHAPES = {
    "flatten",
    "reshape",
    "view",
    "unflatten",
    "squeeze",
    "unsqueeze",
    "view_as",
    "reshape_as",
}
_KEEPS = {
    "contiguous",
    "clone",
    "detach",
    "to",
    "float",
    "double",
    "cpu",
    "requires_grad_",
    "alias",
}
_ADDS = {"add", "add_", "__add__", "__radd__", "__iadd__"}
_ACCEPTED = "reshapes that keep T and N or flatten features, and sums of two values"


def record(model: nn.Module, sample: Tensor, layout: Layout) -> ForwardRecord:
    """Run a model in eval mode and return the record; `layout` is that of the sample.

    Raises:
        UnsupportedError: An operation or a module that is no node.
    """
    lead = 1 if layout == "once" else 2
    steps = 0 if layout == "once" else sample.shape[0]
    frame = Frame(steps, sample.shape[lead - 1])
    mode = _Recorder(frame, ForwardRecord(tuple(sample.shape[lead:])))
    mode.know(sample, FrameSignal((INPUT,), tuple(sample.shape[lead:]), layout))
    for path, module in model.named_modules():
        mode.watch(path, module)
    with torch.no_grad(), mode:
        out = model(sample)
    return mode.finish(sample, out, layout)


class _Recorder(TorchFunctionMode):
    """Observer of operations and modules."""

    def __init__(self, frame: Frame, found: ForwardRecord) -> None:
        super().__init__()
        self._frame, self._found, self._depth = frame, found, 0
        self._signals: dict[int, tuple[Tensor, FrameSignal]] = {}

    def know(self, value: Tensor, signal: FrameSignal) -> None:
        """Associate a tensor with its signal; the tensor is kept, so that its id stays its own."""
        self._signals[id(value)] = (value, signal)

    def signal_of(self, where: str, value: Any) -> FrameSignal:
        """Return the signal of a tensor, or raise UnsupportedError."""
        if id(value) not in self._signals:
            problem = "its input does not come from the sample by recorded operations"
            raise UnsupportedError(where, problem, _ACCEPTED)
        return self._signals[id(value)][1]

    def watch(self, path: str, module: nn.Module) -> None:
        """Observe the calls of a module; the model is a copy, so the hooks stay."""
        if isinstance(module, NeuronLayer):
            self._found.layers[path] = module
            module.register_forward_pre_hook(self._capture(path))
        if is_leaf(module):
            module.register_forward_pre_hook(self._enter)
            module.register_forward_hook(self._leave(path), with_kwargs=True)

    def _capture(self, path: str) -> Callable[[nn.Module, Any], None]:
        def hook(_: nn.Module, args: Any) -> None:
            for found, value in zip(
                (self._found.inputs, self._found.shortcuts), args, strict=False
            ):
                found.setdefault(path, []).append(value)

        return hook

    def _enter(self, *_: Any) -> None:
        self._depth += 1

    def _leave(self, path: str) -> Callable[[nn.Module, Any, Any, Any], None]:
        def hook(module: nn.Module, args: Any, named: Any, out: Any) -> None:
            self._depth -= 1
            if self._depth == 0:
                self._called(path, module, args, named, out)

        return hook

    def _called(self, path: str, module: nn.Module, args: Any, named: Any, out: Any) -> None:
        where = f"{WHERE}: {path}" if path else WHERE
        for name, value in named.items():
            if value is not None and value is not False:
                problem = f"the call has the keyword argument {name!r}"
                raise UnsupportedError(where, problem, "inputs by position")
        if not isinstance(out, Tensor) or not args or not isinstance(args[0], Tensor):
            kind = type(module).__name__
            raise UnsupportedError(where, f"a {kind} with several outputs, or without an input")
        signals = [self.signal_of(where, a) for a in args]
        first = signals[0]
        require_forward(where, module, first.layout)
        if isinstance(module, (*SAME, DeferredNorm)):
            self.know(out, first)
        elif isinstance(module, RESHAPING):
            self._reshape(where, first, out)
        elif isinstance(module, HasParts):
            self._add_parts(path, module.nir_parts(), first, out)
        else:
            self._add(where, path, module, signals, out)

    def _add(
        self, where: str, path: str, module: nn.Module, signals: list[FrameSignal], out: Tensor
    ) -> None:
        first = signals[0]
        if isinstance(module, NeuronLayer) and first.layout != "steps":
            shape = first.shape
            raise UnsupportedError(
                where, f"its input has no axes (T, N) before {shape}", "(T, N, *)"
            )
        if isinstance(module, Delay) and first.layout != "steps":
            raise UnsupportedError(where, "a delay of a value without T", "(T, N, *)")
        after = self._frame.features(where, out, first.layout)
        name = self._name(where, path, module)
        more = signals[1].sources if len(signals) > 1 else ()
        if len(signals) > 2 or (more and not getattr(module, "shortcut", False)):
            raise UnsupportedError(where, f"{len(signals)} inputs", "one, and a shortcut")
        if set(more) & set(first.sources):
            raise UnsupportedError(where, "a shortcut of its own input", "another value")
        self._found.calls[name] = NodeCall(module, first.sources, first.shape, after, more)
        self.know(out, FrameSignal((name,), after, first.layout, first.repeated))

    def _name(self, where: str, path: str, module: nn.Module) -> str:
        """Return a new name; only a module without parameters may run twice."""
        name = path or type(module).__name__.lower()
        if name not in self._found.calls and name not in (INPUT, OUTPUT):
            return name
        again = name in self._found.calls
        if again and (
            isinstance(module, NeuronLayer) or next(module.parameters(), None) is not None
        ):
            raise UnsupportedError(where, "it runs more than once in a call", "one call each")
        return next(n for k in range(1, 10**6) if (n := f"{name}_{k}") not in self._found.calls)

    def _add_parts(self, path: str, parts: Parts, signal: FrameSignal, out: Tensor) -> None:
        def named(name: str) -> str:
            return f"{path}.{name}" if path else name

        def sources(name: str) -> tuple[str, ...]:
            found: list[str] = []
            for source, target in parts.edges:
                if target == name:
                    found += signal.sources if source == parts.first else [named(source)]
            return tuple(found)

        for name, module in parts.modules.items():
            first = next(s for s, target in parts.edges if target == name)
            before = signal.shape if first == parts.first else parts.shapes[first]
            self._found.calls[named(name)] = NodeCall(
                module, sources(name), before, parts.shapes[name]
            )
        shape = tuple(out.shape[2:])
        self.know(out, FrameSignal(sources(parts.last), shape, "steps"))

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if self._depth == 0 and (out is None or isinstance(out, Tensor | tuple | list)):
            self._operated(func, args, kwargs or {}, out)
        return out

    def _operated(self, func: Any, args: Any, kwargs: Any, out: Any) -> None:
        """Follow an operation between modules."""
        given = [b for a in args for b in (a if isinstance(a, tuple | list) else (a,))]
        known = [a for a in given if id(a) in self._signals]
        if not known or (isinstance(out, tuple | list) and not _has_tensor(out)):
            return  # a shape, or values that do not come from the sample
        name = (resolve_name(func) or getattr(func, "__name__", str(func))).rsplit(".", 1)[-1]
        where, signal = f"{WHERE}: {name}", self.signal_of(name, known[0])
        if not isinstance(out, Tensor) or (known[0] is not args[0] and name not in _ADDS):
            raise self._refusal(name)
        if name in _KEEPS:
            self.know(out, signal)
        elif name in _RESHAPES:
            self._reshape(where, signal, out)
        elif name in ("expand", "expand_as") and self._repeats(signal, out):
            self._frame = Frame(out.shape[0], self._frame.batch)
            self.know(out, FrameSignal(signal.sources, signal.shape, "steps", repeated=True))
        elif name == "__getitem__" and _is_zero(args[1]) and signal.repeated and out.dim():
            self.know(out, FrameSignal(signal.sources, signal.shape, "once"))
        elif name in _ADDS and len(args) == 2 and not kwargs and len(known) == 2:
            self._sum(where, signal, self.signal_of(name, known[1]), out)
        elif out.dtype.is_floating_point:
            raise self._refusal(name)

    def _repeats(self, signal: FrameSignal, out: Tensor) -> bool:
        """Report whether a value of each step becomes a sequence, (N, *) -> (T, N, *)."""
        same = tuple(out.shape[1:]) == (self._frame.batch, *signal.shape)
        return same and signal.layout == "once" and self._frame.steps in (0, out.shape[0])

    def _reshape(self, where: str, signal: FrameSignal, out: Tensor) -> None:
        new, merged = self._frame.reshaped(where, signal, tuple(out.shape))
        if merged is not None:
            name = next(n for k in range(10**6) if (n := f"flatten_{k}") not in self._found.calls)
            flatten = nn.Flatten(1 + merged[0], 1 + merged[1])
            self._found.calls[name] = NodeCall(flatten, signal.sources, signal.shape, new.shape)
            new = new.of_node(name, new.shape)
        self.know(out, new)

    def _sum(self, where: str, one: FrameSignal, other: FrameSignal, out: Tensor) -> None:
        if one.shape != other.shape or one.layout != other.layout:
            problem = f"a sum of features {one.shape} and {other.shape}"
            raise UnsupportedError(where, problem, "equal shapes")
        if set(one.sources) & set(other.sources):
            raise UnsupportedError(where, "a sum of a value and itself", "a sum of two values")
        repeated = one.repeated and other.repeated
        self.know(out, FrameSignal((*one.sources, *other.sources), one.shape, one.layout, repeated))

    def _refusal(self, name: str) -> UnsupportedError:
        remedy = "Use a module, such as nn.AvgPool2d, where one does the same."
        if name in ("mean", "sum", "amax", "max"):
            remedy = "A NIR graph has an output at each step: reduce over time outside the model."
        return UnsupportedError(WHERE, f"the operation {name!r} in the forward", _ACCEPTED, remedy)

    def finish(self, sample: Tensor, out: Any, layout: Layout) -> ForwardRecord:
        """Return the record after the forward."""
        if not isinstance(out, Tensor):
            kind = type(out).__name__
            raise UnsupportedError(WHERE, f"the model returns a {kind}", "a tensor (T, N, *)")
        signal = self.signal_of(WHERE, out)
        if signal.layout != "steps":
            problem = f"the output has shape {tuple(out.shape)}"
            raise UnsupportedError(WHERE, problem, "(T, N, *)")
        self._found.output, self._found.result = signal.sources, out
        steps = self._frame.steps
        self._found.frames = sample if layout == "steps" else sample.expand(steps, *sample.shape)
        return self._found


def _is_zero(index: Any) -> bool:
    return type(index) is int and index == 0


def _has_tensor(values: Any) -> bool:
    return any(isinstance(v, Tensor) for v in values)
