"""Input sequences that drive a state past a bound, found by search and confirmed by running them.

A frontier of states that can be reached is stepped under the ends and the middle of every input;
of states that lie close together one is kept, and the extreme ones always, each with the way it was
reached. What passes the bound first is traced back to its inputs, and `lnm.interpret` runs them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np

from lnm_codegen.analysis.arithmetic.interval import Interval
from lnm_codegen.compiler.arguments import parameters_of, start_of
from lnm_codegen.compiler.interpret import interpret
from lnm_codegen.compiler.pipeline import lower
from lnm_codegen.ir.granularity import Extent
from lnm_codegen.ir.interpret import Array, run
from lnm_codegen.language.neuron import Neuron

STEPS = 2048
"""The longest sequence that is tried."""
_KEPT, _STALE = 256, 64


@dataclass(frozen=True)
class Escape:
    """Inputs that drive a state out, in float64, confirmed by `lnm.interpret`.

    Attributes:
        inputs: Input -> its values, one a step.
        state: The state that leaves.
        value: What it is after the last step; it may be infinite.
        bound: What its absolute value passes.
    """

    inputs: dict[str, tuple[float, ...]] = field(repr=False)
    state: str
    value: float
    bound: float

    def __str__(self) -> str:
        return (
            f"{self.state} is driven past {self.bound:g}: {self.value:g} after {self.steps} steps"
        )

    @property
    def steps(self) -> int:
        """How many steps it takes."""
        return max((len(sequence) for sequence in self.inputs.values()), default=0)


def escape(
    neuron: Neuron, inputs: Mapping[str, Interval], values: Mapping[str, Any], bound: float
) -> Escape | None:
    """Return inputs that drive a state past `bound`, or None where the search finds none."""
    names = [s.name for s in neuron.inputs]
    if not names or not neuron.states:
        return None
    sequence = _searched(neuron, inputs, values, bound)
    if sequence is None:
        return None
    arrays = [np.array(column).reshape(-1, 1) for column in zip(*sequence, strict=True)]
    result = interpret(neuron, *arrays, **values)
    for state in result.states:
        value = float(result.states[state][0])
        if not abs(value) <= bound:  # also where it is NaN
            found = {
                n: tuple(float(x) for x in a[:, 0]) for n, a in zip(names, arrays, strict=True)
            }
            return Escape(found, state, value, bound)
    return None


def _searched(
    neuron: Neuron, inputs: Mapping[str, Interval], values: Mapping[str, Any], bound: float
) -> list[tuple[float, ...]] | None:
    kind = np.dtype("float64")
    program = lower(neuron)
    prepared = run(program.prepare, parameters_of(neuron, values, Extent(1, 1, 1), kind), kind)
    table = {name: np.asarray(v).reshape(-1)[0] for name, v in prepared.items()}
    start = start_of(neuron, None, (), kind)
    states = list(start)
    frontier = np.array([[float(start[s]) for s in states]])
    choices = np.array(list(product(*(_choices(inputs[s.name]) for s in neuron.inputs))))
    came: list[tuple[Array, Array]] = []
    widest, stale = np.zeros((2, len(states))), 0
    for _ in range(STEPS):
        parents = np.repeat(np.arange(len(frontier)), len(choices))
        chosen = np.tile(np.arange(len(choices)), len(frontier))
        given = {s.name: choices[chosen, k] for k, s in enumerate(neuron.inputs)}
        given |= {s: frontier[parents, k] for k, s in enumerate(states)}
        after = run(program.forward, {**table, **given}, kind)
        columns = [np.broadcast_to(after[f"{s}_next"], parents.shape) for s in states]
        reached = np.stack(columns, axis=1)
        out = np.flatnonzero(~(np.abs(reached) <= bound).all(axis=1))
        if out.size:
            came.append((parents[out[:1]], chosen[out[:1]]))
            return _traced(came, choices)
        kept = _representatives(reached)
        came.append((parents[kept], chosen[kept]))
        frontier = reached[kept]
        extent = np.stack([frontier.min(axis=0), frontier.max(axis=0)])
        moved = bool((np.abs(extent - widest) > 1e-9).any())
        widest, stale = extent, 0 if moved else stale + 1
        if stale > _STALE:
            return None
    return None


def _choices(x: Interval) -> list[float]:
    """Return floats inside the interval: its ends and its middle."""
    ends = [float(x.low), float(x.high)]
    low = ends[0] if ends[0] >= x.low else np.nextafter(ends[0], np.inf)
    high = ends[1] if ends[1] <= x.high else np.nextafter(ends[1], -np.inf)
    return [float(v) for v in dict.fromkeys((low, (low + high) / 2, high))]


def _representatives(reached: Array) -> Array:
    """Return which states to go on from: one of each cell of a grid, and the extreme ones."""
    low, high = reached.min(axis=0), reached.max(axis=0)
    cells = max(2, int(_KEPT ** (1 / reached.shape[1])))
    width = np.where(high > low, high - low, 1.0)
    cell = np.minimum((reached - low) / width * cells, cells - 1).astype(np.int64)
    _, first = np.unique(cell, axis=0, return_index=True)
    extreme = np.concatenate([reached.argmin(axis=0), reached.argmax(axis=0)])
    return np.unique(np.concatenate([first, extreme]))


def _traced(came: list[tuple[Array, Array]], choices: Array) -> list[tuple[float, ...]]:
    """Return the inputs, from the first step on, that led to the first entry of the last one."""
    sequence = []
    k = 0
    for parents, chosen in reversed(came):
        sequence.append(tuple(float(x) for x in choices[chosen[k]]))
        k = int(parents[k])
    return sequence[::-1]
