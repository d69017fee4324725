"""A trained network in fixed point: its neuron layers, what reaches them, and a copy that rounds.

A network here is any `torch.nn.Module` with `NeuronLayer`s in it, run on whole sequences.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from lnm_codegen.errors import ModelError, UnsupportedError
from lnm_codegen.ir.fixed.interpret import Array
from lnm_codegen.ir.fixed.spec import FixedSpec
from lnm_codegen.ir.types import Fixed
from lnm_codegen.nn import NeuronLayer


@dataclass(frozen=True, eq=False)
class Normalisation:
    """What stands before a neuron layer: x = scale*y + offset, one number for each channel.

    Attributes:
        name: Path of the batch normalisation in the network.
        scale: gamma / sqrt(variance + eps), (C,).
        offset: beta - mean*scale, (C,).
    """

    name: str
    scale: Array
    offset: Array


@dataclass(frozen=True, eq=False)
class Seen:
    """What a neuron layer met in a run of the network.

    Attributes:
        x_seq: Its input, (T, N, *).
        out: Its output, (T, N, *).
        norm: The batch normalisation whose output the input is; None where it is another's.
    """

    x_seq: Tensor
    out: Tensor
    norm: Normalisation | None = field(repr=False)

    @property
    def neurons(self) -> int:
        """The neurons of one sample."""
        return int(np.prod(self.x_seq.shape[2:], dtype=int))


def neuron_layers(network: nn.Module) -> dict[str, NeuronLayer]:
    """Return the neuron layers by their paths in the network, `blocks.0.neuron`, in its order.

    Raises:
        ModelError: There is none.
    """
    found = {n: m for n, m in network.named_modules() if isinstance(m, NeuronLayer)}
    if not found:
        raise ModelError("network", "no NeuronLayer in it", "a network with one or more")
    return found


def parameters_of(layer: NeuronLayer) -> dict[str, Array]:
    """Return the parameters of a layer by name, in float64."""
    return {
        p.name: getattr(layer, p.name).detach().to("cpu", torch.float64).numpy()
        for p in layer.neuron.params
    }


def like(layer: NeuronLayer, **changed: Any) -> NeuronLayer:
    """Return a layer of the same neuron with the same parameters, and other arguments.

    Raises:
        ModelError: As for `NeuronLayer`.
    """
    rows = {
        p.per: tuple(getattr(layer, p.name).shape[: None if p.size is None else -1])
        for p in layer.neuron.params
    }
    shape = rows.get("neuron")
    channels = rows["channel"][0] if shape is None and "channel" in rows else None
    arguments: dict[str, Any] = {"channels": channels, "shape": shape, "step_mode": layer.step_mode}
    arguments |= changed
    made = NeuronLayer(layer.neuron, **arguments)
    with torch.no_grad():
        for p in layer.neuron.params:
            getattr(made, p.name).copy_(getattr(layer, p.name))
    return made.train(layer.training)


def in_fixed_point(
    network: nn.Module, specs: Fixed | FixedSpec | Mapping[str, Fixed | FixedSpec]
) -> nn.Module:
    """Return a copy of the network whose neuron layers compute in fixed point.

    Args:
        network: Its weights and everything between the neuron layers stay as they are.
        specs: One format for all of them, or one by the path of each.

    Raises:
        ModelError: A parameter that does not fit its format, a layer without a format.
        UnsupportedError: A neuron without a fixed-point form.
    """
    made = copy.deepcopy(network)
    for name, layer in neuron_layers(network).items():
        parent, _, last = name.rpartition(".")
        spec = specs.get(name) if isinstance(specs, Mapping) else specs
        if spec is None:
            raise ModelError(
                "network", f"no format for {name!r}", remedy="Give one for each neuron layer."
            )
        setattr(made.get_submodule(parent), last, rounding(layer, spec))
    return made


def rounding(layer: NeuronLayer, spec: Fixed | FixedSpec, **changed: Any) -> NeuronLayer:
    """Return the layer in fixed point: in NumPy where it was eager, else in C where that can be.

    Raises:
        ModelError: A parameter that does not fit its format.
        UnsupportedError: A neuron without a fixed-point form.
    """
    backend = "torch" if layer.backend == "torch" else "auto"
    return like(layer, arithmetic=spec, backend=backend, **changed)


def see(network: nn.Module, images: Tensor) -> tuple[Tensor, dict[str, Seen]]:
    """Run a network without gradients; return its output and what each neuron layer met.

    Raises:
        UnsupportedError: A neuron layer that ran more than once, or not at all.
    """
    with torch.no_grad(), _watched(network) as seen:
        out: Tensor = network(images)
    for name in neuron_layers(network):
        if len(seen[name]) != 1:
            raise UnsupportedError(
                "network",
                f"{name} ran {len(seen[name])} times in one call",
                "once, on a whole sequence",
            )
    return out, {name: runs[0] for name, runs in seen.items()}


@contextmanager
def _watched(network: nn.Module) -> Iterator[dict[str, list[Seen]]]:
    """Collect what the neuron layers meet while it is open."""
    layers = neuron_layers(network)
    seen: dict[str, list[Seen]] = {name: [] for name in layers}
    norms: dict[int, tuple[str, _BatchNorm, Tensor]] = {}

    def after_norm(name: str) -> Any:
        def hook(module: nn.Module, _: Any, out: Tensor) -> None:
            assert isinstance(module, _BatchNorm)
            # The output is kept, so that no later tensor has its address.
            norms[out.untyped_storage().data_ptr()] = (name, module, out)

        return hook

    def after_neuron(name: str) -> Any:
        def hook(_: nn.Module, inputs: tuple[Tensor, ...], out: Any) -> None:
            if len(inputs) != 1 or not isinstance(out, Tensor):
                raise UnsupportedError(
                    "network",
                    f"{name} has {len(inputs)} inputs and gives a {type(out).__name__}",
                    "a neuron with one input and one output",
                )
            found = norms.get(inputs[0].untyped_storage().data_ptr())
            norm = None if found is None else _folded(found[0], found[1])
            seen[name].append(Seen(inputs[0], out, norm))

        return hook

    handles = [layer.register_forward_hook(after_neuron(n)) for n, layer in layers.items()]
    for name, module in network.named_modules():
        if isinstance(module, _BatchNorm):
            handles.append(module.register_forward_hook(after_norm(name)))
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _folded(name: str, norm: _BatchNorm) -> Normalisation | None:
    """Return a normalisation in eval mode as scale and offset."""
    if norm.training or norm.running_mean is None or norm.running_var is None:
        return None
    double = torch.float64
    scale = (norm.running_var.to(double) + norm.eps).rsqrt()
    offset = -norm.running_mean.to(double) * scale
    if norm.affine:
        scale, offset = scale * norm.weight, offset * norm.weight + norm.bias
    return Normalisation(name, scale.detach().cpu().numpy(), offset.detach().cpu().numpy())
