"""What a neuron layer does to its potential: z -> h(v[t-1] = z, x = 0), of any family.

For an LNM of form A the curve is f_theta itself, for a LIF neuron the line (1 - 1/tau)*z. Curve
and slope are derived from the neuron's charge (`analysis.charge`) and evaluated by the PyTorch
code that the compiler writes for them.
"""

from __future__ import annotations

from torch import Tensor

from lnm_codegen.analysis.charge import curve_neuron
from lnm_codegen.nn import NeuronLayer
from lnm_codegen.train.stability.penalty import slope_penalty as slope_penalty
from lnm_codegen.train.stability.probe import LOWEST as LOWEST
from lnm_codegen.train.stability.probe import probed


def charge_curve(layer: NeuronLayer, z: Tensor) -> Tensor:
    """Return the charged potential one step after `z`, without input.

    Args:
        layer: The potential is its state `v`, or else the first; the others are at their initial
            values.
        z: Potentials (P,), before the step.

    Returns:
        (P, R): R is 1 where the layer's parameters are shared by the whole layer, else the number
        of channels or neurons. It can be differentiated in the parameters.

    Raises:
        UnsupportedError: A neuron without a state.
    """
    (curve,) = probed(layer, curve_neuron(layer.neuron), z.dtype)(z.unsqueeze(1), 1)
    return curve


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
