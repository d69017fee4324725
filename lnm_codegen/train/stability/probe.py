"""Evaluates a probe of a layer's charge (`analysis.charge`) with the layer's own parameters."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from lnm_codegen.language.neuron import Neuron
from lnm_codegen.nn import NeuronLayer
from lnm_codegen.nn.eager import eager_module

LOWEST = -2.0
"""Where a curve begins if the neuron has no clamp of its own."""


def rows_of(layer: NeuronLayer) -> tuple[int, ...]:
    """Return the axes of the layer's parameters: (1,), (C,) or those of a sample's neurons."""
    rows: tuple[int, ...] = (1,)
    for decl in layer.neuron.params:
        value: Tensor = getattr(layer, decl.name)
        held = tuple(value.shape if decl.size is None else value.shape[:-1])
        rows = held if decl.per == "neuron" or (decl.per == "channel" and rows == (1,)) else rows
    return rows


def probed(
    layer: NeuronLayer, probe: Neuron, dtype: torch.dtype
) -> Callable[[Tensor, int], tuple[Tensor, ...]]:
    """Return a function of potentials that gives a probe's first outputs.

    Args:
        layer: Whose parameters it takes, as they are now.
        probe: A neuron without states, whose one input is the potential.
        dtype: Of the potentials.

    Returns:
        Potentials (P, 1) or (P, R), and how many outputs -> those, (P, R) each.
    """
    module, rows = eager_module(probe), rows_of(layer)
    params = {}
    for decl in probe.params:
        value: Tensor = getattr(layer, decl.name).to(dtype)
        size = () if decl.size is None else (decl.size,)
        held = value.shape[: value.dim() - len(size)]
        params[decl.name] = value.reshape(*held, *(1,) * (len(rows) - len(held)), *size)
    prepared = module.prepare(**params)

    def outputs(z: Tensor, count: int) -> tuple[Tensor, ...]:
        shape = (z.shape[0], *rows)
        at = z.expand(-1, math.prod(rows)).reshape(shape)
        found = module.step(at, *prepared)[:count]
        numbers = (torch.as_tensor(out, dtype=dtype, device=z.device) for out in found)
        return tuple(out.expand(shape).flatten(1) for out in numbers)

    return outputs
