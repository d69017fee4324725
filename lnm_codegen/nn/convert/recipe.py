"""Recipe of a layer: the neuron, the class of its layer, and what it keeps of the old one."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from dis import get_instructions
from types import CodeType, FunctionType
from typing import Any

import torch
from torch import Size, Tensor, nn

from lnm_codegen.errors import UnsupportedError
from lnm_codegen.language.functions import ExprLike, stop_gradient
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.language.symbols import Declared, Granularity, param, spike
from lnm_codegen.nn.layer import NeuronLayer
from lnm_codegen.nn.recurrent import RecurrentLayer
from lnm_codegen.options import StepMode
from lnm_codegen.validation import is_number

# Numbers and tensors of a layer that is converted, as parameters of a neuron.


def number(where: str, name: str, value: Any) -> float:
    """Return a finite number, or the element of a tensor without a gradient, or refuse it.

    Raises:
        UnsupportedError: Anything else.
    """
    if isinstance(value, Tensor):
        if value.numel() != 1 or value.requires_grad:
            what = "a tensor that requires a gradient" if value.requires_grad else "a tensor"
            problem = f"{name} is {what} of shape {tuple(value.shape)}"
            raise UnsupportedError(where, problem, "a number")
        value = value.item()
    if not is_number(value) or not math.isfinite(value):
        raise UnsupportedError(where, f"{name} is {value!r}", "a finite number")
    return float(value)


@dataclass(frozen=True)
class Kept:
    """Tensors of a layer that become parameters of a neuron, by name.

    Attributes:
        given: The tensors as the library has them.
        values: The same as (), (C,) or `shape`.
        per: Granularity of each.
        shape: Shape of the parameters per neuron, that of a sample or one that broadcasts to it;
            None if there are none.
        channels: C where a parameter is per channel, else None.
    """

    given: Mapping[str, Tensor]
    values: Mapping[str, Tensor] = field(repr=False)
    per: Mapping[str, Granularity]
    shape: tuple[int, ...] | None
    channels: int | None

    def learns(self, name: str) -> bool:
        """Report whether a tensor has a gradient."""
        given = self.given[name]
        return isinstance(given, nn.Parameter) or given.requires_grad

    def symbol(self, name: str) -> Declared:
        """Declare the parameter of that name."""
        value = self.values[name]
        init = float(value.detach().reshape(-1)[0])
        return param(name, init=init, learnable=self.learns(name), per=self.per[name])

    def is_only(self, name: str, value: float) -> bool:
        """Report whether a tensor is a constant with this value everywhere."""
        return not self.learns(name) and bool((self.given[name] == value).all())


def kept(where: str, tensors: Mapping[str, Any]) -> Kept:
    """Return tensors as parameters of a layer; a number counts as a tensor without axes.

    A value for the last axes of (N, *) is per neuron, one of shape (C, 1, ...) per channel. Values
    per neuron may differ in their first axes of length 1.

    Raises:
        UnsupportedError: A tensor that is neither, or a result of other tensors under autograd; a
            value that is not finite; or shapes that contradict each other.
    """
    given = {
        name: value if isinstance(value, Tensor) else torch.as_tensor(value, dtype=torch.float64)
        for name, value in tensors.items()
    }
    values: dict[str, Tensor] = {}
    per: dict[str, Granularity] = {}
    shapes: dict[tuple[int, ...], tuple[int, ...]] = {}  # without first axes of length 1 -> with
    channels: set[int] = set()
    for name, tensor in given.items():
        own = tuple(tensor.shape)
        while own[:1] == (1,):
            own = own[1:]
        if not tensor.is_floating_point():
            tensor = tensor.to(torch.get_default_dtype())
        if not bool(tensor.isfinite().all()):
            raise UnsupportedError(where, f"{name} is not finite")
        if not given[name].is_leaf:
            raise UnsupportedError(where, f"{name} is computed from a tensor with a gradient")
        if tensor.numel() == 1:
            own, per[name] = (), "layer"
        elif len(own) > 1 and set(own[1:]) == {1}:
            own, per[name] = own[:1], "channel"
            channels.add(own[0])
        else:
            per[name] = "neuron"
            shapes[own] = max(shapes.get(own, ()), tuple(tensor.shape), key=len)
        values[name] = tensor.reshape(own)
    first = {shape[0] for shape in shapes.values()} | channels
    if len(shapes) > 1 or len(first) > 1 or any(1 in shape for shape in shapes):
        found = ", ".join(f"{name} {tuple(t.shape)}" for name, t in given.items() if t.dim())
        problem = f"parameters of shape {found}"
        raise UnsupportedError(where, problem, "(), (C, 1, 1), or the shape of one sample")
    shape = next(iter(shapes.values()), None)
    values |= {
        name: values[name].reshape(shape) for name in given if shape and per[name] == "neuron"
    }
    return Kept(given, values, per, shape, None if shape else next(iter(channels), None))


NOTHING: Kept = kept("nothing", {})
"""No tensor."""

TRACE = (
    "Write its step as a function of tensors, and put lnm.nn.NeuronLayer(lnm.trace(step, ...)) in "
    "its place."
)
"""Remedy for a neuron that no family has."""


@dataclass(frozen=True)
class Weights:
    """Weights of a recurrent layer: x[t] = W in[t] + b + U s[t - 1].

    Attributes:
        values: "recurrent" (U), "weight" (W) and "bias" (b) -> tensor; the last two may be absent.
        given: The same names -> the old tensor, of which `values` may have a part.
        autapses: Whether the diagonal of U is used.
    """

    values: Mapping[str, Tensor] = field(repr=False)
    given: Mapping[str, Tensor] = field(repr=False)
    autapses: bool = True

    @property
    def size(self) -> int:
        """H, the number of neurons."""
        return len(self.values["recurrent"])

    @property
    def inputs(self) -> int | None:
        """Size of the input of W, or None without W."""
        return self.values["weight"].shape[1] if "weight" in self.values else None

    def require(self, where: str, own: Kept) -> None:
        """Raise UnsupportedError unless each parameter has one value, or one for each neuron."""
        shape = own.shape if own.channels is None else (own.channels,)
        if shape is not None and math.prod(shape) != self.size:
            problem = f"parameters of shape {shape} for {self.size} neurons"
            raise UnsupportedError(where, problem)

    def layer(self, kind: Any, neuron: Neuron, own: Kept, **options: Any) -> RecurrentLayer:
        """Return the layer of a class, without the values.

        Raises:
            UnsupportedError: A parameter of the neuron has another shape.
        """
        self.require(kind.__name__, own)
        layer: RecurrentLayer = kind(
            neuron,
            self.size,
            self.inputs,
            bias="bias" in self.values,
            autapses=self.autapses,
            feedback=neuron.output[0][0],
            **options,
        )
        return layer


@dataclass(frozen=True)
class Protocol:
    """Form of a layer's calls.

    Attributes:
        layer: `NeuronLayer`, or a subclass with the calls of a library.
        step_mode: "m" or "s".
        carry_state: The layer keeps its states between calls in multi-step mode.
        attributes: Attributes of the subclass.
        buffers: Old buffers that no neuron reads and a state_dict has.
        weights: Those of a recurrent layer, whose class is a `RecurrentLayer`; else None.
    """

    layer: type[NeuronLayer] = NeuronLayer
    step_mode: StepMode = "m"
    carry_state: bool = False
    attributes: Mapping[str, Any] = field(default_factory=dict)
    buffers: tuple[str, ...] = ()
    weights: Weights | None = None

    @property
    def given(self) -> Mapping[str, Tensor]:
        """The old tensors of the weights, by new name."""
        return {} if self.weights is None else self.weights.given


@dataclass(frozen=True)
class Recipe:
    """A neuron with the dynamics of an old layer.

    Attributes:
        neuron: The neuron.
        protocol: Form of the calls.
        kept: Old tensors that are parameters of the neuron.
        reason: Why the neuron is an approximation, or empty.
    """

    neuron: Neuron
    protocol: Protocol
    kept: Kept = NOTHING
    reason: str = ""


def is_plain(module: nn.Module) -> bool:
    """Report whether a module is an `nn.Linear` whose weight is its own and which has no hook."""
    return type(module) is nn.Linear and "weight" in module._parameters and not is_hooked(module)


def is_hooked(module: nn.Module) -> bool:
    """Report whether a call of a module runs hooks."""
    names = ("forward_hooks", "forward_pre_hooks", "backward_hooks", "backward_pre_hooks")
    return any(getattr(module, f"_{name}") for name in names)


def name_of(old: nn.Module) -> str:
    """Return the class name of a layer."""
    return type(old).__name__


def kind_of(old: nn.Module, known: Collection[str]) -> str:
    """Return the name of a layer's class, or of the known class that it derives from, or ""."""
    return next((kind.__name__ for kind in type(old).__mro__ if kind.__name__ in known), "")


def number_of(old: Any, name: str) -> float:
    """Return a number that is an attribute of a layer."""
    return number(name_of(old), name, getattr(old, name))


def optional_number(old: Any, name: str) -> float | None:
    """Return a number that is an attribute of a layer, or None."""
    return None if getattr(old, name) is None else number_of(old, name)


def require(old: nn.Module, condition: Any, problem: str, remedy: str = "") -> None:
    """Raise UnsupportedError unless a condition holds."""
    if not condition:
        raise UnsupportedError(name_of(old), problem, remedy=remedy)


def symbol_of(neuron: Neuron, name: str) -> Declared:
    """Return the declared symbol of that name."""
    return next(s for s in neuron.symbols if s.name == name)


def with_step_end(
    neuron: Neuron, v_reset: float | None, detach: bool, scale: ExprLike = 1
) -> Neuron:
    """Return the neuron with a second output, v after the reset.

        v_seq = v/scale - s*v_threshold/scale, or s*v_reset + (1 - s)*v/scale

    `s` is the spike; with `detach`, a constant to the derivative.
    """
    v, threshold = symbol_of(neuron, "v"), symbol_of(neuron, "v_threshold")
    s: Any = stop_gradient(spike) if detach else spike
    h = v / scale
    after = h - s * (threshold / scale) if v_reset is None else s * v_reset + (1 - s) * h
    return neuron.with_outputs(v_seq=after)


# Additions of a user to a layer of a library: parameters, buffers, modules and attributes.


_PACKAGES = ("norse", "snntorch", "spikingjelly")
_REGISTERS = {"register_buffer", "register_memory", "register_parameter", "setattr"}
_FILLERS = {"append", "appendleft", "extend", "insert", "setdefault", "update"}


def added(old: nn.Module, recipe: Recipe) -> tuple[str, ...]:
    """Return the names of what a user added to an old layer, on the object or in `__init__`.

    A name is the library's if the code of its classes contains it. If the recipe has tensors of
    the layer, another parameter is the user's under any name.
    """
    known = library_names(type(old))
    if recipe.kept.given:
        ours = {id(tensor) for tensor in recipe.protocol.given.values()}
        own = {n for n, value in old._parameters.items() if id(value) not in ours}
        known -= own - set(recipe.kept.given)
    names = (*vars(old), *old._parameters, *old._buffers, *old._modules)
    replaced = {name for name in vars(old) if callable(getattr(type(old), name, None))}
    return tuple(name for name in names if name not in known or name in replaced)


def library_names(kind: type) -> set[str]:
    """Return the names to which the library's classes assign from which a class derives."""
    names = set(vars(nn.Module()))
    for base in kind.__mro__:
        if base.__module__.partition(".")[0] in _PACKAGES:
            names |= set(vars(base)).union(*map(assigned_names, vars(base).values()))
    return names


def assigned_names(value: Any) -> set[str]:
    """Return the attributes that a function or a property assigns, or registers by a string."""
    names: set[str] = set()
    for code in _codes(value):
        registers = not _REGISTERS.isdisjoint(code.co_names)
        names |= {i.argval for i in get_instructions(code) if i.opname == "STORE_ATTR"}
        names |= {c for c in code.co_consts if isinstance(c, str) and registers}
    return names


def filled_names(value: Any) -> set[str]:
    """Return the attributes whose elements a function may assign or add, as of a list."""
    names: set[str] = set()
    for code in _codes(value):
        loaded: set[str] = set()  # in this statement
        for one in get_instructions(code):
            if one.opname in ("LOAD_ATTR", "LOAD_METHOD"):
                loaded.add(one.argval)
            if one.opname == "STORE_SUBSCR" or one.argval in _FILLERS:
                names |= loaded
            if one.opname == "POP_TOP" or one.opname.startswith(("STORE_", "RETURN_")):
                loaded = set()
    return names


def _codes(value: Any) -> Iterator[CodeType]:
    """Yield the code of a function or a property, and of the functions within."""
    found = (value.fget, value.fset) if isinstance(value, property) else (value,)
    plain = [getattr(one, "__func__", one) for one in found]  # of a static or class method
    codes = [one.__code__ for one in plain if isinstance(one, FunctionType)]
    while codes:
        code = codes.pop()
        yield code
        codes += [c for c in code.co_consts if isinstance(c, CodeType)]


def clashing(names: Iterable[str], old: nn.Module, new: nn.Module) -> list[str]:
    """Return the names that the new layer has itself, and the replaced methods of the old one."""
    return [n for n in names if hasattr(new, n) or callable(getattr(type(old), n, None))]


def move(names: Iterable[str], old: nn.Module, new: nn.Module) -> None:
    """Give additions to a new layer, the same objects."""
    for name in names:
        if name in old._parameters:
            new.register_parameter(name, old._parameters[name])
        elif name in old._buffers:
            persistent = name not in old._non_persistent_buffers_set
            new.register_buffer(name, old._buffers[name], persistent)
        elif name in old._modules:
            new.add_module(name, old._modules[name])
        else:
            vars(new)[name] = vars(old)[name]


# Layers of this package in the place of old ones.


class RenamedLayer(NeuronLayer):
    """A layer that loads the old state_dict: `renamed` are its keys and the new ones of each.

    A key with two new ones has their tensors side by side, split at column `split`.
    """

    renamed: Mapping[str, tuple[str, ...]] = {}
    split: int = 0

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *arguments: Any) -> None:
        """Load the parameters, under their old or new names."""
        for old, names in self.renamed.items():
            value = state_dict.pop(prefix + old, None)
            if value is not None and len(names) == 2:
                parts = (value[:, : self.split], value[:, self.split :])
                state_dict |= dict(zip((prefix + n for n in names), parts, strict=True))
            elif value is not None and names:
                state_dict[prefix + names[0]] = value
        super()._load_from_state_dict(state_dict, prefix, *arguments)


# Layer whose parameters per neuron may have fewer axes, or more of length 1, than a sample.


class BroadcastLayer(NeuronLayer):
    """A layer in which some parameters broadcast to a sample (C, *), as in PyTorch.

    A call gives them the shape of the sample; the parameters keep their own. The gradient of one
    is the sum over the neurons that share an element. `broadcast` are the names of the parameters.
    """

    broadcast: tuple[str, ...] = ()

    def _require_axes(self, shape: Size) -> None:
        """Accept samples to whose shape the parameters broadcast, or raise ShapeError."""
        sample, params = tuple(shape[2:]), self.neuron.params
        own = {p.name: axes for p, axes in zip(params, self._axes, strict=True) if p.per != "layer"}
        if set(own) == set(self.broadcast) and all(_fits(a, sample) for a in own.values()):
            found = [sample if p.name in own else () for p in params]
            if found != self._shapes:
                self._shapes = found
        else:
            super()._require_axes(shape)

    def _values(self) -> list[Tensor]:
        """Return the parameters in order, in the shapes of the last call."""
        values = super()._values()
        if not self.broadcast:
            return values
        return [_expanded(v, s) for v, s in zip(values, self._shapes, strict=True)]


def _fits(axes: tuple[int, ...] | None, sample: tuple[int, ...]) -> bool:
    """Report whether the axes without the first ones of length 1 are the last of a sample."""
    while axes and axes[0] == 1:
        axes = axes[1:]
    return bool(axes) and sample[-len(axes or ()) :] == axes


def _expanded(value: Tensor, shape: tuple[int, ...]) -> Tensor:
    if tuple(value.shape) == shape:
        return value
    more = max(0, value.dim() - len(shape))  # axes of length 1
    return value.reshape(value.shape[more:]).expand(shape).contiguous()
