"""Recurrent layers in graphs: a cycle of neurons and a linear node."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from lnm_codegen.errors import UnsupportedError
from lnm_codegen.nn.delay import Delay
from lnm_codegen.nn.exchange.graph import INPUT, OUTPUT, Parts
from lnm_codegen.nn.exchange.layers import StepDelay
from lnm_codegen.nn.feedback import without_blocks
from lnm_codegen.nn.layer import NeuronLayer
from lnm_codegen.nn.parameters import values_of
from lnm_codegen.nn.recurrent import RecurrentLayer


@torch.no_grad()
def parts_of(where: str, layer: RecurrentLayer) -> Parts:
    """Return a layer as modules: weight (W and b), neuron, delay and recurrent (U).

    An edge back has a delay of one step, so `delay` has the others. Without W, b is that of a
    weight 1.

    Raises:
        UnsupportedError: A delay is a fraction of a step.
    """
    neuron, size = layer.neuron, layer.size
    like: dict[str, Any] = {"device": layer.recurrent.device, "dtype": layer.recurrent.dtype}
    own = NeuronLayer(neuron, shape=(size,), backend=layer.backend, **like)
    for name, value in values_of(layer).items():
        getattr(own, name).copy_(value)
    u = without_blocks(layer._matrix(layer.recurrent))
    modules: dict[str, nn.Module] = {"neuron": own.eval()}
    modules["recurrent"] = _linear(torch.diag(u) if u.dim() == 1 else u, None)
    edges = [("neuron", OUTPUT), ("recurrent", "neuron")]
    w = torch.eye(size, **like) if layer.weight is None else layer.weight
    if layer.weight is None and layer.bias is None:
        edges.append((INPUT, "neuron"))
    else:
        modules = {"weight": _linear(w, layer.bias), **modules}
        edges += [(INPUT, "weight"), ("weight", "neuron")]
    steps = _steps(where, layer) - 1
    if bool(steps.any()):
        modules["delay"] = StepDelay(steps)
        edges += [("neuron", "delay"), ("delay", "recurrent")]
    else:
        edges.append(("neuron", "recurrent"))
    return Parts(modules, edges, dict.fromkeys(modules, (size,)))


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    outputs, inputs = weight.shape
    made = nn.Linear(inputs, outputs, bias=bias is not None)
    made.weight = nn.Parameter(weight.detach().clone())
    if bias is not None:
        made.bias = nn.Parameter(bias.detach().clone())
    return made


def _steps(where: str, layer: RecurrentLayer) -> Tensor:
    """Return the delay of each neuron, in whole steps."""
    if layer.delays is None:
        return torch.full((layer.size,), layer.delay)
    return whole_steps(where, layer.delays)


def whole_steps(where: str, delay: Delay) -> Tensor:
    """Return the delays of a module in whole steps, (C,).

    Raises:
        UnsupportedError: A delay is a fraction of a step.
    """
    found = delay.delay.detach().clamp(delay.least, delay.largest)
    if not torch.equal(found, found.round()) or delay.width != 1:
        problem = "its delays are fractions of a step"
        raise UnsupportedError(where, problem, "whole delays, and width 1", "Round them first.")
    return found.long()
