"""Learned parameters that return to the bounds of the clamps that read them.

A value outside counts as the bound, and its gradient is 0, so that no optimiser moves it back. At
the bound itself it has a gradient, and the neuron computes the same.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from lnm_codegen.analysis.charge import parameter_bounds
from lnm_codegen.nn import NeuronLayer
from lnm_codegen.validation import require_type


def clamp_parameters(module: nn.Module) -> None:
    """Move learned parameters of neuron layers to the bounds of the clamps that read them.

        a <- min(max(a, low), high)     for lnm.clip(a, low, high), lnm.max(a, low) and others

    Each element of a vector parameter has its own bounds.

    Call it after each step of the optimiser; `lnm train` does. No output changes. These stay: a
    parameter that the neuron also reads without a clamp, one without `requires_grad`, and one that
    has no gradient at its bound, as in lnm.max(low, a).

    Args:
        module: A layer, or a network; changed in place.

    Raises:
        ModelError: `module` is no module.
    """
    require_type("clamp_parameters", "module", module, nn.Module, "a torch.nn.Module")
    for layer in module.modules():
        if not isinstance(layer, NeuronLayer):
            continue
        bounds = parameter_bounds(layer.neuron)
        for param in layer.neuron.params:
            value = layer._parameters.get(param.name)
            if value is None or not value.requires_grad or is_lazy(value):
                continue
            for k, name in enumerate(param.element_names):
                if name in bounds:
                    with torch.no_grad():
                        (value if param.size is None else value[..., k]).clamp_(*bounds[name])
