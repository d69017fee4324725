"""Weight and bias of a normalisation: validation, and the initial value of a "tdbn" weight."""

from __future__ import annotations

from torch import Tensor
from torch.nn.parameter import is_lazy

from lnm_codegen.errors import ModelError, ShapeError
from lnm_codegen.nn.arguments import REAL
from lnm_codegen.nn.layer import NeuronLayer
from lnm_codegen.nn.norm.deferred import NormModule


def threshold_of(layer: NeuronLayer) -> Tensor:
    """Return the threshold of a layer or of each channel, or raise ModelError."""
    threshold, found = getattr(layer, "v_threshold", None), "no v_threshold"
    if isinstance(threshold, Tensor):
        if not is_lazy(threshold) and threshold.dim() <= 1:
            return threshold.detach()
        found = "a v_threshold per neuron"
    problem = f"norm is 'tdbn', and {layer.neuron.name} has {found}"
    accepted = "a neuron with a parameter v_threshold per layer or channel"
    raise ModelError("NormNeuron", problem, accepted, "Use norm='batch', and set weight.")


def weights_as(where: str, norm: NormModule, channels: int, c: Tensor) -> tuple[Tensor, Tensor]:
    """Return weight and bias in the type of the arithmetic on c.

    Raises:
        ShapeError: They or the running statistics are not (C,) on the device of c.
    """
    weight, bias, buffers = norm.weight, norm.bias, norm._buffers
    statistics = buffers.get("running_mean"), buffers.get("running_var")
    size, device, real = (channels,), c.device, REAL[c.dtype]
    for k, value in enumerate((weight, bias, *statistics)):
        if value is not None and (value.shape != size or value.device != device):
            name = ("weight", "bias", "running_mean", "running_var")[k]
            problem = f"{name!r} of the normalisation is {tuple(value.shape)} on {value.device}"
            raise ShapeError(where, problem, f"{size} on {device}, the device of c")
    return weight.to(real), bias.to(real)
