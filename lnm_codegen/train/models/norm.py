"""Threshold-dependent batch normalisation, with the convolution before and the neurons after it.

tdBN (Zheng et al. 2021, arXiv 2011.05280) normalises over T, N, H and W and starts at a scale of
alpha * v_threshold: alpha is 1, or 1/sqrt(2) where two normalised branches are added. With time as
a batch axis, it is batch normalisation with another initial scale.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lnm_codegen.language.binding import read_by
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.nn import NeuronLayer
from lnm_codegen.nn.fusion.pair import Pair
from lnm_codegen.options import BackendName
from lnm_codegen.train.models.base import over_steps


def threshold_of(neuron: Neuron) -> float:
    """Return the lowest potential at which a neuron at rest fires, with its initial parameters.

    It is h - z after a step without input. h is the first state that z = h - v_threshold reads, and
    the neuron fires at z >= 0. It is 1 for a neuron that never fires.
    """
    z = neuron.fire[0][1] if neuron.fire else None
    read = [s for s in neuron.states if z is not None and s in read_by(z, dict(neuron.bindings))]
    if z is None or not read:
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
        kernel: Odd; the padding keeps the size if the stride is 1.
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

    def norm_pairs(self) -> tuple[Pair, ...]:
        """Return no pair: the neurons are in another module."""
        return ()

    def forward(self, x_seq: Tensor) -> Tensor:
        """Run both; a repeated image is computed once."""
        return over_steps(lambda x: self.norm(self.conv(x)), x_seq)


class Builder:
    """Constructor of the layers of a network around one neuron."""

    def __init__(self, neuron: Neuron, backend: BackendName) -> None:
        self._neuron, self._backend = neuron, backend
        self.threshold = threshold_of(neuron)

    def neurons(self, shape: tuple[int, ...]) -> NeuronLayer:
        """Return a neuron layer of shape (C, *)."""
        return NeuronLayer(self._neuron, channels=shape[0], shape=shape, backend=self._backend)

    def conv(
        self, inputs: int, outputs: int, kernel: int = 3, *, stride: int = 1, alpha: float = 1.0
    ) -> ConvNorm:
        """Return a `ConvNorm` whose scale is alpha * v_threshold."""
        return ConvNorm(inputs, outputs, kernel, stride=stride, scale=alpha * self.threshold)
