"""Certificate of a trained layer: intervals that its states never leave, for each parameter set."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from typing import Any

from lnm_codegen.analysis.charge import potential_of
from lnm_codegen.analysis.invariant import Escape, Invariant, Undecided, invariant
from lnm_codegen.nn import NeuronLayer
from lnm_codegen.nn.parameters import parameter_sets
from lnm_codegen.validation import require_number


@dataclass(frozen=True)
class Certificate:
    """Bounds of the states after the reset for |x| <= x_max; proven in rationals (`analysis`).

    Attributes:
        neuron: Name of the neuron.
        x_max: X.
        rows: Number of parameter sets of the layer: 1, or its channels or neurons.
        certified: Number of sets with an interval that the states never leave.
        states: State -> (low, high), the union of the intervals of all certified sets, rounded
            outwards to floats.
        worst: Index of the set with the widest interval of the potential, or of the first without
            an interval.
        reason: Why the set `worst` has no interval; empty if every set is certified.
        inputs: Input -> a value per time step; the sequence drives a state out. Empty if none was
            found.
    """

    neuron: str
    x_max: float
    rows: int
    certified: int
    states: dict[str, tuple[float, float]]
    worst: int
    reason: str = ""
    inputs: dict[str, tuple[float, ...]] = field(default_factory=dict)

    @property
    def holds(self) -> bool:
        """True if every parameter set is certified."""
        return self.certified == self.rows

    def __str__(self) -> str:
        intervals = ", ".join(
            f"{n} in [{low:.6g}, {high:.6g}]" for n, (low, high) in self.states.items()
        )
        whole = f"{self.neuron}: for |x| <= {self.x_max:g} "
        if self.holds:
            widest = f" (set {self.worst} is the widest)" if self.rows > 1 else ""
            return f"{whole}the states stay: {intervals}{widest}"
        count = f"{self.certified} of {self.rows} parameter sets stay; set {self.worst}: "
        return f"{whole}{count if self.rows > 1 else ''}{self.reason}"

    def as_json(self) -> dict[str, Any]:
        """Return the fields and the text, for JSON."""
        return {**asdict(self), "text": str(self)}


def certificate(layer: NeuronLayer, x_max: float, *, bound: float = 100.0) -> Certificate:
    """Return the certificate of a layer of any family for |x| <= X.

    Args:
        layer: A layer whose initial states are numbers.
        x_max: X >= 0, of every input.
        bound: An input sequence counts as an escape if a state passes this bound.

    Raises:
        ModelError: A parameter is lazy or not finite, or x_max is not a number >= 0.
        UnsupportedError: A function that is not monotone, or a random initial state.
    """
    require_number("certificate", "x_max", x_max, low=0)
    neuron = layer.neuron.with_per({p.name: "layer" for p in layer.neuron.params})
    given = {s.name: (-x_max, x_max) for s in neuron.inputs}
    found: dict[Any, Invariant | Escape | Undecided] = {}
    results = []
    sets = parameter_sets(layer)
    for values in map(sets.of, range(len(sets))):
        key = tuple(sorted((n, tuple(v) if isinstance(v, list) else v) for n, v in values.items()))
        if key not in found:
            found[key] = invariant(neuron, given, values=values, bound=bound)
        results.append(found[key])
    return _certificate_of(layer, float(x_max), results)


def _certificate_of(
    layer: NeuronLayer, x_max: float, results: list[Invariant | Escape | Undecided]
) -> Certificate:
    bounded = [(k, r) for k, r in enumerate(results) if isinstance(r, Invariant)]
    states = {}
    for state in layer.neuron.states:
        ends = [r.states[state.name] for _, r in bounded]
        if ends:
            low, high = min(i.low for i in ends), max(i.high for i in ends)
            states[state.name] = (0.0 - _rounded_up(-low), _rounded_up(high))
    certified = (layer.neuron.name, x_max, len(results), len(bounded), states)
    if len(bounded) == len(results):
        v = potential_of(layer.neuron).name
        return Certificate(*certified, max(bounded, key=lambda pair: pair[1].states[v].width)[0])
    escapes = [(k, r) for k, r in enumerate(results) if isinstance(r, Escape)]
    if escapes:
        k, escape = escapes[0]
        return Certificate(*certified, k, str(escape), escape.inputs)
    undecided = [(k, r) for k, r in enumerate(results) if isinstance(r, Undecided)]
    return Certificate(*certified, undecided[0][0], undecided[0][1].reason)


def _rounded_up(value: Fraction) -> float:
    """Return the least float >= value."""
    nearest = float(value)
    return nearest if nearest >= value else math.nextafter(nearest, math.inf)
