"""A chain of trained modules as real stages: normalisations and averages are in the weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from lnm_codegen.deploy.network import Normalisation, folded
from lnm_codegen.errors import ModelError, UnsupportedError
from lnm_codegen.ir.fixed.interpret import Array
from lnm_codegen.ir.network.nodes import FlattenStage, PoolStage, Shape, WeightKind, size_of
from lnm_codegen.nn import NeuronLayer, NormNeuron
from lnm_codegen.nn.chain import Chain
from lnm_codegen.nn.norm.deferred import DeferredNorm, NormModule

ACCEPTED = (
    "linear layers, convolutions, batch normalisations after them, neurons, poolings, flattens"
)
ORDER = "a linear layer or convolution, its normalisation, its neurons, then a pooling"
"""The order of the modules of one layer."""


@dataclass(frozen=True, eq=False)
class RealWeights:
    """A linear layer or a convolution in float64, with what is folded into it.

    Attributes:
        name: Path in the network.
        kind: "linear" or "conv".
        weight: (outputs, inputs), or (C', C, KH, KW).
        bias: (outputs,).
        stride: Of a convolution.
        padding: Of a convolution.
    """

    name: str
    kind: WeightKind
    weight: Array
    bias: Array
    stride: int = 1
    padding: int = 0


@dataclass(frozen=True, eq=False)
class RealNeurons:
    """A layer of neurons."""

    name: str
    layer: NeuronLayer


RealStage: TypeAlias = RealWeights | RealNeurons | PoolStage | FlattenStage


def real_stages(chain: Chain, sample: Shape) -> tuple[Shape, tuple[RealStage, ...]]:
    """Return the shape of one step, (C, H, W) or (F,), and the stages of a chain in eval mode.

    Args:
        chain: Its modules are in eval mode.
        sample: Shape of the input of one step.

    Raises:
        ModelError: A weight, a bias or a statistic is not finite; the place names the module.
        UnsupportedError: A module, or an order of modules, that the description lacks; the place
            names the module.
    """
    modules = list(chain.modules)
    while modules and isinstance(modules[0][1], nn.Identity | nn.Flatten):
        sample = (size_of(sample),) if isinstance(modules[0][1], nn.Flatten) else sample
        del modules[0]
    is_flat = len(sample) == 1
    found: list[RealStage] = []
    for name, module in modules:
        last = found[-1] if found else None
        match module:
            case nn.Linear() | nn.Conv2d():
                made = _weights(name, module)
                found.append(replace(made, weight=made.weight / _divisor(found)))
            case DeferredNorm() | nn.Identity():  # the next neurons have the normalisation
                pass
            case _BatchNorm():
                found[-1:] = [_normalised(name, last, _folded(name, module))]
            case NeuronLayer():
                if isinstance(module, NormNeuron):
                    found[-1:] = [_normalised(name, last, _norm_of(name, module))]
                _require_weights(name, "neurons", found[-1] if found else None)
                found.append(RealNeurons(name, module))
            case nn.MaxPool2d() | nn.AvgPool2d():
                found.append(_pool(name, module))
            case nn.Flatten():
                found += [] if is_flat else [FlattenStage()]
                is_flat = True
            case _:
                raise _refused(name, f"{type(module).__name__}")
    if not any(isinstance(stage, RealWeights) for stage in found):
        raise UnsupportedError("network", "no linear layer and no convolution", ACCEPTED)
    if _divisor(found) != 1:
        raise _refused(modules[-1][0], "a pooling is the last layer")
    return sample, tuple(found)


def _refused(name: str, problem: str) -> UnsupportedError:
    return UnsupportedError(f"network: {name}", problem, ACCEPTED)


def _require_weights(name: str, subject: str, last: RealStage | None) -> RealWeights:
    """Return the stage before, or raise UnsupportedError unless it is a layer of weights."""
    if isinstance(last, RealWeights):
        return last
    place = f"network: {name}"
    match last:
        case PoolStage():
            raise UnsupportedError(place, f"a pooling between weights and {subject}", ORDER)
        case FlattenStage():
            raise UnsupportedError(place, f"a flatten between weights and {subject}", ORDER)
    raise UnsupportedError(place, f"{subject} without weights before", ORDER)


def _weights(name: str, module: nn.Linear | nn.Conv2d) -> RealWeights:
    weight = _finite(name, "weight", _float64(module.weight))
    bias = np.zeros(len(weight)) if module.bias is None else _float64(module.bias)
    _finite(name, "bias", bias)
    if isinstance(module, nn.Linear):
        return RealWeights(name, "linear", weight, bias)
    padding = module.padding
    plain = (
        not isinstance(padding, str)
        and len({*module.stride}) == len({*padding}) == 1
        and {*module.dilation} == {1}
        and module.groups == 1
        and module.padding_mode == "zeros"
    )
    if not plain:
        problem = f"a convolution {module}"
        accepted = "one group, no dilation, one stride, one padding with zeros"
        raise UnsupportedError(f"network: {name}", problem, accepted)
    return RealWeights(name, "conv", weight, bias, module.stride[0], int(padding[0]))


def _float64(tensor: Any) -> Array:
    return np.asarray(tensor.detach().double().cpu().numpy())


def _finite(name: str, word: str, numbers: Array) -> Array:
    """Return numbers of a module, or raise ModelError unless all are finite."""
    others = numbers[~np.isfinite(numbers)]
    if others.size:
        raise ModelError(f"network: {name}", f"{word} holds {others[0]:g}", "finite numbers")
    return numbers


def _divisor(stages: Sequence[RealStage]) -> int:
    """Return the number of values that the averages since the last weights divide by."""
    divisor = 1
    for stage in reversed(stages):
        if isinstance(stage, RealWeights | RealNeurons):
            break
        if isinstance(stage, PoolStage) and stage.kind == "sum":
            divisor *= stage.size**2
    return divisor


def _normalised(name: str, last: RealStage | None, norm: Normalisation | None) -> RealWeights:
    last = _require_weights(name, "a normalisation", last)
    if norm is None:
        raise _refused(name, "a normalisation without running statistics")
    scale = norm.scale.reshape(-1, *(1,) * (last.weight.ndim - 1))
    return replace(last, weight=last.weight * scale, bias=last.bias * norm.scale + norm.offset)


def _norm_of(name: str, layer: NormNeuron) -> Normalisation | None:
    if layer.shortcut or layer.norm == "affine":
        raise _refused(name, "a normalisation with a shortcut, or without statistics")
    return _folded(name, layer.normalisation)


def _folded(name: str, norm: _BatchNorm | NormModule) -> Normalisation | None:
    """Return scale and offset of a normalisation, or raise ModelError unless all are finite."""
    for word in ("weight", "bias", "running_mean", "running_var"):
        numbers = getattr(norm, word)
        if numbers is not None:
            _finite(name, word, _float64(numbers))
    return folded(name, norm)


def _pool(name: str, module: nn.MaxPool2d | nn.AvgPool2d) -> PoolStage:
    sizes = (module.kernel_size, module.stride)
    pairs = {n for size in sizes for n in (size if isinstance(size, tuple) else (size,))}
    padding = module.padding if isinstance(module.padding, tuple) else (module.padding,)
    plain = len(pairs) == 1 and {*padding} == {0} and not module.ceil_mode
    if isinstance(module, nn.MaxPool2d):
        plain = plain and module.dilation in (1, (1, 1))
    elif module.divisor_override is not None:
        plain = False
    if not plain:
        accepted = "square windows that do not overlap, without padding"
        raise UnsupportedError(f"network: {name}", f"a pooling {module}", accepted)
    return PoolStage("max" if isinstance(module, nn.MaxPool2d) else "sum", int(pairs.pop()))
