"""Fine-tuning of a network in integers: a straight-through gradient through every rounding.

The forward has the integers of the network: rounded inputs, weights and biases, and neurons in
fixed point (`NeuronLayer(arithmetic=...)`). The backward passes each rounding unchanged; a clipped
weight has no gradient. Weights and biases are trained; scales, formats and the parameters of the
neurons stay.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from lnm_codegen.deploy.integers.convert import NetworkFormats, RealNetwork, integer_network
from lnm_codegen.deploy.integers.real import RealNeurons, RealWeights, weight_scales
from lnm_codegen.deploy.network import fixed_layer
from lnm_codegen.ir.network.nodes import (
    AddStage,
    BranchStage,
    IntegerNetwork,
    PoolStage,
    ValueSpan,
    WeightStage,
    operands,
    sources_of,
)
from lnm_codegen.ir.network.verify import require_network
from lnm_codegen.ir.types import Bits
from lnm_codegen.nn.chain import IGNORED, REDUCTIONS


class RoundedWeights(nn.Module):
    """Weights and biases of a stage, rounded in the forward: (N, *) -> (N, outputs, *).

    The inputs of a stage with a delay end with the spikes of the next neurons.
    """

    scale: Tensor
    unit: Tensor

    def __init__(self, real: RealWeights, stage: WeightStage, inputs: ValueSpan) -> None:
        super().__init__()
        self.stage, self.inputs = stage, inputs
        scale = torch.tensor(weight_scales(stage, inputs), dtype=torch.float64)
        self.register_buffer("scale", scale)
        self.register_buffer("unit", scale * 2.0**-inputs.frac)
        self.weight = nn.Parameter(torch.tensor(real.weight, dtype=torch.float32))
        self.bias = nn.Parameter(torch.tensor(real.bias, dtype=torch.float32))

    def integers(self) -> tuple[Tensor, Tensor]:
        """Return weights and biases in float64, before rounding, in units of their integers."""
        column = self.scale.reshape(-1, *(1,) * (self.weight.dim() - 1))
        return self.weight.double() / column, self.bias.double() / self.unit

    def forward(self, x: Tensor) -> Tensor:
        """Run the layer in float32, on values that the integers encode."""
        limit, (weight, bias) = 1 << (self.stage.bits - 1), self.integers()
        column = self.scale.reshape(-1, *(1,) * (weight.dim() - 1))
        weight = (_rounded(weight.clamp(-limit, limit - 1)) * column).float()
        bias = (_rounded(bias) * self.unit).float()
        if self.stage.kind == "linear":
            return functional.linear(x, weight, bias)
        return functional.conv2d(x, weight, bias, self.stage.stride, self.stage.padding)

    def tuned(self) -> WeightStage:
        """Return the stage with the present weights and biases."""
        limit = 1 << (self.stage.bits - 1)
        weight, bias = (torch.floor(v.detach() + 0.5) for v in self.integers())
        return replace(
            self.stage,
            weight=weight.clamp(-limit, limit - 1).long().numpy(),
            bias=bias.long().numpy(),
        ).fitted(self.inputs)


class _Sums(nn.Module):
    def __init__(self, stage: PoolStage) -> None:
        super().__init__()
        self.stage = stage

    def forward(self, x: Tensor) -> Tensor:
        size = self.stage.size
        if self.stage.kind == "max":
            return functional.max_pool2d(x, size)
        return functional.avg_pool2d(x, size, divisor_override=1)


class _Added(nn.Module):
    """A sum of two outputs in its format."""

    def __init__(self, stage: AddStage) -> None:
        super().__init__()
        self.stage = stage

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return a + b if self.stage.output is None else _in_format(a + b, self.stage.output)


class IntegerTwin(nn.Module):
    """A network in integers as a PyTorch module with a straight-through gradient.

    Shape:
        The samples of the network in float -> scores (N, classes), or of each step (T, N, classes),
        in float.
    """

    def __init__(self, real: RealNetwork, formats: NetworkFormats) -> None:
        super().__init__()
        self.integers = integer_network(real, formats)
        self.input = formats.input
        self.stages = nn.ModuleList()
        values = self.integers.values()
        for k, (stage, made) in enumerate(zip(real.stages, self.integers.stages, strict=True)):
            module: nn.Module
            inputs = operands(k, made, values)[0]
            if isinstance(stage, RealWeights):
                assert isinstance(made, WeightStage)
                module = RoundedWeights(stage, made, inputs)
            elif isinstance(stage, RealNeurons):
                module = fixed_layer(stage.layer, formats.neurons[stage.name])
                module.requires_grad_(False)
            elif isinstance(made, AddStage):
                module = _Added(made)
            elif isinstance(stage, PoolStage):
                module = _Sums(stage)
            else:
                module = nn.Identity() if isinstance(stage, BranchStage) else nn.Flatten()
            self.stages.append(module)
        additions = (n for n, stage in enumerate(real.stages) if isinstance(stage, AddStage))
        self.added = {k for n in additions for k in sources_of(n, real.stages[n])}

    def forward(self, x: Tensor) -> Tensor:
        """Return the scores of a batch."""
        network = self.integers
        lead = 1 if network.repeated else 2
        x = x.reshape(*x.shape[:lead], *network.input_shape)
        if self.input is not None:
            places = 2.0**self.input.frac
            x = torch.floor(x * places + 0.5).clamp(self.input.low, self.input.high) / places
        x = x.expand(network.time_steps, *x.shape) if network.repeated else x
        found = [x]
        for k, module in enumerate(self.stages):
            inputs = operands(k, network.stages[k], found)
            x = inputs[0]
            if isinstance(module, RoundedWeights) and module.stage.delay:
                x = _fed(module, self.stages[k + 1], x)
            elif k and getattr(network.stages[k - 1], "delay", 0):
                pass  # these neurons ran with the weights before
            elif isinstance(module, RoundedWeights | _Sums | nn.Flatten):
                x = module(x.flatten(0, 1)).unflatten(0, x.shape[:2])
            else:
                x = module(*inputs)
            if isinstance(module, RoundedWeights) and k in self.added:
                x = _in_format(x, module.stage.output)
            found.append(x)
        return REDUCTIONS[network.over](x)

    def tuned(self) -> IntegerNetwork:
        """Return the network with the present weights."""
        pairs = zip(self.stages, self.integers.stages, strict=True)
        stages = tuple(m.tuned() if isinstance(m, RoundedWeights) else s for m, s in pairs)
        return require_network(replace(self.integers, stages=stages))


def _fed(weights: RoundedWeights, neurons: nn.Module, x_seq: Tensor) -> Tensor:
    """Return the spikes (T, N, H) of a recurrent layer."""
    stage, found, state = weights.stage, list[Tensor](), None
    for t, x in enumerate(x_seq):
        none = x.new_zeros(len(x), stage.channels)
        before = found[t - stage.delay] if t >= stage.delay else none
        current = weights(torch.cat([x, before], 1))
        spikes, state = neurons(current[None], state=state, return_state=True)
        found.append(spikes[0])
    return torch.stack(found)


def _rounded(x: Tensor) -> Tensor:
    """Return the nearest integers, ties up, with the gradient of the identity."""
    return x + (torch.floor(x + 0.5) - x).detach()


def _in_format(x: Tensor, bits: Bits) -> Tensor:
    """Return the nearest values of a format, with the gradient of the identity within its range."""
    places = 2.0**bits.frac
    return _rounded(x * places).clamp(bits.low, bits.high) / places


def shuffling(seed: int) -> torch.Generator:
    """Return the source of the shuffling of training samples."""
    return torch.Generator().manual_seed(seed)


@dataclass(frozen=True, slots=True)
class Tuned:
    """The best network of a fine-tuning."""

    network: IntegerNetwork
    epoch: int  # after which it was kept; 0 if no epoch is better than the network before


def fine_tune(
    twin: IntegerTwin,
    epochs: int,
    batches: Callable[[], Iterable[tuple[Tensor, Tensor]]],
    score: Callable[[IntegerNetwork], int],
    rate: float = 1e-3,
    on_epoch: Callable[[int, int], Any] | None = None,
) -> Tuned:
    """Train weights and biases with Adam and the cross entropy, and return the best network.

    Args:
        twin: Changed in place.
        epochs: Passes over the training samples.
        batches: Return the batches of an epoch: inputs and labels (N,), or (T, N).
        score: Correct predictions of a network on held-out samples; the first best one is kept,
            that before training included.
        rate: Learning rate, which falls to 0 as a cosine.
        on_epoch: Receives the number of each epoch and its score.
    """
    trained = [p for p in twin.parameters() if p.requires_grad]
    optimiser = torch.optim.Adam(trained, rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs)
    best = twin.tuned()
    most, kept = score(best), 0
    for epoch in range(1, epochs + 1):
        for x, labels in batches():
            optimiser.zero_grad()
            loss = functional.cross_entropy(
                twin(x).flatten(0, -2), labels.flatten(), ignore_index=IGNORED
            )
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        schedule.step()
        network = twin.tuned()
        found = score(network)
        if on_epoch is not None:
            on_epoch(epoch, found)
        if found > most:
            best, most, kept = network, found, epoch
    return Tuned(best, kept)
