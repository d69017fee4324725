"""Weight and bias of a normalisation: validation, and the initial value of a "tdbn" weight."""

from __future__ import annotations

from torch import Tensor

from lnm_codegen.errors import ModelError, ShapeError
from lnm_codegen.nn.arguments import REAL
from lnm_codegen.nn.layer import NeuronLayer
from lnm_codegen.nn.norm.deferred import NormModule


def threshold_of(layer: NeuronLayer) -> Tensor:
    """Return the threshold of a layer or of each channel, or raise ModelError."""
    threshold = getattr(layer, "v_threshold", None)
    if not isinstance(threshold, Tensor) or threshold.dim() > 1:
        problem = f"norm is 'tdbn', and {layer.neuron.name} has no v_threshold"
        accepted = "a neuron with a parameter v_threshold per layer or channel"
        raise ModelError("NormNeuron", problem, accepted, "Use norm='batch', and set weight.")
    return threshold.detach()


def weights_as(where: str, norm: NormModule, channels: int, c: Tensor) -> tuple[Tensor, Tensor]:
    """Return weight and bias in the type of the arithmetic on c.

    Raises:
        ShapeError: They or the running statistics are not (C,) on the device of c.
    """
    for name in ("weight", "bias", "running_mean", "running_var"):
        value: Tensor | None = getattr(norm, name, None)
        if value is not None and (value.shape != (channels,) or value.device != c.device):
            problem = f"{name!r} of the normalisation is {tuple(value.shape)} on {value.device}"
            raise ShapeError(where, problem, f"({channels},) on {c.device}, the device of c")
    return norm.weight.to(REAL[c.dtype]), norm.bias.to(REAL[c.dtype])
