"""New layers: a recipe, or a neuron of the user's, becomes a layer in the place of an old one."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from lnm_codegen.analysis.linear.start import matched_start
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.nn.convert.recipe import NOTHING, Protocol, Recipe
from lnm_codegen.nn.convert.values import Kept
from lnm_codegen.nn.layer import NeuronLayer
from lnm_codegen.options import BackendName

_HOOKS = (
    "_forward_hooks", "_forward_hooks_with_kwargs", "_forward_hooks_always_called",
    "_forward_pre_hooks", "_forward_pre_hooks_with_kwargs", "_backward_hooks",
    "_backward_pre_hooks", "_state_dict_hooks", "_load_state_dict_pre_hooks",
)  # fmt: skip


def built(
    recipe: Recipe, old: nn.Module, like: torch.Tensor, backend: BackendName = "auto"
) -> NeuronLayer:
    """Return the new layer.

    Args:
        recipe: The neuron and the form of the calls.
        old: The old layer; its parameters become parameters of the new one, the same objects where
            their shapes are the same.
        like: Tensor with the type and the device of the parameters.
        backend: See `NeuronLayer`.
    """
    protocol, own = recipe.protocol, recipe.kept
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
    _keep(layer, own)
    for name in protocol.buffers:
        layer.register_buffer(name, getattr(old, name).detach().clone())
    if protocol.buffers:
        layer.fixed = protocol.buffers
    return layer.train(old.training)


def _keep(layer: NeuronLayer, own: Kept) -> None:
    """Give a layer the old values; an old parameter of the same shape stays the same object."""
    for name in (p.name for p in layer.neuron.params if p.name in own.values):
        value = own.values[name]
        given, new = own.given[name], getattr(layer, name)
        with torch.no_grad():
            new.copy_(value)
        if isinstance(given, nn.Parameter):
            new.requires_grad_(given.requires_grad)
            if given.shape == new.shape and given.dtype is new.dtype:
                layer._parameters[name] = given


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
    vars(new).update({name: table[name] for name in _HOOKS if table.get(name)})
