"""Dense layers and the readout of networks for sequences."""

from __future__ import annotations

from torch import Tensor, nn

from lnm_codegen.language.neuron import Neuron
from lnm_codegen.nn import NeuronLayer
from lnm_codegen.nn.chain import REDUCTIONS
from lnm_codegen.nn.fusion.pair import Pair
from lnm_codegen.options import BackendName
from lnm_codegen.train.models.base import over_steps

NORMS = {"none": nn.Identity, "batch": nn.BatchNorm1d, "layer": nn.LayerNorm}


class Dense(nn.Module):
    """Linear, norm, neuron: (T, N, inputs) -> (T, N, outputs).

    Attributes:
        batch_norm: The norm is "batch", in this module or in a fused neuron.
    """

    def __init__(self, linear: nn.Linear, norm: str, neuron: Neuron, backend: BackendName) -> None:
        super().__init__()
        width = linear.out_features
        self.linear, self.norm, self.batch_norm = linear, NORMS[norm](width), norm == "batch"
        self.neuron = NeuronLayer(neuron, channels=width, shape=(width,), backend=backend)

    def current(self, x_seq: Tensor) -> Tensor:
        """Return the currents of the neurons, without feedback.

        The batch statistics of one repeated sample need its T equal values: one value has none.
        """
        if self.training and x_seq.shape[1] == 1 and isinstance(self.norm, nn.BatchNorm1d):
            x_seq = x_seq.contiguous()
        return over_steps(lambda x: self.norm(self.linear(x)), x_seq)

    def norm_pairs(self) -> tuple[Pair, ...]:
        """Return no pair: a network may add feedback to the currents."""
        return ()

    def forward(self, x_seq: Tensor) -> Tensor:
        """Run the layer."""
        spikes: Tensor = self.neuron(self.current(x_seq))
        return spikes


class Readout(nn.Module):
    """Readout of spikes (T, N, F): logits (N, classes), or (T, N, classes) per step.

    Args:
        linear: From F to the classes.
        integrator: Leaky integrators of its outputs, or None.
        over: Reduction over time: "mean", "last" or "max".
        per_step: Return the logits of each step.
    """

    def __init__(
        self, linear: nn.Linear, integrator: NeuronLayer | None, over: str, per_step: bool
    ) -> None:
        super().__init__()
        self.over, self.per_step = over, per_step
        self.linear, self.neuron = linear, integrator

    def forward(self, spikes: Tensor) -> Tensor:
        """Return the logits."""
        logits: Tensor
        if self.neuron is not None or self.per_step or self.over == "max":
            logits = self.linear(spikes)
            logits = logits if self.neuron is None else self.neuron(logits)
            return logits if self.per_step else REDUCTIONS[self.over](logits)
        logits = self.linear(REDUCTIONS[self.over](spikes))  # linear, so the mean may come first
        return logits


def linear_of(inputs: int, outputs: int, gain: float | None) -> nn.Linear:
    """Return a linear layer; with a gain, weights are uniform with deviation gain/sqrt(inputs)."""
    linear = nn.Linear(inputs, outputs)
    if gain is not None:
        bound = gain * (3 / inputs) ** 0.5
        nn.init.uniform_(linear.weight, -bound, bound)
    return linear
