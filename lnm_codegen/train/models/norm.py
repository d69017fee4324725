"""Threshold-dependent batch normalisation, and the convolution before it.

tdBN (Zheng et al. 2021, arXiv 2011.05280) normalises over T, N, H and W and starts at a scale of
alpha * v_threshold: alpha is 1, or 1/sqrt(2) where two normalised branches are added. With time as
a batch axis that is batch normalisation with another first value of its weight.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from lnm_codegen.language.neuron import Neuron
from lnm_codegen.nn import NeuronLayer
from lnm_codegen.train.models.base import over_steps

HALF = 0.5**0.5
"""alpha where two branches are added."""

Make = Callable[[tuple[int, ...]], NeuronLayer]
"""Gives the neurons of a shape (C, *)."""


def maker(neuron: Neuron, backend: str) -> Make:
    """Return what makes the neuron layers of a network."""
    return partial(_made, neuron, backend)


def _made(neuron: Neuron, backend: str, shape: tuple[int, ...]) -> NeuronLayer:
    return NeuronLayer(neuron, channels=shape[0], shape=shape, backend=backend)


def threshold_of(neuron: Neuron) -> float:
    """Return the potential at which a neuron at rest fires first, with its initial parameters.

    It is h - z after a step without input, z = h - v_threshold being what fires at 0 and h the
    first state that z reads; 1 for a neuron that never fires.
    """
    z = neuron.fire[0][1] if neuron.fire else None
    read = [s for s in neuron.states if z is not None and s in z.free_symbols]
    if not read:
        return 1.0
    probe = neuron.with_outputs(potential_probe=read[0], fire_probe=z)
    with torch.device("cpu"), torch.random.fork_rng(devices=[]), torch.no_grad():
        layer = NeuronLayer(probe, channels=1, shape=(1,), backend="torch")
        zero = torch.zeros(1, 1, 1)
        *_, potential, fire = layer(*(zero for _ in neuron.inputs))
    return float(potential - fire)


class ConvNorm(nn.Module):
    """Convolution without bias, then tdBN: (T, N, C, H, W) -> (T, N, C', H', W').

    Args:
        inputs: C.
        outputs: C'.
        kernel: Odd; the padding keeps the size where the stride is 1.
        stride: H' is H/stride, rounded up.
        scale: alpha * v_threshold.
    """

    def __init__(
        self, inputs: int, outputs: int, kernel: int = 3, *, stride: int = 1, scale: float = 1.0
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
        self.norm = nn.BatchNorm2d(outputs)
        nn.init.constant_(self.norm.weight, scale)

    def forward(self, x_seq: Tensor) -> Tensor:
        """Run both; one frame that is shown T times is computed once."""
        return over_steps(lambda x: self.norm(self.conv(x)), x_seq)
