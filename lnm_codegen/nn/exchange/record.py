"""Record of one forward on a sample: the modules that run, and the values between them.

Modules with a node of their own are recorded as a whole. Between them, operations that move T and N
or flatten features are followed, and additions. Any other operation is refused by its name.

A forward may also loop over time, with single-step layers: `x[t]` or `x.unbind()`, a call of each
module at each step, and `torch.stack` of the results. The first step is recorded; each later one
must repeat it, with the states that the layers returned at the step before.
`torch.fx`, which `fuse` uses, cannot trace a forward that depends on a shape; a sample can.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode, resolve_name

from lnm_codegen.errors import UnsupportedError
from lnm_codegen.nn.convert.jelly import LAYERS, ReadoutLayer, is_batch_norm
from lnm_codegen.nn.convert.libraries import library_of
from lnm_codegen.nn.delay import Delay
from lnm_codegen.nn.exchange.graph import (
    INPUT,
    OUTPUT,
    ForwardRecord,
    Frame,
    FrameSignal,
    HasParts,
    Layout,
    NodeCall,
    Parts,
)
from lnm_codegen.nn.exchange.layers import Scale, StepDelay, SumPool2d
from lnm_codegen.nn.exchange.recurrent import parts_of
from lnm_codegen.nn.layer import NeuronLayer
from lnm_codegen.nn.norm.deferred import DeferredNorm
from lnm_codegen.nn.recurrent import RecurrentLayer

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
_STEPS = {"unbind", "select", "__getitem__"}
_ADDS = {"add", "add_", "__add__", "__radd__", "__iadd__"}
_CYCLE = "Recurrent connections of a loop over time are not recorded."
_ACCEPTED = "reshapes that keep T and N or flatten features, and sums of two values"


class WholeSequence(UnsupportedError):
    """A single-step layer received a sequence: the model has to be called step by step."""


def record(
    model: nn.Module,
    sample: Tensor,
    layout: Layout,
    found: ForwardRecord,
    run: Callable[[nn.Module, Tensor], Any] | None = None,
) -> ForwardRecord:
    """Run a model in eval mode and return the record; `layout` is that of the sample.

    `run` calls the model on the sample. `found` is filled, up to an error.

    Raises:
        UnsupportedError: An operation or a module that is no node.
    """
    lead = 1 if layout == "once" else 2
    steps = 0 if layout == "once" else sample.shape[0]
    frame = Frame(steps, sample.shape[lead - 1])
    found.shape = tuple(sample.shape[lead:])
    mode = _Recorder(frame, found)
    mode.know(sample, FrameSignal((INPUT,), tuple(sample.shape[lead:]), layout))
    for path, module in model.named_modules():
        mode.watch(path, module)
    with torch.no_grad(), mode:
        out = model(sample) if run is None else run(model, sample)
    return mode.finish(sample, out, layout)


class _Recorder(TorchFunctionMode):
    """Observer of operations and modules."""

    def __init__(self, frame: Frame, found: ForwardRecord) -> None:
        super().__init__()
        self._frame, self._found, self._depth = frame, found, 0
        self._signals: dict[int, tuple[Tensor, FrameSignal]] = {}
        self._nodes: dict[tuple[Any, ...], str] = {}  # path and sources -> node
        self._times: dict[str, int] = {}  # node -> time step of its last call
        self._states: dict[str, list[Tensor]] = {}  # path of a layer -> states of its last call
        self._kept: dict[int, tuple[Tensor, str]] = {}  # states and stacks of them, and the layer
        self._after: dict[str, dict[str, Tensor]] = {}  # path -> states that the layer keeps
        self._calls: dict[str, int] = {}  # path of a layer with constant input -> its last step

    def know(self, value: Tensor, signal: FrameSignal) -> None:
        """Associate a tensor with its signal; the tensor is kept, so that its id stays its own."""
        self._signals[id(value)] = (value, signal)

    def signal_of(self, where: str, value: Any) -> FrameSignal:
        """Return the signal of a tensor, or raise UnsupportedError."""
        if id(value) in self._kept:
            problem = f"it is a state of {self._kept[id(value)][1]}, not an output"
            remedy = "A neuron without spikes has its potential as output: lnm.get('li')."
            raise UnsupportedError(where, problem, remedy=remedy)
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

    def _capture(self, path: str) -> Callable[[NeuronLayer, Any], None]:
        def hook(layer: NeuronLayer, args: Any) -> None:
            before = self._after.get(path, layer._state)
            if list(map(id, before.values())) != list(map(id, layer._state.values())):
                problem = "its states were set or reset between two time steps"
                raise UnsupportedError(f"{WHERE}: {path}", problem, "states that the layer keeps")
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
        if isinstance(module, NeuronLayer) and module.step_mode == "s":
            self._after[path] = module._state
        if isinstance(module, NeuronLayer) and getattr(module, "returns_states", False):
            self._require_states(where, path, module, (*args[1:], *named.values()))
            out, *states = out if isinstance(out, tuple) else (out,)
            takes_output = getattr(module, "words", ("",))[0] == "spk"
            self._states[path] = _tensors([out, *states] if takes_output else states)
            self._kept |= {id(value): (value, path) for value in _tensors(states)}
            args, named = args[:1], {}
        for name, value in named.items():
            if value is not None and value is not False:
                problem = f"the call has the keyword argument {name!r}"
                raise UnsupportedError(where, problem, "inputs by position")
        if isinstance(module, ReadoutLayer):
            remedy = "Put lnm.nn.NeuronLayer(layer.neuron) in its place; reduce outside the model."
            raise UnsupportedError(where, "it reduces its potentials over time", remedy=remedy)
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
        elif isinstance(module, RecurrentLayer):
            self._add_recurrent(where, path, module, signals, out)
        elif isinstance(module, HasParts):
            self.know(out, self._add_parts(path, module.nir_parts(), first, out))
        else:
            self._add(where, path, module, signals, out)

    def _add(
        self, where: str, path: str, module: nn.Module, signals: list[FrameSignal], out: Tensor
    ) -> None:
        first = signals[0]
        if isinstance(module, NeuronLayer):
            first = self._of_layer(where, path, module, first)
        if isinstance(module, StepDelay | Delay) and first.layout != "steps":
            raise UnsupportedError(where, "a delay of a value without T", "(T, N, *)")
        after = self._frame.features(where, out, first.layout)
        more = signals[1].sources if len(signals) > 1 else ()
        key = (path, first.sources, first.shape, more)
        if first.layout in ("once", "step") and self._is_repeated(where, key, first):
            self.know(out, first.of_node(self._nodes[key], after))
            return
        name = self._nodes[key] = self._name(where, path, module)
        self._times[name] = first.time
        if len(signals) > 2 or (more and not getattr(module, "shortcut", False)):
            raise UnsupportedError(where, f"{len(signals)} inputs", "one, and a shortcut")
        if set(more) & set(first.sources):
            raise UnsupportedError(where, "a shortcut of its own input", "another value")
        self._found.calls[name] = NodeCall(module, first.sources, first.shape, after, more)
        self.know(out, first.of_node(name, after))

    def _of_layer(
        self, where: str, path: str, layer: NeuronLayer, signal: FrameSignal
    ) -> FrameSignal:
        """Return the input of a layer; that of a single-step layer has a time step."""
        if layer.step_mode == "s" and signal.layout == "once":  # a constant input at each step
            self._calls[path] = self._calls.get(path, -1) + 1
            return replace(signal, layout="step", time=self._calls[path])
        if layer.step_mode == "s" and signal.layout == "steps":
            problem = "a single-step layer (step_mode 's') receives a sequence (T, N, *)"
            raise WholeSequence(where, problem, "(N, *), or step_mode='m'")
        if signal.layout != ("step" if layer.step_mode == "s" else "steps"):
            problem = f"its input has no axes (T, N) before {signal.shape}"
            remedy = "Set step_mode='s' for calls step by step." if signal.layout == "step" else ""
            raise UnsupportedError(where, problem, "(T, N, *)", remedy)
        return signal

    def _is_repeated(self, where: str, key: tuple[Any, ...], signal: FrameSignal) -> bool:
        """Report whether a call repeats a node: at the next time step, or on a constant input.

        Raises:
            UnsupportedError: A later step differs from the first one.
        """
        name = self._nodes.get(key)
        if signal.layout == "once":
            return name is not None
        if name is None:
            if signal.time > 0:
                problem = f"time step {signal.time} is not as the first one"
                raise UnsupportedError(where, problem, "the same calls at each step", _CYCLE)
            return False
        if signal.time != self._times[name] + 1:
            problem = f"a call at time step {signal.time}, after that of {self._times[name]}"
            raise UnsupportedError(where, problem, "one call at each step", _CYCLE)
        self._times[name] = signal.time
        return True

    def _require_states(
        self, where: str, path: str, layer: NeuronLayer, given: tuple[Any, ...]
    ) -> None:
        """Raise UnsupportedError unless the given states are those of the layer's last call.

        At the first call they are absent or 0, as snnTorch's `init_leaky` gives them.
        """
        known, tensors = self._states.get(path), _tensors(given)
        if known is None:
            same = all(not bool(value.any()) for value in tensors)
        else:
            goes_on = not tensors and not getattr(layer, "needs_states", False)
            same = goes_on or list(map(id, tensors)) == list(map(id, known))
        if not same:
            problem = "its states are not those of its last call"
            accepted = "no states at the first step, then those that the layer returned"
            raise UnsupportedError(where, problem, accepted)

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

    def _add_recurrent(
        self, where: str, path: str, layer: RecurrentLayer, signals: list[FrameSignal], out: Tensor
    ) -> None:
        """Add the parts of a layer at its first call; a loop over time repeats them."""
        if len(signals) > 1:
            raise UnsupportedError(where, f"{len(signals)} inputs", "one")
        first = self._of_layer(where, path, layer, signals[0])
        key = (path, first.sources, first.shape, ())
        self._found.outputs.setdefault(path, []).append(out)
        if first.layout == "step" and self._is_repeated(where, key, first):
            shape = self._frame.features(where, out, first.layout)
            self.know(out, first.of_node(self._nodes[key], shape))
            return
        self._nodes[key] = name = f"{path}.neuron" if path else "neuron"
        self._found.recurrent[name] = path
        self._times[name] = first.time
        self.know(out, self._add_parts(path, parts_of(where, layer), first, out))

    def _add_parts(self, path: str, parts: Parts, signal: FrameSignal, out: Tensor) -> FrameSignal:
        """Add the parts of a module; return the signal of its output."""

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
        shape = tuple(out.shape[len(self._frame.lead(signal.layout)) :])
        return FrameSignal(sources(parts.last), shape, signal.layout, time=signal.time)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if self._depth == 0 and (out is None or isinstance(out, Tensor | tuple | list)):
            self._operated(func, args, kwargs or {}, out)
        return out

    def _operated(self, func: Any, args: Any, kwargs: Any, out: Any) -> None:
        """Follow an operation between modules."""
        given = [b for a in args for b in (a if isinstance(a, tuple | list) else (a,))]
        known = [a for a in given if id(a) in self._signals]
        name = (resolve_name(func) or getattr(func, "__name__", str(func))).rsplit(".", 1)[-1]
        if name == "stack" and given and all(id(a) in self._kept for a in given):
            self._kept[id(out)] = (out, self._kept[id(given[0])][1])
        is_shape = isinstance(out, tuple | list) and not any(isinstance(v, Tensor) for v in out)
        if not known or is_shape:
            return  # a shape, or values that do not come from the sample
        where, signal = f"{WHERE}: {name}", self.signal_of(name, known[0])
        if name in _STEPS and self._split(name, signal, args, kwargs, out):
            return
        if name == "stack":
            self._stack(where, args, kwargs, out)
            return
        if not isinstance(out, Tensor) or (known[0] is not args[0] and name not in _ADDS):
            raise self._refusal(name)
        is_first = len(args) > 1 and type(args[1]) is int and args[1] == 0
        if name in _KEEPS:
            self.know(out, signal)
        elif name in _RESHAPES:
            self._reshape(where, signal, out)
        elif name in ("expand", "expand_as") and self._repeats(signal, out):
            self._frame = Frame(out.shape[0], self._frame.batch)
            self.know(out, FrameSignal(signal.sources, signal.shape, "steps", repeated=True))
        elif name == "__getitem__" and is_first and signal.repeated and out.dim():
            self.know(out, FrameSignal(signal.sources, signal.shape, "once"))
        elif name in _ADDS and len(args) == 2 and not kwargs and len(known) == 2:
            self._sum(where, signal, self.signal_of(name, known[1]), out)
        elif name in _ADDS and signal.layout == "step":
            problem = "a sum with a value that is not of the sample"
            remedy = f"Stack the outputs of all steps, and sum them outside. {_CYCLE}"
            raise UnsupportedError(where, problem, "two values of one time step", remedy)
        elif out.dtype.is_floating_point:
            raise self._refusal(name)

    def _split(self, name: str, signal: FrameSignal, args: Any, kwargs: Any, out: Any) -> bool:
        """Know the time steps that an operation takes from a sequence; report whether it does."""
        axis, index = (0, args[1]) if name == "__getitem__" else (*args[1:], 0, None)[:2]
        axis = kwargs.get("dim", axis)
        index = kwargs.get("index", index)
        if signal.layout != "steps" or signal.repeated or axis != 0:
            return False
        if name == "unbind":
            for time, step in enumerate(out):
                self.know(step, replace(signal, layout="step", time=time))
            return True
        if type(index) is not int:
            return False
        self.know(out, replace(signal, layout="step", time=index % self._frame.steps))
        return True

    def _stack(self, where: str, args: Any, kwargs: Any, out: Tensor) -> None:
        """Know the sequence that is stacked from the same value of every time step."""
        found = [self.signal_of(where, step) for step in args[0]]
        axis = kwargs.get("dim", args[1] if len(args) > 1 else 0)
        steps = self._frame.steps or len(found)
        same = {(s.layout, s.sources, s.shape) for s in found}
        in_order = [s.time for s in found] == list(range(steps))
        if len(same) > 1 or found[0].layout != "step" or axis != 0 or not in_order:
            accepted = "the results of all time steps in order, stacked on axis 0"
            raise UnsupportedError(where, "a stack of other values", accepted)
        self._frame = Frame(steps, self._frame.batch)
        self.know(out, replace(found[0], layout="steps", time=0))

    def _repeats(self, signal: FrameSignal, out: Tensor) -> bool:
        """Report whether a value of each step becomes a sequence, (N, *) -> (T, N, *)."""
        same = tuple(out.shape[1:]) == (self._frame.batch, *signal.shape)
        return same and signal.layout == "once" and self._frame.steps in (0, out.shape[0])

    def _reshape(self, where: str, signal: FrameSignal, out: Tensor) -> None:
        new, merged = self._frame.reshaped(where, signal, tuple(out.shape))
        if merged is not None:
            key = ("flatten", signal.sources, signal.shape, merged)
            if new.layout in ("once", "step") and self._is_repeated(where, key, new):
                self.know(out, new.of_node(self._nodes[key], new.shape))
                return
            names = (f"flatten_{k}" for k in range(10**6))
            name = self._nodes[key] = next(n for n in names if n not in self._found.calls)
            flatten = nn.Flatten(1 + merged[0], 1 + merged[1])
            self._found.calls[name] = NodeCall(flatten, signal.sources, signal.shape, new.shape)
            self._times[name] = new.time
            new = new.of_node(name, new.shape)
        self.know(out, new)

    def _sum(self, where: str, one: FrameSignal, other: FrameSignal, out: Tensor) -> None:
        if one.shape != other.shape or one.layout != other.layout:
            problem = f"a sum of features {one.shape} and {other.shape}"
            raise UnsupportedError(where, problem, "equal shapes")
        if one.time != other.time:
            problem = f"a sum of values of time steps {one.time} and {other.time}"
            raise UnsupportedError(where, problem, "values of one time step", _CYCLE)
        if set(one.sources) & set(other.sources):
            raise UnsupportedError(where, "a sum of a value and itself", "a sum of two values")
        repeated = one.repeated and other.repeated
        sources = (*one.sources, *other.sources)
        self.know(out, replace(one, sources=sources, repeated=repeated))

    def _refusal(self, name: str) -> UnsupportedError:
        remedy = "Use a module, such as nn.AvgPool2d, where one does the same."
        if name in ("mean", "sum", "amax", "max"):
            remedy = "A NIR graph has an output at each step: reduce over time outside the model."
        return UnsupportedError(WHERE, f"the operation {name!r} in the forward", _ACCEPTED, remedy)

    def finish(self, sample: Tensor, out: Any, layout: Layout) -> ForwardRecord:
        """Return the record after the forward."""
        if isinstance(out, tuple) and not any(id(t) in self._signals for t in _tensors(out[1:])):
            out = out[0]  # states and potentials follow the output
        if not isinstance(out, Tensor):
            kind = type(out).__name__
            remedy = "Return one output, and states after it." if isinstance(out, tuple) else ""
            problem = f"the model returns a {kind}"
            raise UnsupportedError(WHERE, problem, "a tensor (T, N, *)", remedy)
        signal = self.signal_of(WHERE, out)
        if signal.layout != "steps":
            problem = f"the output has shape {tuple(out.shape)}"
            raise UnsupportedError(WHERE, problem, "(T, N, *)")
        self._found.output, self._found.result = signal.sources, out
        steps = self._frame.steps
        self._found.frames = sample if layout == "steps" else sample.expand(steps, *sample.shape)
        return self._found


def _tensors(value: Any) -> list[Tensor]:
    """Return the tensors in nested tuples, lists and dicts, in order, but empty ones."""
    if isinstance(value, Tensor):
        return [value] if value.numel() else []
    items = value.values() if isinstance(value, dict) else value
    if not isinstance(value, tuple | list | dict):
        return []
    return [tensor for item in items for tensor in _tensors(item)]


# Modules whose forward is known: classes that are nodes, as they are, without hooks.


M = TypeVar("M", bound=nn.Module)

WHERE = "to_nir"
NAMES = (
    "nn.Linear", "nn.Conv1d", "nn.Conv2d", "nn.AvgPool2d", "nn.Flatten", "nn.BatchNorm1d",
    "nn.BatchNorm2d", "nn.Dropout", "nn.Identity", "lnm.nn.NeuronLayer", "lnm.nn.NormNeuron",
    "lnm.nn.RecurrentLayer", "lnm.nn.Delay",
)  # fmt: skip
SAME = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout)
RESHAPING = (nn.Flatten, nn.Unflatten)
_OTHERS = (
    nn.Linear, nn.Conv1d, nn.Conv2d, nn.AvgPool2d, SumPool2d, Scale, StepDelay, Delay, DeferredNorm,
)  # fmt: skip
_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict, nn.ParameterList, nn.ParameterDict)
_PYTORCH, _OURS = "torch.nn.modules.", "lnm_codegen."


def is_leaf(module: nn.Module) -> bool:
    """Report whether a call of a module is one node, or is refused by its class."""
    own = (*_OTHERS, *SAME, *RESHAPING, NeuronLayer, _BatchNorm)
    if isinstance(module, own) or isinstance(module, HasParts):
        return True
    return type(module).__module__.startswith("torch.nn.modules") and not isinstance(
        module, _CONTAINERS
    )


def known(where: str, module: M, kind: type) -> M:
    """Return a module of exactly this class, or of SpikingJelly's, or raise UnsupportedError."""
    own = type(module)
    if own is not kind and not own.__module__.startswith(LAYERS):
        raise _subclass(where, own, kind)
    return module


def require_forward(where: str, module: nn.Module, layout: Layout) -> None:
    """Raise UnsupportedError if a neuron layer or an identity has a forward of the user's.

    A batch normalisation must also be over the channels of an input with this layout.
    """
    own = type(module)
    if isinstance(module, _BatchNorm):
        _require_channels(where, module, layout)
    elif isinstance(module, (*SAME, *RESHAPING, NeuronLayer)):
        if not own.forward.__module__.startswith((_PYTORCH, _OURS, LAYERS)):
            raise _subclass(where, own, _known_base(own))


def _require_channels(where: str, module: nn.Module, layout: Layout) -> None:
    own = type(module)
    if not own.__module__.startswith(_PYTORCH) and not is_batch_norm(own):
        raise _subclass(where, own, _known_base(own))
    axis = 2 if getattr(module, "step_mode", "s") == "m" else 1
    if axis != (2 if layout == "steps" else 1):
        axes, accepted = "(T*N, C, *)", "(T, N, C, *)"
        if layout == "steps":
            axes, accepted = accepted, f"{axes}, by x.flatten(0, 1)"
        elif layout == "once":
            axes = "(N, C, *)"
        problem = f"a {own.__name__} normalises axis {axis} of {axes}"
        raise UnsupportedError(where, problem, accepted)


def _known_base(own: type) -> type:
    """Return the first class of PyTorch or of this package that a class derives from."""
    return next(base for base in own.__mro__ if base.__module__.startswith((_PYTORCH, _OURS)))


def _subclass(where: str, own: type, kind: type) -> UnsupportedError:
    problem = f"a {own.__name__}, a subclass of {kind.__name__}, may have another forward"
    return UnsupportedError(where, problem, NAMES)


def require_plain(model: nn.Module) -> None:
    """Raise UnsupportedError for a layer to convert, a hook, or a forward on the object.

    Hooks of containers, and those before the forward of a node, run between nodes: a record shows
    what they do. Hooks of this package change no value.
    """
    for path, leaf in model.named_modules():
        if library := library_of(leaf):
            where = f"{WHERE}: {path}" if path else WHERE
            problem = f"it is a {type(leaf).__name__} of {library.name}"
            raise UnsupportedError(where, problem, "NeuronLayer", "Use lnm.nn.convert(model).")
        for inner, module in leaf.named_modules(prefix=path) if is_leaf(leaf) else ():
            where = f"{WHERE}: {inner}" if inner else WHERE
            if "forward" in vars(module):
                problem = f"the forward of the {type(module).__name__} was replaced on the object"
                raise UnsupportedError(where, problem, "modules with the forward of their class")
            hooks = [*torch_module._global_forward_hooks.values(), *module._forward_hooks.values()]
            hooks += [] if module is leaf else module._forward_pre_hooks.values()
            if not all(str(getattr(h, "__module__", "")).startswith(_OURS) for h in hooks):
                problem = f"the {type(module).__name__} has a forward hook, which may change values"
                remedy = "Remove it by its handle: handle.remove()."
                raise UnsupportedError(where, problem, "modules without hooks", remedy)
