"""The rows of a layer: what its parameters are for the layer, each channel or each neuron."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lnm_codegen.language.neuron import Neuron
from lnm_codegen.nn import NeuronLayer
from lnm_codegen.nn.parameters import ParameterSets


def by_row(values: Tensor, rows: ParameterSets) -> Tensor:
    """Return values (T, N, *) as (R, K): what belongs to each row."""
    if not rows.shape:
        return values.reshape(1, -1)
    if len(rows.shape) == 1 and values.dim() > 2:
        return values.movedim(2, 0).reshape(rows.shape[0], -1)
    return values.flatten(2).movedim(2, 0).reshape(len(rows), -1)


def probe(
    neuron: Neuron, rows: ParameterSets, chosen: Sequence[int], **arguments: Any
) -> NeuronLayer:
    """Return a layer with one channel for each of the chosen rows.

    Args:
        neuron: Of the layer whose rows they are, or with further outputs.
        rows: Of `parameter_sets`.
        chosen: Numbers of rows.
        arguments: Further ones of `NeuronLayer`.
    """
    apart = neuron.with_per({p.name: "channel" for p in neuron.params})
    made = NeuronLayer(apart, channels=len(chosen), **arguments)
    index = torch.tensor(list(chosen))
    with torch.no_grad():
        for decl in apart.params:
            getattr(made, decl.name).copy_(rows.values[decl.name][index])
    return made.eval()
