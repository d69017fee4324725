"""Charge curve of a neuron layer: z -> h(v[t-1] = z, x = 0), for any family.

For an LNM of form A the curve is f_theta, for a LIF neuron the line (1 - 1/tau)*z.
`analysis.charge` derives curve and slope as neurons without states; generated PyTorch code
evaluates them.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from lnm_codegen.analysis.charge import curve_neuron
from lnm_codegen.errors import ShapeError
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.nn import NeuronLayer
from lnm_codegen.nn.eager import eager_module
from lnm_codegen.nn.parameters import broadcastable, finest_axes


def charge_curve(layer: NeuronLayer, z: Tensor) -> Tensor:
    """Return the charged potential one time step after `z`, without input.

    Args:
        layer: Its potential is the state `v`, or else the first; other states keep their initial
            values.
        z: Potentials (P,), before the step, of floating point.

    Returns:
        (P, R), where R is the number of parameter sets: 1, or the number of channels or neurons.
        It is differentiable in the parameters.

    Raises:
        ModelError: A parameter is lazy, and has no values yet.
        ShapeError: z is something else.
        UnsupportedError: A neuron without a state.
    """
    if not (isinstance(z, Tensor) and z.dim() == 1 and z.is_floating_point()):
        is_tensor = isinstance(z, Tensor)
        found = f"{tuple(z.shape)} of {z.dtype}" if is_tensor else f"a {type(z).__name__}"
        raise ShapeError("charge_curve", f"z is {found}", "a tensor (P,) of floating point")
    (curve,) = evaluated(layer, curve_neuron(layer.neuron), z.dtype)(z.unsqueeze(1), 1)
    return curve


def evaluated(
    layer: NeuronLayer, function: Neuron, dtype: torch.dtype
) -> Callable[[Tensor, int], tuple[Tensor, ...]]:
    """Return a function of potentials, with the layer's present parameters.

    Args:
        layer: The layer of the parameters.
        function: A neuron without states, whose one input is the potential.
        dtype: Type of the potentials.

    Returns:
        Potentials (P, 1) or (P, R), and a count -> that many first outputs, (P, R) each.
    """
    module, axes = eager_module(function), finest_axes(layer) or (1,)
    params = {
        p.name: broadcastable(p, getattr(layer, p.name).to(dtype), len(axes))
        for p in function.params
    }
    prepared = module.prepare(**params)

    def outputs(z: Tensor, count: int) -> tuple[Tensor, ...]:
        shape = (z.shape[0], *axes)
        at = z.expand(-1, math.prod(axes)).reshape(shape)
        found = module.step(at, *prepared)[:count]
        numbers = (torch.as_tensor(out, dtype=dtype, device=z.device) for out in found)
        return tuple(out.expand(shape).flatten(1) for out in numbers)

    return outputs


def learned_text(layer: NeuronLayer) -> str:
    """Return the learned parameters as a title: `theta = (0.01, 0.48, -0.07)`.

    Per channel or neuron it has mean and standard deviation.
    """
    parts = []
    for param in layer.neuron.params:
        if not param.learnable:
            continue
        value = getattr(layer, param.name).detach()
        flat = value.reshape(-1, param.size or 1)
        numbers = [f"{m:.3g}" for m in flat.mean(0).tolist()]
        if len(flat) > 1:
            spread = flat.std(0).tolist()
            numbers = [f"{m} ± {s:.2g}" for m, s in zip(numbers, spread, strict=True)]
        text = ", ".join(numbers)
        parts.append(f"{param.name} = ({text})" if param.size else f"{param.name} = {text}")
    return ", ".join(parts) or "nothing to learn"
