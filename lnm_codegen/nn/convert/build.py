"""New layers: a recipe, or a neuron of the user's, becomes a layer in the place of an old one."""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from lnm_codegen.analysis.linear.affine import matched_start
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.nn.convert.broadcast import BroadcastLayer
from lnm_codegen.nn.convert.recipe import NOTHING, Protocol, Recipe
from lnm_codegen.nn.convert.values import Kept
from lnm_codegen.nn.layer import NeuronLayer
from lnm_codegen.options import BackendName

_HOOKS = (
    "_forward_hooks", "_forward_hooks_with_kwargs", "_forward_hooks_always_called",
    "_forward_pre_hooks", "_forward_pre_hooks_with_kwargs", "_backward_hooks",
    "_backward_pre_hooks", "_is_full_backward_hook", "_state_dict_hooks", "_state_dict_pre_hooks",
    "_load_state_dict_pre_hooks", "_load_state_dict_post_hooks",
)  # fmt: skip


def built(
    recipe: Recipe,
    old: nn.Module,
    like: torch.Tensor,
    backend: BackendName = "auto",
    shared: dict[int, nn.Parameter] | None = None,
) -> NeuronLayer:
    """Return the new layer.

    Args:
        recipe: The neuron and the form of the calls.
        old: The old layer; its parameters become parameters of the new one, the same objects where
            their shapes are the same.
        like: Tensor with the type and the device of the parameters, where the old layer has no
            learned tensor.
        backend: See `NeuronLayer`.
        shared: Id of an old learned tensor -> the parameter in its place, so that layers that
            share the one share the other. The old layers must exist as long as the dict.
    """
    protocol, own = recipe.protocol, recipe.kept
    like = next((own.given[name] for name in own.given if own.learns(name)), like)
    layer = protocol.layer(
        recipe.neuron,
        channels=own.channels,
        shape=own.shape,
        backend=backend,
        step_mode=protocol.step_mode,
        carry_state=protocol.carry_state,
        device=like.device,
        dtype=like.dtype if like.dtype is torch.float64 else torch.float32,
    )
    for name, value in protocol.attributes.items():
        setattr(layer, name, value)
    if isinstance(layer, BroadcastLayer):
        names = (param.name for param in recipe.neuron.params)
        layer.broadcast = tuple(name for name in names if own.per.get(name) == "neuron")
    _keep(layer, own, {} if shared is None else shared)
    for name in protocol.buffers:
        layer.register_buffer(name, getattr(old, name).detach().clone())
    if protocol.buffers:
        layer.fixed = protocol.buffers
    return layer.train(old.training)


def _keep(layer: NeuronLayer, own: Kept, shared: dict[int, nn.Parameter]) -> None:
    """Give a layer the old values; an old parameter of the same shape stays the same object."""
    for name in (p.name for p in layer.neuron.params if p.name in own.values):
        value = own.values[name]
        given, new = own.given[name], getattr(layer, name)
        with torch.no_grad():
            new.copy_(value)
        if own.learns(name):
            new.requires_grad_(given.requires_grad)
            is_same = given.shape == new.shape and given.dtype is new.dtype
            kept = given if is_same and isinstance(given, nn.Parameter) else new
            layer._parameters[name] = shared.setdefault(id(given), kept)


def order(layer: nn.Module, names: list[str]) -> None:
    """Put the parameters in the order of these names, by which optimisers know them."""
    own = layer._parameters
    for name in [n for n in names if n in own] + [n for n in own if n not in names]:
        own[name] = own.pop(name)


def recipe_with(neuron: Neuron, protocol: Protocol, target: Recipe | None) -> Recipe:
    """Return the recipe of a neuron that the user gives.

    Args:
        neuron: The neuron.
        protocol: Form of the calls.
        target: Recipe of the old dynamics, with which the neuron begins if it can, or None.
    """
    start = None
    if target is not None and set(target.kept.per.values()) <= {"layer"}:
        values = {name: float(value.detach()) for name, value in target.kept.values.items()}
        known = {p.name for p in target.neuron.params}
        old = target.neuron.with_init(**{n: v for n, v in values.items() if n in known})
        start = matched_start(neuron, old)
    if start is None:
        return Recipe(neuron, protocol, NOTHING, "the neuron is given")
    reason = "the neuron is given, and begins with the old dynamics"
    return Recipe(neuron.with_init(**start), protocol, NOTHING, reason)


def move_hooks(old: nn.Module, new: nn.Module) -> None:
    """Give the hooks of an old layer to the new one; their handles still remove them."""
    table: dict[str, Any] = vars(old)
    vars(new).update({name: table[name] for name in _HOOKS if table.get(name) is not None})
    bound: Iterable[Any] = new._load_state_dict_pre_hooks.values()
    for hook in bound:
        if getattr(hook, "with_module", False):  # a weak reference to the old layer
            hook.module = weakref.ref(new)
