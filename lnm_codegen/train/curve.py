"""What a neuron layer does to its potential: z -> h(v[t-1] = z, x = 0), of any family.

For an LNM of form A the curve is f_theta itself, for a LIF neuron the line (1 - 1/tau)*z. It is
read off the generated PyTorch step, so that it is never written down a second time, and can be
differentiated in the parameters.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.func import functional_call

from lnm_codegen.errors import UnsupportedError
from lnm_codegen.nn import NeuronLayer

LOWEST = -2.0
"""Where a curve begins if the neuron has no clamp of its own."""


def charge_curve(layer: NeuronLayer, z: Tensor) -> Tensor:
    """Return the charged potential one step after `z`, without input.

    Args:
        layer: Its first state is the potential; the others are at their initial values.
        z: Potentials (P,), before the step.

    Returns:
        (P, R): R is 1 where the layer's parameters are shared by the whole layer, else the number
        of channels or neurons.

    Raises:
        UnsupportedError: A neuron without a state.
    """
    neuron = layer.neuron
    if not neuron.states:
        raise UnsupportedError(f"{neuron.name}: no state, so there is no curve to draw.")
    rows: tuple[int, ...] = (1,)
    for decl in neuron.params:
        value: Tensor = getattr(layer, decl.name)
        held = tuple(value.shape if decl.size is None else value.shape[:-1])
        rows = held if decl.per == "neuron" or (decl.per == "channel" and rows == (1,)) else rows
    v = neuron.states[0].name
    probe = NeuronLayer(neuron, channels=rows[0], shape=rows, backend="torch", record=(v,))
    x_seq = torch.zeros(1, len(z), *rows, dtype=z.dtype)
    start = z.reshape(-1, *(1 for _ in rows)).expand(x_seq.shape[1:])
    values = {**dict(layer.named_parameters()), **dict(layer.named_buffers())}
    _, recorded = functional_call(probe, values, (x_seq,), {"state": {v: start}})
    charged: Tensor = recorded[v]
    return charged[0].flatten(1)


def slope_penalty(layer: NeuronLayer, low: float = LOWEST, high: float = 1.0) -> Tensor:
    """Return relu(max|f'| - 1.05)**2, averaged over the layer's rows.

    A slope beyond 1 makes temporal gradients grow at each step. f' is taken as the slopes of 48
    chords of `charge_curve` over [low, high], which sees any family and form alike.
    """
    z = torch.linspace(low, high, 49)
    slopes = charge_curve(layer, z).diff(dim=0) / z.diff().unsqueeze(1)
    return torch.relu(slopes.abs().amax(0) - 1.05).square().mean()


def learned_text(layer: NeuronLayer) -> str:
    """Return what the layer learned, as a title: `theta = (0.01, 0.48, -0.07)`.

    Per channel or neuron it is the mean over them and the deviation.
    """
    parts = []
    for decl in layer.neuron.params:
        if not decl.learnable:
            continue
        value = getattr(layer, decl.name).detach()
        flat = value.reshape(-1, decl.size or 1)
        numbers = [f"{m:.3g}" for m in flat.mean(0).tolist()]
        if len(flat) > 1:
            spread = flat.std(0).tolist()
            numbers = [f"{m} ± {s:.2g}" for m, s in zip(numbers, spread, strict=True)]
        text = ", ".join(numbers)
        parts.append(f"{decl.name} = ({text})" if decl.size else f"{decl.name} = {text}")
    return ", ".join(parts) or "nothing to learn"
