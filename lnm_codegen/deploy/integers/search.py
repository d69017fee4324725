"""Search of the widths of a network for a target in accuracy.

Widths are those of the input, of the weights of each layer, and of the numbers of each layer of
neurons. Integer bits follow from the values on training samples. A candidate is the whole network
in integers on held-out samples.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from lnm_codegen.deploy.integers.accuracy import IntegerAccuracy, count_float, count_integers
from lnm_codegen.deploy.integers.convert import (
    NetworkFormats,
    RealNetwork,
    input_format,
    integer_network,
    whole_bits,
)
from lnm_codegen.deploy.integers.weights import WeightFormat
from lnm_codegen.deploy.network import trace_layers
from lnm_codegen.errors import ModelError
from lnm_codegen.ir.types import Fixed, FixedSpec

Batches = Sequence[tuple[Tensor, Tensor]]
Widths = Mapping[str, int]
"""Layer, or "input" -> width."""

INPUT = "input"
WEIGHTS, NEURONS, INPUTS = (2, 16), (4, 24), (2, 16)
"""Smallest and largest widths."""


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
    """Search of small widths that lose at most some percentage points of accuracy.

    Args:
        real: The trained network.
        ranged: Training samples, for the integer bits.
        batches: Held-out samples with labels, for the accuracy.
        lost: Largest loss of accuracy, in percentage points.
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
        self._whole = {s.name: whole_bits(s, traces[s.name].x_seq) for s in real.neurons}
        self._ranged = ranged
        self._has_input = input_format(ranged, INPUTS[1]) is not None
        self._count = sum(len(labels) for _, labels in batches)
        self._correct = count_float(real.network, batches)
        self._tried: dict[tuple[int, ...], int] = {}

    def result(self) -> ChosenFormats:
        """Return the formats.

        One width for the weights of all layers is searched first, then one for all neurons, then
        one for the input. Then each layer loses bits while the target holds. Fixed bits of weights
        follow last.

        Raises:
            ModelError: The largest widths do not reach the target.
        """
        widths = {INPUT: INPUTS[1]}
        widths |= {s.name: WEIGHTS[1] for s in self._real.weights}
        widths |= {s.name: NEURONS[1] for s in self._real.neurons}
        if not self._meets(widths):
            found = self._accuracy(widths)
            problem = f"the largest widths lose {found.lost:.2f} points"
            remedy = "Allow more points with --lost, more bits, or fine-tune with --epochs."
            raise ModelError(self._real.name, problem, f"at most {self._lost:g}", remedy)
        groups: list[tuple[tuple[str, ...], tuple[int, int]]] = [
            (tuple(s.name for s in self._real.weights), WEIGHTS),
            (tuple(s.name for s in self._real.neurons), NEURONS),
            ((INPUT,) if self._has_input else (), INPUTS),
        ]
        groups = groups[1:] if self._is_fixed else groups
        for names, ends in groups:
            if names:
                widths = self._least_of_group(widths, names, ends)
        for names, (low, _) in groups:
            for name in names:
                while widths[name] > low:
                    fewer = {**widths, name: widths[name] - 1}
                    if not self._meets(fewer):
                        break
                    widths = fewer
        if self._is_fixed:
            widths |= {s.name: self._form.bits for s in self._real.weights}
            self._meets(widths)
        return ChosenFormats(self.formats(widths), self._accuracy(widths), len(self._tried))

    def formats(self, widths: Widths) -> NetworkFormats:
        """Return the formats of some widths; neurons have at least their integer bits and one."""
        form = self._form
        return NetworkFormats(
            input_format(self._ranged, widths[INPUT]) if self._has_input else None,
            {
                s.name: WeightFormat(widths[s.name], form.per, form.multiplier)
                for s in self._real.weights
            },
            {name: _spec(widths[name], whole) for name, whole in self._whole.items()},
        )

    def _least_of_group(
        self, widths: Mapping[str, int], names: tuple[str, ...], ends: tuple[int, int]
    ) -> dict[str, int]:
        """Return widths in which some layers share the least width that meets the target."""

        def shared(width: int) -> dict[str, int]:
            return {**widths, **dict.fromkeys(names, width)}

        width = _least(ends, lambda w: self._meets(shared(w)))
        return shared(width)

    def _accuracy(self, widths: Widths) -> IntegerAccuracy:
        return IntegerAccuracy(self._count, self._correct, self._tried[tuple(widths.values())])

    def _meets(self, widths: Widths) -> bool:
        key = tuple(widths.values())
        if key not in self._tried:
            self._tried[key] = self._correct_of(widths)
        return self._accuracy(widths).lost <= self._lost

    def _correct_of(self, widths: Widths) -> int:
        """Return the correct predictions; none, and less, if a number does not fit its format."""
        try:
            network = integer_network(self._real, self.formats(widths))
        except ModelError:
            return -self._count
        return count_integers(network, self._batches)[0]


def _spec(width: int, whole: int) -> FixedSpec:
    width = max(width, whole + 1)
    return FixedSpec(Fixed(width, width - whole))


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
