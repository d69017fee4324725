"""Evaluates a probe of a layer's charge (`analysis.charge`) with the layer's own parameters."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from lnm_codegen.language.neuron import Neuron
from lnm_codegen.nn import NeuronLayer
from lnm_codegen.nn.eager import eager_module
from lnm_codegen.nn.parameters import broadcastable, finest_axes

LOWEST = -2.0
"""Where a curve begins if the neuron has no clamp of its own."""


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
    module, rows = eager_module(probe), finest_axes(layer) or (1,)
    params = {
        p.name: broadcastable(p, getattr(layer, p.name).to(dtype), len(rows)) for p in probe.params
    }
    prepared = module.prepare(**params)

    def outputs(z: Tensor, count: int) -> tuple[Tensor, ...]:
        shape = (z.shape[0], *rows)
        at = z.expand(-1, math.prod(rows)).reshape(shape)
        found = module.step(at, *prepared)[:count]
        numbers = (torch.as_tensor(out, dtype=dtype, device=z.device) for out in found)
        return tuple(out.expand(shape).flatten(1) for out in numbers)

    return outputs
