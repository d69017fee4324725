"""Invariant sets of the states for bounded input, or an input sequence that breaks them.

Two states whose step is affine in pieces, such as a matrix with a reset, stay in a convex polygon
(`plane.py`); its bounding box gives an interval for each state. A polygon holds rotations that
no box holds. For any other step, or without a polygon, a box is searched (`box`). Each result is
tested once more, in rationals, on itself alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import product, takewhile
from typing import Any

import numpy as np

from lnm_codegen.analysis.box import Box, BoxStep, invariant_box
from lnm_codegen.analysis.interval import Interval, rational
from lnm_codegen.analysis.plane import (
    Ends,
    PlaneStep,
    diverges,
    driven,
    in_floats,
    invariant_polygon,
    is_invariant_polygon,
    is_stable,
    radius_of,
    reached,
    shortest,
)
from lnm_codegen.analysis.polygon import Point, Polygon
from lnm_codegen.analysis.ranges import Given, checked
from lnm_codegen.compiler.arguments import SINGLE, parameters_of, start_of
from lnm_codegen.compiler.interpret import interpret
from lnm_codegen.compiler.pipeline import lower
from lnm_codegen.errors import InternalError
from lnm_codegen.ir.interpret import Array, run
from lnm_codegen.ir.kernel import Role
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.validation import wrong


@dataclass(frozen=True)
class Invariant:
    """A certificate: the states never leave `states` while inputs lie in `inputs`.

    States that begin in `polygon` stay there, and `states` holds the initial values and every step
    from it. Without a polygon, states that begin in `states` stay there.

    Runs go to the ends of `reached`, up to 2**-FINE of their size, so every invariant set does.
    Without a polygon it equals `states` if that is the least. Otherwise no single end of `states`
    can move inward, unless the search reached the limit of its work (`box.WORK`).
    """

    states: Box  # each interval holds the initial value
    inputs: Box
    values: dict[str, Fraction]  # parameters of the step, exact
    reached: Box
    polygon: Polygon[Fraction] = ()  # corners (first state, second state), counterclockwise


@dataclass(frozen=True)
class Undecided:
    """Result if neither an invariant interval nor a sequence that breaks it is found."""

    reason: str  # an unstable matrix, an interval that grows, or a search at the limit of its work


def invariant(
    neuron: Neuron,
    inputs: Given,
    *,
    values: Mapping[str, Any] | None = None,
    bound: float = 100.0,
) -> Invariant | Escape | Undecided:
    """Return an interval that each state never leaves, or an input sequence that breaks it.

    Args:
        neuron: The definition; its initial states must be numbers.
        inputs: Input -> (low, high).
        values: Parameters by name; the declared `init` otherwise.
        bound: Absolute value that a state must exceed in an input sequence.

    Raises:
        ModelError: A name is missing or unknown, or an interval is not finite or its low exceeds
            its high.
        UnsupportedError: A function is not monotone.
    """
    step = BoxStep(neuron, inputs, values)
    limit = rational(neuron.name, "bound", bound)
    if limit <= 0:
        raise wrong(neuron.name, "bound", bound, "a number > 0")
    plane = step.plane
    found = None if plane is None else _decided(neuron, step, values or {}, float(limit), plane)
    if isinstance(found, Invariant) or (isinstance(found, Escape) and found.diverges):
        return found
    boxed = invariant_box(step)
    if not isinstance(boxed, str):
        states, least = boxed
        if not is_invariant(neuron, states, inputs, values=values):
            raise InternalError(neuron.name, f"{states} is not an invariant box")
        return Invariant(states, step.inputs, step.values, least)
    broken = found if isinstance(found, Escape) else None
    broken = broken or escape(neuron, step.inputs, values or {}, float(limit))
    if broken is not None:
        return broken
    if len(step.names) == 2:
        boxed += f"; {found}" if plane is not None else "; its step is not affine in pieces"
    if neuron.bindings:
        boxed += "; intervals of bound values contain more than the values that occur"
    return Undecided(f"{boxed}, and no input sequence was found that drives a state past {bound:g}")


def is_invariant(
    neuron: Neuron, states: Given, inputs: Given, *, values: Mapping[str, Any] | None = None
) -> bool:
    """Report whether states in these intervals stay there for such inputs; True is proven.

    The initial value may lie outside. An irrational end counts as outside by 2**-60.

    Raises:
        ModelError, UnsupportedError: As for `invariant`.
    """
    step = BoxStep(neuron, inputs, values)
    return step.keeps(checked(neuron.name, step.kernel, Role.STATE, states))


def _decided(
    neuron: Neuron,
    step: BoxStep,
    values: Mapping[str, Any],
    bound: float,
    plane: PlaneStep[Fraction],
) -> Invariant | Escape | str:
    """Return a polygon as a certificate, an escape, or the reason why neither is found."""
    start = (step.start[step.names[0]].low, step.start[step.names[1]].low)
    broken, stable = None, is_stable(plane.linear(plane.mode_at(start)))
    if not stable:
        broken = escape_plane(neuron, step.inputs, values, bound, plane)
        if broken is not None and broken.diverges:
            return broken
    found = invariant_polygon(plane, start)
    if isinstance(found, str):
        if stable:
            broken = escape_plane(neuron, step.inputs, values, bound, plane)
        return broken or found
    if not is_invariant_polygon(plane, found, start):
        raise InternalError(step.name, f"{found} is not an invariant polygon")
    low, high = reached(in_floats(plane), (float(start[0]), float(start[1])))
    inner = zip(step.names, map(Fraction, low), map(Fraction, high), strict=True)
    outer = zip(step.names, zip(start, *plane.image(found), strict=True), strict=True)
    return Invariant(
        {n: Interval(min(ends), max(ends)) for n, ends in outer},
        step.inputs,
        step.values,
        {n: Interval(a, b, tight=False) for n, a, b in inner},
        found,
    )


# Input sequences that drive a state past a bound, found by search and confirmed by execution.
#
# The search steps a frontier of reachable states under the ends and the middle of every input. It
# keeps one of states that lie close together, and always the extreme ones, with their predecessors.
# The first state past the bound is traced back to its inputs, and `lnm.interpret` runs them.
#
# Two states whose step is affine in pieces are first driven by the inputs that are best without
# resets (`plane.driven`). `plane.diverges` may then prove that they never come back. Without that
# proof, a state that passes the bound at the last step is a fact of one run in float64, no more. It
# is so for a spectral radius of exactly 1, where inputs can always bring the states back.


STEPS = 2048
"""Longest sequence."""
LONGEST = 8192
"""Longest sequence of a matrix near the unit circle or outside, where no spike or clamp acts."""
_ROTATES = 1 - 2.0**-10  # spectral radius
_FRONTIER, _STALE = 256, 128  # states of the frontier; steps without growth


@dataclass(frozen=True)
class Escape:
    """Inputs that drive a state past a bound in float64, confirmed by `lnm.interpret`."""

    inputs: dict[str, tuple[float, ...]] = field(repr=False)  # input -> its values, one per step
    state: str
    value: float  # of the state after the last step; it may be infinite
    bound: float  # on the absolute value
    diverges: bool = False  # proven: from there on the states grow without bound for any inputs

    def __str__(self) -> str:
        proven = ", and grows without bound from there for any input" if self.diverges else ""
        return (
            f"{self.state} is driven past {self.bound:g}: {self.value:g} after {self.steps} steps"
            f"{proven}"
        )

    @property
    def steps(self) -> int:
        """Number of steps."""
        return max((len(sequence) for sequence in self.inputs.values()), default=0)


def escape(
    neuron: Neuron, inputs: Mapping[str, Interval], values: Mapping[str, Any], bound: float
) -> Escape | None:
    """Return inputs that drive a state past `bound`, or None if the search finds none."""
    if not neuron.inputs or not neuron.states:
        return None
    sequence = _searched(neuron, inputs, values, bound)
    return None if sequence is None else _confirmed(neuron, values, sequence, bound)


def escape_plane(
    neuron: Neuron,
    inputs: Mapping[str, Interval],
    values: Mapping[str, Any],
    bound: float,
    plane: PlaneStep[Fraction],
) -> Escape | None:
    """Return inputs that drive two states past `bound`, or None; `plane` is the neuron's step."""
    if not neuron.inputs:
        return None
    for sequence, proven in _driven(neuron, inputs, values, bound, plane):
        found = _confirmed(neuron, values, sequence, bound)
        if found is not None:
            return replace(found, diverges=proven)
    return None


def _confirmed(
    neuron: Neuron, values: Mapping[str, Any], sequence: list[tuple[float, ...]], bound: float
) -> Escape | None:
    """Run inputs and return them if a state passes the bound."""
    names = [s.name for s in neuron.inputs]
    arrays = [np.array(column).reshape(-1, 1) for column in zip(*sequence, strict=True)]
    result = interpret(neuron, *arrays, **values)
    for state in result.states:
        value = float(result.states[state][0])
        if not abs(value) <= bound:  # also where it is NaN
            found = [tuple(float(x) for x in a[:, 0]) for a in arrays]
            return Escape(dict(zip(names, found, strict=True)), state, value, bound)
    return None


def _driven(
    neuron: Neuron,
    inputs: Mapping[str, Interval],
    values: Mapping[str, Any],
    bound: float,
    plane: PlaneStep[Fraction],
) -> Iterator[tuple[list[tuple[float, ...]], bool]]:
    """Yield input sequences of two states that pass the bound, and whether they provably diverge.

    A run goes on to twice, four times, ... its length where that gives a proof.
    """
    kind = np.dtype("float64")
    first = start_of(neuron, None, (), kind, parameters_of(neuron, values, SINGLE, kind))
    v, w = (float(first[s.name]) for s in neuron.states)
    drives = [_drives(inputs[s.name]) for s in neuron.inputs]
    near = in_floats(plane)
    for goal in driven(near, (v, w), STEPS):
        steps = list(takewhile(lambda step: max(map(abs, step[1])) <= 2.0**20 * bound, goal))
        sizes = [max(map(abs, s)) for _, s in steps]
        past = next((k for k, size in enumerate(sizes, 1) if size > bound), None)
        if past is None:
            continue
        sequence = _sequence(steps, drives)
        lengths = [past << k for k in range(len(steps).bit_length()) if past << k <= len(steps)]
        proven = (n for n in lengths if _diverges(plane, steps[n - 1][1]))
        length = next(proven, None)
        if length is not None:
            yield sequence[:length], True
        yield sequence[:past], False
    if radius_of(near.linear(near.mode_at((v, w)))) > _ROTATES:
        steps = shortest(near, (v, w), bound, LONGEST)
        if steps:
            yield _sequence(steps, drives), _diverges(plane, steps[-1][1])


def _sequence(
    steps: list[tuple[Ends, Point[float]]], drives: list[list[float]]
) -> list[tuple[float, ...]]:
    """Return the inputs of a run; an input whose ends are equal has none in its steps."""
    ends = [iter(e) for e, _ in steps]
    return [tuple(d[-1 if len(d) > 1 and next(e) else 0] for d in drives) for e in ends]


def _diverges(plane: PlaneStep[Fraction], s: tuple[float, float]) -> bool:
    return diverges(plane, (Fraction(s[0]), Fraction(s[1])))


def _searched(
    neuron: Neuron, inputs: Mapping[str, Interval], values: Mapping[str, Any], bound: float
) -> list[tuple[float, ...]] | None:
    kind = np.dtype("float64")
    program = lower(neuron)
    raw = parameters_of(neuron, values, SINGLE, kind)
    prepared = run(program.prepare, raw, kind)
    table = {name: np.asarray(v).reshape(-1)[0] for name, v in prepared.items()}
    start = start_of(neuron, None, (), kind, raw)
    states = list(start)
    frontier = np.array([[float(start[s]) for s in states]])
    drives = np.array(list(product(*(_drives(inputs[s.name]) for s in neuron.inputs))))
    history: list[tuple[Array, Array]] = []
    widest, stale = np.repeat(frontier, 2, axis=0), 0
    for _ in range(STEPS):
        parents = np.repeat(np.arange(len(frontier)), len(drives))
        applied = np.tile(np.arange(len(drives)), len(frontier))
        given = {s.name: drives[applied, k] for k, s in enumerate(neuron.inputs)}
        given |= {s: frontier[parents, k] for k, s in enumerate(states)}
        after = run(program.forward, {**table, **given}, kind)
        columns = [np.broadcast_to(after[f"{s}_next"], parents.shape) for s in states]
        reached = np.stack(columns, axis=1)
        out = np.flatnonzero(~(np.abs(reached) <= bound).all(axis=1))
        if out.size:
            history.append((parents[out[:1]], applied[out[:1]]))
            return _traced(history, drives)
        kept = _representatives(reached)
        history.append((parents[kept], applied[kept]))
        frontier = reached[kept]
        low = np.minimum(widest[0], frontier.min(axis=0))
        high = np.maximum(widest[1], frontier.max(axis=0))
        extent = np.stack([low, high])
        moved = bool((np.abs(extent - widest) > 1e-9).any())
        widest, stale = extent, 0 if moved else stale + 1
        if stale > _STALE:
            return None
    return None


def _drives(x: Interval) -> list[float]:
    """Return the ends and the middle of the interval as floats inside it."""
    ends = [float(x.low), float(x.high)]
    low = ends[0] if ends[0] >= x.low else np.nextafter(ends[0], np.inf)
    high = ends[1] if ends[1] <= x.high else np.nextafter(ends[1], -np.inf)
    return [float(v) for v in dict.fromkeys((low, (low + high) / 2, high))]


def _representatives(reached: Array) -> Array:
    """Return the indices of one state in each cell of a grid, and of the extreme states."""
    low, high = reached.min(axis=0), reached.max(axis=0)
    cells = max(2, int(_FRONTIER ** (1 / reached.shape[1])))
    width = np.where(high > low, high - low, 1.0)
    cell = np.minimum((reached - low) / width * cells, cells - 1).astype(np.int64)
    _, first = np.unique(cell, axis=0, return_index=True)
    extreme = np.concatenate([reached.argmin(axis=0), reached.argmax(axis=0)])
    return np.unique(np.concatenate([first, extreme]))


def _traced(history: list[tuple[Array, Array]], drives: Array) -> list[tuple[float, ...]]:
    """Return the inputs of all steps that lead to the first state of the last step."""
    sequence = []
    k = 0
    for parents, applied in reversed(history):
        sequence.append(tuple(float(x) for x in drives[applied[k]]))
        k = int(parents[k])
    return sequence[::-1]
