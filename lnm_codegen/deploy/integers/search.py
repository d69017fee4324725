"""Search of the widths of a network for a target in accuracy.

Widths are the bits of the input, the bits of the weights of each layer, and the integer and the
fraction bits of each layer of neurons. The most integer bits are those that hold every value on
training samples; with fewer, values saturate. A candidate is the whole network in integers on
held-out samples.

The target bounds the share of samples that are correct in float and wrong in integers. It bounds
the loss of accuracy too, and samples that are correct by chance do not hide a coarse format.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from lnm_codegen.deploy.integers.accuracy import (
    IntegerAccuracy,
    compared,
    is_correct_in_float,
    is_correct_in_integers,
)
from lnm_codegen.deploy.integers.convert import (
    NetworkFormats,
    RealNetwork,
    input_format,
    integer_network,
    whole_bits,
)
from lnm_codegen.deploy.integers.weights import WeightFormat
from lnm_codegen.deploy.network import trace_layers
from lnm_codegen.errors import InternalError, ModelError
from lnm_codegen.ir.types import Fixed, FixedSpec

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
            {name: _spec(widths[whole(name)], widths[frac(name)]) for name in self._whole},
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
        return compared(self._correct, is_correct_in_integers(network, self._batches))


def _spec(integer_bits: int, fraction_bits: int) -> FixedSpec:
    return FixedSpec(Fixed(max(integer_bits + fraction_bits, 2), fraction_bits))


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
