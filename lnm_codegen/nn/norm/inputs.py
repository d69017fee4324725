"""Inputs of the neuron in a call of a layer, normalised or not."""

from __future__ import annotations

from torch import Tensor

from lnm_codegen.nn.layer import NeuronLayer
from lnm_codegen.nn.norm.layer import NormNeuron


def neuron_inputs(layer: NeuronLayer, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Return the inputs of the neuron in a call of a layer on `inputs`.

    For a `NormNeuron`: x, in the type of the arithmetic, then the inputs after c and r.
    """
    if not isinstance(layer, NormNeuron):
        return inputs
    x, *more = layer.normalised_inputs(*inputs)
    if layer.shortcut:
        x = x + more.pop(0)
    return (x, *more)


def with_shortcut(neuron: NeuronLayer, c: Tensor, r: Tensor) -> Tensor:
    """Return neuron(c, r) if the layer adds its shortcut itself, else neuron(c + r)."""
    if isinstance(neuron, NormNeuron) and neuron.shortcut:
        return neuron(c, r)
    return neuron(c + r)
