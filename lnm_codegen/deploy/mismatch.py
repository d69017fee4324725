"""How a network in fixed point differs from itself in float: spikes layer by layer, accuracy.

Three comparisons of outputs, each over all neurons, steps and images:

one step        both from the same state and the same input, those of the fixed-point layer: the
                float64 step with the parameters as they are, and the fixed-point step
free running    both from the initial states over the same input sequence, that of the float
                network; an output that differs once makes later states differ
in the network  each layer of the whole fixed-point network with that of the float network, whose
                inputs differ too
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor, nn

from lnm_codegen.compiler.arguments import start_of
from lnm_codegen.compiler.fixed import integers
from lnm_codegen.deploy.network import in_fixed_point, like, neuron_layers, rounding, see
from lnm_codegen.errors import ModelError
from lnm_codegen.ir.fixed.spec import FixedSpec, spec_of
from lnm_codegen.ir.types import Bits, Fixed
from lnm_codegen.nn import NeuronLayer


@dataclass(frozen=True, slots=True)
class LayerCounts:
    """Counts of one layer over images, neurons and steps; they add.

    Attributes:
        steps: Of single neurons.
        one_step: Outputs that differ from the same state and input.
        free_running: Outputs that differ from the same input sequence.
        in_network: Outputs that differ between the whole networks.
        fired: The sum of the outputs in float.
        fired_fixed: The sum of the outputs in the fixed-point network.
        saturated: Inputs that the format of x does not hold.
    """

    steps: int = 0
    one_step: int = 0
    free_running: int = 0
    in_network: int = 0
    fired: float = 0
    fired_fixed: float = 0
    saturated: int = 0

    def __add__(self, other: LayerCounts) -> LayerCounts:
        return LayerCounts(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def share(self, word: str) -> float:
        """Return a count per step."""
        return float(getattr(self, word)) / self.steps if self.steps else 0.0


@dataclass(frozen=True)
class Agreement:
    """A network in float and in fixed point on the same images.

    Attributes:
        images: How many.
        right: Of these, how many the float network names right.
        right_fixed: How many the fixed-point network does.
        layers: Path of a neuron layer -> its counts.
    """

    images: int
    right: int
    right_fixed: int
    layers: dict[str, LayerCounts]

    @property
    def accuracy(self) -> float:
        """The share that is right in float."""
        return self.right / self.images

    @property
    def accuracy_fixed(self) -> float:
        """The share that is right in fixed point."""
        return self.right_fixed / self.images

    @property
    def one_step_agreement(self) -> float:
        """The share of all steps whose output is the same from the same state."""
        total = sum(self.layers.values(), LayerCounts())
        return 1.0 - total.share("one_step")

    @property
    def free_running_agreement(self) -> float:
        """The share of all steps whose output is the same from the same input sequence."""
        total = sum(self.layers.values(), LayerCounts())
        return 1.0 - total.share("free_running")


def compare(
    network: nn.Module,
    specs: Mapping[str, FixedSpec],
    batches: Iterable[tuple[Tensor, Tensor]],
) -> Agreement:
    """Run a network in float and in fixed point, and count where they differ.

    Args:
        network: In eval mode; images (N, C, H, W) -> logits (N, classes).
        specs: Path of each neuron layer -> its formats.
        batches: Images and labels.

    Raises:
        ModelError: A parameter that does not fit its format; no images.
        UnsupportedError: A neuron without a fixed-point form.
    """
    rounded = in_fixed_point(network, specs)
    pairs = {name: _Pair(layer, specs[name]) for name, layer in neuron_layers(network).items()}
    counts = dict.fromkeys(pairs, LayerCounts())
    images = right = right_fixed = 0
    for batch, labels in batches:
        logits, seen = see(network, batch)
        logits_fixed, seen_fixed = see(rounded, batch)
        images += len(labels)
        right += int((logits.argmax(1) == labels).sum())
        right_fixed += int((logits_fixed.argmax(1) == labels).sum())
        for name, pair in pairs.items():
            out, out_fixed = seen[name].out, seen_fixed[name].out
            counts[name] += pair.counted(seen[name].x_seq) + LayerCounts(
                in_network=_differing(out, out_fixed),
                fired=float(out.double().sum()),
                fired_fixed=float(out_fixed.double().sum()),
            )
    if not images:
        raise ModelError("compare", "no images", remedy="Give one or more.")
    return Agreement(images, right, right_fixed, counts)


def on_grid(values: Tensor, bits: Bits) -> Tensor:
    """Return numbers rounded to a format, the nearest, ties up, saturated; in float64."""
    return torch.as_tensor(integers(values.cpu().numpy(), bits) / 2.0**bits.frac)


def _differing(a: Tensor, b: Tensor) -> int:
    """Return how many outputs differ; those that are no spikes, by half or more."""
    return int(((a.double() - b.double()).abs() >= 0.5).sum())


class _Pair:
    """A layer in float64 and in fixed point."""

    def __init__(self, layer: NeuronLayer, spec: FixedSpec) -> None:
        neuron = layer.neuron
        self._real = like(layer, backend="torch", dtype=torch.float64)
        self._fixed = rounding(layer, spec, dtype=torch.float64)
        self._input = spec[neuron.inputs[0].name].bits
        self._start = {
            name: on_grid(torch.as_tensor(start), spec[name].bits)
            for name, start in start_of(neuron, None, (), np.dtype(np.float64)).items()
        }

    def counted(self, x_seq: Tensor) -> LayerCounts:
        """Return the counts of a batch, but those of the whole networks."""
        x = x_seq.double()
        low, high = (float(end) for end in self._input.interval)
        half = 2.0 ** -(self._input.frac + 1)
        with torch.no_grad():
            steps = list(self._steps(on_grid(x, self._input)))
            outs = torch.cat([out for _, out in steps])
            one_step = _differing(torch.cat([expected for expected, _ in steps]), outs)
            free = _differing(self._real(x), outs)
        outside = int(((x < low - half) | (x >= high + half)).sum())
        return LayerCounts(steps=x.numel(), one_step=one_step, free_running=free, saturated=outside)

    def _steps(self, x_seq: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the outputs of each step from the states of the fixed-point layer."""
        state = {n: v.expand(x_seq.shape[1:]) for n, v in self._start.items()}
        for t in range(len(x_seq)):
            x = x_seq[t : t + 1]
            expected = self._real(x, state=state)
            out, state = self._fixed(x, state=state, return_state=True)
            yield expected, out


def specs_for(network: nn.Module, spec: Fixed | FixedSpec) -> dict[str, FixedSpec]:
    """Return one format for every neuron layer, by their paths."""
    return dict.fromkeys(neuron_layers(network), spec_of(spec, "network"))
