"""Calls of a layer: their types, their initial states, and the states kept for the next call."""

from __future__ import annotations

import copy
from collections import namedtuple
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, Protocol, Self, TypeAlias, cast, get_args, overload

import torch
from torch import Tensor
from torch._C._functorch import is_functorch_wrapped_tensor, peek_interpreter_stack

from lnm_codegen.errors import ModelError, ShapeError, UnsupportedError
from lnm_codegen.ir.declarations import State
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.nn.arguments import REAL, is_recomputed
from lnm_codegen.nn.parameters import NeuronModule, parameter_of
from lnm_codegen.options import StepMode
from lnm_codegen.validation import did_you_mean, require_bool, require_one_of, shown

States: TypeAlias = Mapping[str, Tensor | float]
"""State -> initial value: a number, or any shape that broadcasts to (N, *)."""


class LayerCall(Protocol):
    """Signature of `NeuronLayer.forward`, for a neuron with one output and without records.

    A layer that returns records, or whose neuron has several outputs, returns a tuple in place of
    the output: use `typing.cast`, or `return_recorded=False`.
    """

    @overload
    def __call__(
        self,
        x_seq: Tensor,
        *more_inputs: Tensor,
        state: States | None = None,
        return_state: Literal[False] = False,
        lengths: Tensor | None = None,
    ) -> Tensor: ...

    @overload
    def __call__(
        self,
        x_seq: Tensor,
        *more_inputs: Tensor,
        state: States | None = None,
        return_state: Literal[True],
        lengths: Tensor | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]: ...

    def __call__(
        self,
        x_seq: Tensor,
        *more_inputs: Tensor,
        state: States | None = None,
        return_state: bool = False,
        lengths: Tensor | None = None,
    ) -> Tensor | tuple[Tensor, dict[str, Tensor]]:
        """Run the layer."""


class Feed(NamedTuple):
    """Products of a layer's own weights in a call.

    Attributes:
        values: What the weights multiply, (T, N, inputs).
        weights: Number of weights.
        reached: Neurons that each input reaches, (inputs,).
    """

    values: Tensor
    weights: int
    reached: Tensor


class Received(NamedTuple):
    """What the neurons of a layer received in a call; see `hooks.watching`.

    Attributes:
        inputs: Inputs of the neuron, (T, N, *); T is 1 in single-step mode.
        state: State -> value before the first step, where the call or the layer has one.
        outputs: Outputs of the neuron, (T, N, *).
        lengths: Lengths of the samples, or None.
        feeds: Products within the layer, by the name of their weights.
    """

    inputs: tuple[Tensor, ...]
    state: dict[str, Any]
    outputs: tuple[Tensor, ...]
    lengths: Tensor | None
    feeds: Mapping[str, Feed] = MappingProxyType({})


@cache
def outputs_type(names: tuple[str, ...]) -> Any:
    """Return the class of the outputs of a neuron that has several: a named tuple."""
    named: Any = namedtuple  # whose names mypy cannot see
    found = named("Outputs", names, module=__name__)

    def reduced(outputs: tuple[Any, ...]) -> tuple[Any, ...]:
        return outputs_of, (names, tuple(outputs))

    found.__reduce__ = reduced
    return found


def outputs_of(names: tuple[str, ...], values: Sequence[Any]) -> Any:
    """Return the outputs of a call of these names; pickles call this."""
    return outputs_type(names)(*values)


torch.serialization.add_safe_globals([outputs_of])


def first_output(result: Any) -> Tensor:
    """Return the first output of a call of a layer, which may return states and records too."""
    while isinstance(result, tuple):
        result = result[0]
    assert isinstance(result, Tensor)
    return result


def typed_call(forward: Callable[..., Any]) -> LayerCall:
    """Return a method of a layer as it is, with the types of `LayerCall`."""
    return cast("LayerCall", forward)


class LayerOption:
    """Attribute of a layer that is validated when it is set.

    It defines no `__get__`, so that a layer reads it from its `__dict__`, as any other attribute.
    """

    def __init__(self, require: Callable[..., Any], *accepted: Any) -> None:
        self._require, self._accepted = require, accepted

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __set__(self, layer: StatefulModule, value: Any) -> None:
        value = self._require("NeuronLayer", self._name, value, *self._accepted)
        layer.__dict__[self._name] = value
        if not layer._keeps_states():
            layer._state = {}


class StatefulModule(NeuronModule):
    """A neuron's parameters, and the states and records that a layer keeps from call to call."""

    step_mode: StepMode = LayerOption(require_one_of, get_args(StepMode))  # type: ignore[assignment]
    carry_state: bool = LayerOption(require_bool)  # type: ignore[assignment]
    return_recorded: bool = LayerOption(require_bool)  # type: ignore[assignment]
    inplace: bool = LayerOption(require_bool)  # type: ignore[assignment]
    recorded: dict[str, Any]
    _state: dict[str, Tensor]
    _state_names: frozenset[str] = frozenset()
    _fixed: frozenset[str] = frozenset()  # arguments of the family that a layer does not have
    _own_states: tuple[str, ...] = ()  # beside those of the neuron
    _checkpoint_remedy = "Give state= and return_state=True."
    _watched: int = 0  # contexts of `hooks.watching`
    _received: Received | None = None

    @property
    def state(self) -> dict[str, Tensor]:
        """States after the last call, (N, *), if the layer keeps them; empty before.

        A new dict at each access. Setting replaces the states. A state that is not given begins
        with its initial value.

        Raises:
            ModelError: The layer keeps no states.
            ShapeError: A name or a value is not accepted, as for `state=`. The next call compares
                the shape of a value with its input: a number, or (N, *).
        """
        return dict(self._state)

    @state.setter
    def state(self, given: States) -> None:
        states = require_states(self.neuron, given, self._own_states)
        if states and not self._keeps_states():
            problem = f"state {next(iter(states))!r} is set, but the layer keeps no states"
            remedy = "Give state= to the call, or set carry_state=True."
            raise ModelError(self.neuron.name, problem, remedy=remedy)
        with torch.inference_mode(False):  # so that later calls can train with them
            self._state = {
                n: v if isinstance(v, Tensor) else torch.as_tensor(v, dtype=torch.double)
                for n, v in states.items()
            }

    def reset(self) -> None:
        """Discard the states that the layer keeps, and the records of the last call."""
        self._state, self.recorded = {}, {}

    def detach(self) -> None:
        """Cut the states that the layer keeps from the graph, for truncated backpropagation."""
        self._state = {name: value.detach() for name, value in self._state.items()}

    def _keeps_states(self) -> bool:
        return self.step_mode == "s" or self.carry_state

    def _initial(self, given: States | None) -> States:
        """Return the states with which a call begins: those given to it, or those kept."""
        if given is not None or not self._keeps_states():
            return {} if given is None else require_states(self.neuron, given, self._own_states)
        if not torch.compiler.is_compiling() and self.__dict__.get("_is_replica", False):
            problem = "states that a replica of torch.nn.DataParallel keeps are lost after the call"
            remedy = "Use DistributedDataParallel, or give state= and return_state=True."
            raise UnsupportedError(self.neuron.name, problem, remedy=remedy)
        self._require_usable(*self._state.values())
        return self._state

    def _require_usable(self, *kept: Tensor) -> None:
        """Raise UnsupportedError if a call cannot begin with these kept states."""
        if torch.compiler.is_compiling():
            return
        remedy = "Call reset()."
        trains = torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
        if is_recomputed():
            problem = (
                "a layer that keeps its states is called in a backward (activation checkpointing)"
            )
            remedy = self._checkpoint_remedy
        elif peek_interpreter_stack() is None and any(map(is_functorch_wrapped_tensor, kept)):
            problem = "the kept states belong to a transform of torch.func that has ended"
        elif trains and any(value.is_inference() for value in kept):
            problem = "the kept states come from torch.inference_mode, so no gradient can pass them"
        else:
            return
        raise UnsupportedError(self.neuron.name, problem, remedy=remedy)

    def _keep(self, final: dict[str, Tensor], records: dict[str, Any]) -> None:
        """Keep the final states and the records of a call, unless a backward recomputes it."""
        if is_recomputed():
            return
        if self._keeps_states():
            self._state = final
        if records:
            self.recorded = records

    def __getattr__(self, name: str) -> Any:
        """Return a state that the layer keeps, or else what `nn.Module` has of that name."""
        state = self.__dict__.get("_state")
        return state[name] if state and name in state else super().__getattr__(name)

    def __setattr__(self, name: str, value: Any) -> None:
        """Set a state that the layer keeps, or any other attribute.

        For parameters see `NeuronModule`.
        """
        if name in self._state_names:
            self.state = {**self._state, name: value}
            return
        if name in ("neuron", "detach_reset") and "neuron" in self.__dict__:
            remedy = "Make another layer."
            raise ModelError("NeuronLayer", f"{name} cannot be replaced", remedy=remedy)
        if name in self._fixed and not (
            isinstance(value, torch.nn.Parameter) or hasattr(self, name)
        ):
            family = self.neuron.name
            problem = f"{name} of {family} is no parameter of the layer, so it cannot be set"
            remedy = f"Make another layer, of lnm.get({family!r}, {name}=...)."
            raise ModelError("NeuronLayer", problem, remedy=remedy)
        super().__setattr__(name, value)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, **_of_no_call()}

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Return a copy without states and records, also under `torch.nn.utils.parametrize`."""
        copied = memo[id(self)] = type(self).__new__(type(self))
        copied.__dict__.update(copy.deepcopy({**self.__dict__, **_of_no_call()}, memo))
        return copied


def _of_no_call() -> dict[str, Any]:
    """Return the attributes of a layer that no copy has."""
    return {"_state": {}, "recorded": {}, "_watched": 0, "_received": None}


_NEW_SIZE = "Call reset() before a new batch size. A set state is a number or has this shape."


def require_states(neuron: Neuron, given: Any, own: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return the `state` argument of a call as a dict, or raise ShapeError.

    `own` are names of states that the layer has beside those of its neuron.
    """
    states = [*(s.name for s in neuron.states), *own]
    if given is not None and not isinstance(given, Mapping):
        accepted = f"a dict with names among {', '.join(states) or 'none'}"
        raise ShapeError(neuron.name, f"state is a {type(given).__name__}", accepted)
    for name, value in (given or {}).items():
        if name not in states:
            hint = did_you_mean(name, states)
            raise ShapeError(neuron.name, f"no state {name!r}", states or "none", hint)
        if not _is_real(value):
            found = value.dtype if isinstance(value, Tensor) else shown(value)
            accepted = "a number or a tensor, real and not bool"
            raise ShapeError(neuron.name, f"state {name!r} is {found}", accepted)
    return dict(given or {})


def _is_real(value: Any) -> bool:
    """Report whether a value is a real number, or a tensor, an array or a list of them."""
    try:
        tensor = torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError):
        return False
    return not tensor.is_complex() and tensor.dtype is not torch.bool


def start_states(
    neuron: Neuron,
    x: Tensor,
    given: Mapping[str, Any],
    params: Sequence[Tensor],
    *,
    previous: Mapping[str, Tensor],
) -> list[Tensor]:
    """Return the initial states, (N, *), or (1,) where every neuron begins with one number.

    `params` are the parameters in order, some of which may be initial values. `previous` are the
    states of the previous step, in single-step mode.

    Raises:
        ShapeError: A value that does not broadcast to (N, *).
    """
    shape, start = x.shape[1:], []
    for symbol in neuron.states:
        name, decl = symbol.name, cast("State", symbol.decl)
        if name in given:
            value = given[name]
        elif decl.param:
            value = parameter_of(neuron, params, decl.param, axes=len(shape) - 1)
        else:
            value = decl.init
        if callable(value):
            value = value(torch.default_generator, tuple(shape))
        start.append(_start_of(neuron, name, value, x, previous))
    return start


def require_starts(
    neuron: Neuron, x: Tensor, given: Mapping[str, Any], previous: Mapping[str, Tensor]
) -> None:
    """Raise ShapeError unless each given value can be an initial state; see `start_states`."""
    for name, value in given.items():
        _start_of(neuron, name, value, x, previous)


def _start_of(
    neuron: Neuron, name: str, value: Any, x: Tensor, previous: Mapping[str, Tensor]
) -> Tensor:
    """Return a value as the initial state of a call on `x`."""
    shape = x.shape[1:]
    is_previous = name in previous and value is previous[name]
    kind = REAL[x.dtype]
    try:
        if isinstance(value, int | float):  # filled on the device: a copy would wait for the GPU
            start = torch.full((), value, dtype=kind, device=x.device)
        else:
            start = torch.as_tensor(value, dtype=kind, device=x.device)
    except (TypeError, ValueError, RuntimeError):
        problem = f"state {name!r} is {value!r}"
        raise ShapeError(neuron.name, problem, "a number or a tensor") from None
    if start.dim() == 0 and not start.requires_grad:
        start = start.reshape(1)
    elif start.shape != shape:
        try:
            start = start if is_previous and start.dim() else start.expand(shape)
        except RuntimeError:
            pass
        if start.shape != shape:
            problem = f"state {name!r} has shape {tuple(start.shape)}"
            remedy = _NEW_SIZE if is_previous else ""
            raise ShapeError(neuron.name, problem, str(tuple(shape)), remedy)
    return start
