"""Trained networks for deployment: neuron layers, their traces, and copies in fixed point.

A network is any `torch.nn.Module` that contains `NeuronLayer`s and runs on whole sequences.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from lnm_codegen.errors import ModelError, UnsupportedError
from lnm_codegen.ir.interpret import Array
from lnm_codegen.ir.types import Fixed, FixedSpec
from lnm_codegen.nn.call import Received
from lnm_codegen.nn.hooks import hooked, watching
from lnm_codegen.nn.layer import NeuronLayer
from lnm_codegen.nn.norm.deferred import NormModule
from lnm_codegen.nn.norm.layer import NormNeuron, neuron_inputs
from lnm_codegen.nn.parameters import finest_axes, needed_sizes, values_of
from lnm_codegen.nn.recurrent import RecurrentLayer


@dataclass(frozen=True, eq=False)
class Normalisation:
    """A folded batch normalisation: x = scale*y + offset, with one number of each per channel."""

    name: str  # path of the batch normalisation in the network
    scale: Array  # gamma / sqrt(variance + eps), (C,)
    offset: Array  # beta - mean*scale, (C,)


@dataclass(frozen=True, eq=False)
class LayerTrace:
    """Input and output of a neuron layer in one run of the network."""

    x_seq: Tensor  # (T, N, *)
    out: Tensor  # (T, N, *)
    norm: Normalisation | None = field(repr=False)  # directly before the layer

    @property
    def neurons(self) -> int:
        """Neurons of one sample."""
        return int(np.prod(self.x_seq.shape[2:], dtype=int))


def neuron_layers(network: nn.Module) -> dict[str, NeuronLayer]:
    """Return path (`blocks.0.neuron`) -> neuron layer, in order, or raise ModelError."""
    found = {n: m for n, m in network.named_modules() if isinstance(m, NeuronLayer)}
    if not found:
        raise ModelError("network", "it has no NeuronLayer", "a network with one or more")
    return found


def float64(tensor: Any) -> Array:
    """Return a tensor as an array of NumPy in float64."""
    return np.asarray(tensor.detach().double().cpu().numpy())


def layer_parameters(layer: NeuronLayer) -> dict[str, Array]:
    """Return the parameters of a layer by name, in float64."""
    return {name: float64(value) for name, value in values_of(layer).items()}


def layer_like(layer: NeuronLayer, **changed: Any) -> NeuronLayer:
    """Return a layer of the same neuron and parameters, with other arguments."""
    sizes = needed_sizes(layer.neuron, finest_axes(layer))
    made = NeuronLayer(layer.neuron, **{**sizes, "step_mode": layer.step_mode, **changed})
    with torch.no_grad():
        for name, value in values_of(layer).items():
            getattr(made, name).copy_(value)
    return made.train(layer.training)


def in_fixed_point(
    network: nn.Module, specs: Fixed | FixedSpec | Mapping[str, Fixed | FixedSpec]
) -> nn.Module:
    """Return a copy of the network whose neuron layers compute in fixed point.

    `specs` are the formats of all neuron layers, or path of each -> its formats.

    Raises:
        ModelError: A parameter does not fit its format, and the place begins with the layer; or a
            layer has no format.
        UnsupportedError: A neuron has no fixed-point form.
    """
    made = copy.deepcopy(network)
    for name, layer in neuron_layers(network).items():
        parent, _, last = name.rpartition(".")
        if isinstance(layer, RecurrentLayer):  # neurons alone would lose W and U
            problem, accepted = "a RecurrentLayer has no integers", "NeuronLayer or NormNeuron"
            raise UnsupportedError(name, problem, accepted, "Leave it in float, in Python.")
        spec = specs.get(name) if isinstance(specs, Mapping) else specs
        if spec is None:
            raise ModelError(
                "network", f"no format for {name!r}", remedy="Give one for each neuron layer."
            )
        try:
            fixed, own = fixed_layer(layer, spec), made.get_submodule(name)
        except ModelError as error:
            raise error.within(name) from None
        if isinstance(own, NormNeuron):  # it normalises in float
            fixed.register_forward_pre_hook(partial(_normalised, own))
        setattr(made.get_submodule(parent), last, fixed)
    return made


def _normalised(layer: NormNeuron, _: nn.Module, inputs: tuple[Tensor, ...]) -> Any:
    """Return the inputs of the neuron, in the type of c."""
    return tuple(x.to(inputs[0].dtype) for x in neuron_inputs(layer, inputs))


def fixed_layer(layer: NeuronLayer, spec: Fixed | FixedSpec, **changed: Any) -> NeuronLayer:
    """Return the layer in fixed point: in NumPy for an eager layer, else in C if possible."""
    backend = "torch" if layer.backend == "torch" else "auto"
    return layer_like(layer, arithmetic=spec, backend=backend, **changed)


def trace_layers(network: nn.Module, images: Tensor) -> tuple[Tensor, dict[str, LayerTrace]]:
    """Run a network without gradients; return its output and each neuron layer's trace."""
    traces, norms, neurons = _tracing(network)
    with torch.no_grad(), hooked(norms), watching(neurons):
        out: Tensor = network(images)
    for name, runs in traces.items():
        if len(runs) != 1:
            raise UnsupportedError(
                "network",
                f"{name} ran {len(runs)} times in one call",
                "one run, on a whole sequence",
            )
    return out, {name: runs[0] for name, runs in traces.items()}


def _tracing(
    network: nn.Module,
) -> tuple[dict[str, list[LayerTrace]], list[Any], list[Any]]:
    """Return a list of traces for each neuron layer, and what fills it.

    Those are hooks of normalisations, and functions of what neurons receive.
    """
    layers = neuron_layers(network)
    traces: dict[str, list[LayerTrace]] = {name: [] for name in layers}
    norms: dict[int, tuple[str, _BatchNorm, Tensor]] = {}

    def after_norm(name: str, module: nn.Module, _: Any, out: Tensor) -> None:
        assert isinstance(module, _BatchNorm)
        # A reference to the output keeps later tensors from reusing its address.
        norms[out.untyped_storage().data_ptr()] = (name, module, out)

    def after_neuron(name: str, layer: NeuronLayer, received: Received) -> None:
        inputs, outputs = received.inputs, received.outputs
        if len(inputs) != 1 or len(outputs) != 1:
            problem = f"{name} has {len(inputs)} inputs and {len(outputs)} outputs"
            raise UnsupportedError("network", problem, "a neuron with one input and one output")
        found = norms.get(inputs[0].untyped_storage().data_ptr())
        norm = None if found is None else folded(found[0], found[1])
        if isinstance(layer, NormNeuron) and layer.norm != "affine" and not layer.shortcut:
            own = layer.normalisation
            norm = folded(next(n for n, m in network.named_modules() if m is own), own)
        traces[name].append(LayerTrace(inputs[0], outputs[0], norm))

    norm_modules = ((n, m) for n, m in network.named_modules() if isinstance(m, _BatchNorm))
    hooks = [(m, partial(after_norm, n)) for n, m in norm_modules]
    return traces, hooks, [(m, partial(after_neuron, n)) for n, m in layers.items()]


def folded(name: str, norm: _BatchNorm | NormModule) -> Normalisation | None:
    """Return a normalisation in eval mode as scale and offset, or None in training mode."""
    if norm.training or norm.running_mean is None or norm.running_var is None:
        return None
    double = torch.float64
    scale = (norm.running_var.to(double) + norm.eps).rsqrt()
    offset = -norm.running_mean.to(double) * scale
    if norm.weight is not None:
        scale, offset = scale * norm.weight, offset * norm.weight + norm.bias
    return Normalisation(name, float64(scale), float64(offset))
