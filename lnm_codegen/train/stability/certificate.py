"""What can be promised of a trained layer: intervals that its states never leave, row by row."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from lnm_codegen.analysis.charge import potential_of
from lnm_codegen.analysis.escape import Escape
from lnm_codegen.analysis.invariant import Invariant, Undecided, invariant
from lnm_codegen.errors import ModelError
from lnm_codegen.nn import NeuronLayer
from lnm_codegen.nn.parameters import parameter_sets


@dataclass(frozen=True)
class Certificate:
    """For |x| <= x_max, each step's states after the reset; proven in rationals (`analysis`).

    Attributes:
        neuron: Its name.
        x_max: X.
        rows: How many rows the layer has: 1, or its channels or neurons.
        certified: How many of them have an interval that their states never leave.
        states: State -> (low, high) that holds the intervals of all certified rows; the outermost
            floats.
        worst: The row with the widest interval of the potential, or the first without one.
        reason: Why it has none; empty where every row is certified.
        inputs: Input -> the values, one a step, that drive it out, where such were found.
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
        """Whether every row is certified."""
        return self.certified == self.rows

    def __str__(self) -> str:
        kept = ", ".join(
            f"{n} in [{low:.6g}, {high:.6g}]" for n, (low, high) in self.states.items()
        )
        whole = f"{self.neuron}: for |x| <= {self.x_max:g} "
        if self.holds:
            row = f" (row {self.worst} is the widest)" if self.rows > 1 else ""
            return f"{whole}the states stay: {kept}{row}"
        count = f"{self.certified} of {self.rows} rows stay; row {self.worst}: "
        return f"{whole}{count if self.rows > 1 else ''}{self.reason}"

    def as_json(self) -> dict[str, Any]:
        """Return what json can write."""
        return {
            "neuron": self.neuron,
            "x_max": self.x_max,
            "rows": self.rows,
            "certified": self.certified,
            "states": {n: list(ends) for n, ends in self.states.items()},
            "worst": self.worst,
            "reason": self.reason,
            "inputs": {n: list(values) for n, values in self.inputs.items()},
            "text": str(self),
        }


def certificate(layer: NeuronLayer, x_max: float, *, bound: float = 100.0) -> Certificate:
    """Return what holds of the layer's states for |x| <= X, of any family.

    Args:
        layer: Its states begin at numbers.
        x_max: X >= 0, of every input.
        bound: What a state must pass for an input sequence to count as breaking it.

    Raises:
        ModelError: A parameter is not finite, or x_max is no number >= 0.
        UnsupportedError: A function that is not monotone, a state whose start is drawn.
    """
    number = isinstance(x_max, int | float) and not isinstance(x_max, bool)
    if not (number and math.isfinite(x_max) and x_max >= 0):
        raise ModelError("certificate", f"x_max is {x_max!r}", "a finite number >= 0")
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
    return _gathered(layer, float(x_max), results)


def _gathered(
    layer: NeuronLayer, x_max: float, results: list[Invariant | Escape | Undecided]
) -> Certificate:
    kept = [(k, r) for k, r in enumerate(results) if isinstance(r, Invariant)]
    states = {}
    for s in layer.neuron.states:
        ends = [r.states[s.name] for _, r in kept]
        if ends:
            low, high = float(min(i.low for i in ends)), float(max(i.high for i in ends))
            states[s.name] = (math.nextafter(low, -math.inf), math.nextafter(high, math.inf))
    broken = [(k, r) for k, r in enumerate(results) if not isinstance(r, Invariant)]
    name, rows = layer.neuron.name, len(results)
    if not broken:
        v = potential_of(layer.neuron).name
        worst = max(kept, key=lambda pair: pair[1].states[v].width)[0]
        return Certificate(name, x_max, rows, rows, states, worst)
    driven = [(k, r) for k, r in broken if isinstance(r, Escape)]
    k, result = (driven or broken)[0]
    if isinstance(result, Escape):
        return Certificate(name, x_max, rows, len(kept), states, k, str(result), result.inputs)
    assert isinstance(result, Undecided)
    return Certificate(name, x_max, rows, len(kept), states, k, result.reason)
