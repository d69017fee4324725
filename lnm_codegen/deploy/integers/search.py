"""Search of the widths of a network for a target in accuracy.

Widths are the bits of the input, the bits of the weights of each layer, and the integer and the
fraction bits of each layer of neurons. The most integer bits are those that hold every value on
training samples; with fewer, values saturate. A candidate is the whole network in integers on
held-out samples.

The target bounds the share of samples that are correct in float and wrong in integers. It bounds
the loss of accuracy too, and samples that are correct by chance do not hide a coarse format.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from lnm_codegen.deploy.integers.convert import (
    NetworkFormats,
    RealNetwork,
    input_format,
    integer_network,
    integer_samples,
    whole_bits,
)
from lnm_codegen.deploy.integers.real import WeightFormat
from lnm_codegen.deploy.network import trace_layers
from lnm_codegen.errors import InternalError, ModelError
from lnm_codegen.ir.interpret import Array
from lnm_codegen.ir.network.interpret import interpret_network
from lnm_codegen.ir.network.nodes import IntegerNetwork
from lnm_codegen.ir.types import Fixed, FixedSpec
from lnm_codegen.nn.chain import IGNORED, scores_over

Batches = Sequence[tuple[Tensor, Tensor]]
Widths = Mapping[str, int]
"""Layer of weights, "input", `whole` or `frac` of a layer of neurons -> bits."""

INPUT = "input"
WEIGHTS, INPUTS, FRACS, NEURON = (2, 16), (2, 16), (0, 14), 28
"""Smallest and largest bits; the largest width of neurons."""


def whole(name: str) -> str:
    """Return the word of the integer bits of a layer of neurons, which count the sign."""
    return f"{name}: integer bits"


def frac(name: str) -> str:
    """Return the word of the fraction bits of a layer of neurons."""
    return f"{name}: fraction bits"


@dataclass(frozen=True, eq=False)
class ChosenFormats:
    """Result of a search.

    Attributes:
        formats: The formats.
        accuracy: On the samples on which they were chosen.
        tried: Number of networks that ran.
    """

    formats: NetworkFormats
    accuracy: IntegerAccuracy
    tried: int


class WidthSearch:
    """Search of small widths that make at most some percent of the samples wrong.

    Args:
        real: The trained network.
        ranged: Training samples, for the integer bits.
        batches: Held-out samples with labels, for the accuracy.
        lost: Largest percentage of samples that are correct in float and wrong in integers.
        weights: Scale of the weights, and their bits where `fixed_bits`.
        fixed_bits: Give every layer the bits of `weights`, after the search of the other widths;
            the result may then miss the target.
    """

    def __init__(
        self,
        real: RealNetwork,
        ranged: Tensor,
        batches: Batches,
        lost: float,
        weights: WeightFormat | None = None,
        fixed_bits: bool = False,
    ) -> None:
        _, traces = trace_layers(real.network, ranged)
        self._real, self._batches, self._lost = real, batches, lost
        self._form, self._is_fixed = weights or WeightFormat(), fixed_bits
        self._weights = tuple(s.name for s in real.weights)
        self._whole = {
            s.name: whole_bits(s, traces[s.name].x_seq, NEURON, FRACS[1]) for s in real.neurons
        }
        self._ranged = ranged
        self._has_input = input_format(ranged, INPUTS[1]) is not None
        self._correct = is_correct_in_float(real.network, batches)
        self._tried: dict[tuple[int, ...], IntegerAccuracy | None] = {}

    def result(self) -> ChosenFormats:
        """Return the formats.

        The bits of all weights are searched first, then the integer and the fraction bits of all
        neurons, then those of the input. Then each layer loses bits while the target holds. Fixed
        bits of weights follow last.

        Raises:
            ModelError: The largest widths do not reach the target.
        """
        largest = [self._largest(most) for most in (NEURON, NEURON - FRACS[1])]
        widths = next((found for found in largest if self._meets(found)), None)
        if widths is None:
            found = self._accuracy(largest[0])
            problem = f"the largest widths lose {found.points_broken:.2f} points"
            remedy = "Allow more points with --lost."
            raise ModelError(self._real.name, problem, f"at most {self._lost:g}", remedy)
        groups = [] if self._is_fixed else [(self._weights, WEIGHTS[0])]
        groups.append((tuple(map(whole, self._whole)), 1))
        groups.append((tuple(map(frac, self._whole)), FRACS[0]))
        groups += [((INPUT,), INPUTS[0])] if self._has_input else []
        for names, low in groups:
            widths = self._capped(widths, names, low)
        for names, low in groups:
            for name in names:
                while widths[name] > low:
                    fewer = {**widths, name: widths[name] - 1}
                    if not self._meets(fewer):
                        break
                    widths = fewer
        if self._is_fixed:
            widths |= dict.fromkeys(self._weights, self._form.bits)
            self._meets(widths)
        return ChosenFormats(self.formats(widths), self._accuracy(widths), len(self._tried))

    def _largest(self, most: int) -> dict[str, int]:
        """Return the largest widths with at most some integer bits of the neurons.

        Few integer bits leave fraction bits where potentials diverge.
        """
        widths = {INPUT: INPUTS[1], **dict.fromkeys(self._weights, WEIGHTS[1])}
        for name, bits in self._whole.items():
            held = min(bits, most)
            widths |= {whole(name): held, frac(name): min(FRACS[1], NEURON - held)}
        return widths

    def formats(self, widths: Widths) -> NetworkFormats:
        """Return the formats of some widths."""
        form = self._form
        return NetworkFormats(
            input_format(self._ranged, widths[INPUT]) if self._has_input else None,
            {
                s.name: WeightFormat(widths[s.name], form.per, form.multiplier)
                for s in self._real.weights
            },
            {
                n: FixedSpec(Fixed(max(widths[whole(n)] + widths[frac(n)], 2), widths[frac(n)]))
                for n in self._whole
            },
        )

    def _capped(
        self, widths: Mapping[str, int], names: tuple[str, ...], low: int
    ) -> dict[str, int]:
        """Return widths with the least common limit of some of them that meets the target."""

        def capped(limit: int) -> dict[str, int]:
            return {**widths, **{name: min(widths[name], limit) for name in names}}

        most = max(widths[name] for name in names)
        return capped(_least((low, most), lambda limit: self._meets(capped(limit))))

    def _accuracy(self, widths: Widths) -> IntegerAccuracy:
        """Return the accuracy of widths that were tried, or raise why they fit no network."""
        found = self._tried[tuple(widths.values())]
        if found is None:
            integer_network(self._real, self.formats(widths))
            raise InternalError("quantize", "a network that was refused is accepted")
        return found

    def _meets(self, widths: Widths) -> bool:
        key = tuple(widths.values())
        if key not in self._tried:
            self._tried[key] = self._accuracy_of(widths)
        found = self._tried[key]
        return found is not None and found.points_broken <= self._lost

    def _accuracy_of(self, widths: Widths) -> IntegerAccuracy | None:
        """Return the accuracy of a candidate; None if a number does not fit its format."""
        try:
            network = integer_network(self._real, self.formats(widths))
        except ModelError:
            return None
        correct = is_correct_in_integers(network, self._batches)
        return compared(self._correct, correct, unit_of(network))


def _least(ends: tuple[int, int], meets: Callable[[int], bool]) -> int:
    """Return a width that meets a target while the next smaller one does not, by bisection.

    The largest one meets it.
    """
    low, high = ends
    while low < high:
        middle = (low + high) // 2
        if meets(middle):
            high = middle
        else:
            low = middle + 1
    return high


# Accuracy of a network in float and in integers on the same samples.


SampleBatches = Iterable[tuple[Tensor, Tensor]]
"""Samples and labels (N,), or (T, N) of each step, with `IGNORED` where there is none."""


@dataclass(frozen=True, slots=True)
class IntegerAccuracy:
    """Correct predictions of a network in float and in integers, of samples or of their steps."""

    samples: int
    correct: int
    correct_integers: int
    broken: int  # samples that are correct in float and wrong in integers
    unit: str = "samples"  # or "steps", where each has a label

    @property
    def accuracy(self) -> float:
        """Share of correct predictions in float."""
        return self.correct / self.samples

    @property
    def accuracy_integers(self) -> float:
        """Share of correct predictions in integers."""
        return self.correct_integers / self.samples

    @property
    def lost(self) -> float:
        """Percentage points that the integers lose; negative if they gain."""
        return 100 * (self.correct - self.correct_integers) / self.samples

    @property
    def points_broken(self) -> float:
        """Percentage of samples that are correct in float and wrong in integers; >= `lost`."""
        return 100 * self.broken / self.samples

    def most_broken(self, percent: float) -> int:
        """Return the most samples that may break for a target in percent."""
        return sum(100 * k / self.samples <= percent for k in range(1, self.samples + 1))

    def __str__(self) -> str:
        change = f"{abs(self.lost):.2f} points {'gained' if self.lost < 0 else 'lost'}"
        return (
            f"float {100 * self.accuracy:.2f} %, integers {100 * self.accuracy_integers:.2f} %,"
            f" {change} on {self.samples} {self.unit}"
        )


def is_correct_in_integers(network: IntegerNetwork, batches: SampleBatches) -> Array:
    """Return for each label, whether it is right in integers."""
    found = [
        _right(interpret_network(network, integer_samples(network, x.cpu().numpy())).labels, labels)
        for x, labels in batches
    ]
    return np.concatenate(found) if found else np.zeros(0, bool)


def is_correct_in_float(network: nn.Module, batches: SampleBatches) -> Array:
    """Return for each label whether it is right in float; with one a sample, of mean scores."""
    found = []
    with torch.no_grad():
        for x, labels in batches:
            scores = scores_over("step" if labels.dim() == 2 else "mean", network(x))
            found.append(_right(scores.argmax(-1).cpu().numpy(), labels))
    return np.concatenate(found) if found else np.zeros(0, bool)


def _right(predicted: Array, labels: Tensor) -> Array:
    """Return which labels are right: of each sample, or of each labelled step (T, N) of each."""
    expected = labels.cpu().numpy()
    kept = expected != IGNORED
    found: Array = (predicted == expected)[kept]
    return found


def compared(in_float: Array, in_integers: Array, unit: str = "samples") -> IntegerAccuracy:
    """Return the counts of two arrays of correct predictions of the same samples, or steps."""
    broken = int((in_float & ~in_integers).sum())
    return IntegerAccuracy(len(in_float), int(in_float.sum()), int(in_integers.sum()), broken, unit)


def unit_of(network: IntegerNetwork) -> str:
    """Return what has a label: "samples", or "steps"."""
    return "steps" if network.over == "step" else "samples"


def integer_accuracy(
    network: nn.Module, integers: IntegerNetwork, batches: SampleBatches
) -> IntegerAccuracy:
    """Return the accuracy of both on labelled samples.

    Raises:
        ModelError: No samples.
    """
    kept = list(batches)
    if not kept:
        raise ModelError("accuracy", "no samples", "one or more")
    correct = is_correct_in_float(network, kept), is_correct_in_integers(integers, kept)
    return compared(*correct, unit_of(integers))
