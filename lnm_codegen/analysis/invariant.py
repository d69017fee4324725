"""Invariant sets of the states for bounded input, or an input sequence that breaks them.

Two states whose step is affine in pieces, such as a matrix with a reset, stay in a convex polygon
(`plane.search`); its bounding box gives an interval for each state. A polygon holds rotations that
no box holds. For any other step, or without a polygon, a box is searched:

Let F(B) be the least box that holds every state after a step from states in B and inputs in X. A
box B is invariant if it holds the initial states and F(B) lies in B. The least invariant box is the
limit of

    B <- hull(B, F(B)),   from the initial states.

The iteration reaches it because ends move outward to multiples of 2**-FINE. Where convergence is
slow (a slope a near 1 takes 1/(1 - a) steps), a larger box is guessed and tested, and bisection
moves its ends inward. F is evaluated outward, in rationals, so that F(B) in B is proven; it is
tested once more on the result alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, TypeAlias

import numpy as np

from lnm_codegen.analysis.arithmetic.interval import Interval, hull, interval_of, point, rational
from lnm_codegen.analysis.arithmetic.pieces import SymbolicKernel
from lnm_codegen.analysis.escape import Escape, escape, escape_plane
from lnm_codegen.analysis.exact import nodes_of, parameters_for, prepared_parameters
from lnm_codegen.analysis.plane.drive import reached
from lnm_codegen.analysis.plane.matrix import is_stable
from lnm_codegen.analysis.plane.polygon import Polygon
from lnm_codegen.analysis.plane.search import FARTHEST, invariant_polygon, is_invariant_polygon
from lnm_codegen.analysis.plane.step import PlaneStep, in_floats, plane_step
from lnm_codegen.analysis.ranges import Given, checked
from lnm_codegen.analysis.symbolic import symbolic
from lnm_codegen.compiler.arguments import SINGLE, parameters_of, start_of
from lnm_codegen.compiler.pipeline import lower
from lnm_codegen.errors import InternalError, UnsupportedError, reason
from lnm_codegen.ir import nodes as ir
from lnm_codegen.ir.operators import Role
from lnm_codegen.ir.passes.dce import keep_results
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.validation import wrong

FINE = 32
"""Ends are multiples of 2**-FINE, or values that occur."""
_STEPS, _EVERY = 256, 64
_FARTHEST = 24
"""Boxes stay within +-2**_FARTHEST."""

Box: TypeAlias = dict[str, Interval]


@dataclass(frozen=True)
class Invariant:
    """A certificate: the states never leave `states` while inputs lie in `inputs`.

    States that begin in `polygon` stay there, and `states` holds the initial values and every step
    from it. Without a polygon, states that begin in `states` stay there.

    Runs go to the ends of `reached`, up to 2**-FINE of their size, so every invariant set does.
    Without a polygon it equals `states` if that is the least; otherwise no single end of `states`
    can move inward.
    """

    states: Box  # each interval holds the initial value
    inputs: Box
    values: dict[str, Fraction]  # parameters of the step, exact
    reached: Box
    polygon: Polygon[Fraction] = ()  # corners (first state, second state), counterclockwise


@dataclass(frozen=True)
class Undecided:
    """Result if neither an invariant interval nor a sequence that breaks it is found."""

    reason: str


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
    step = _Step(neuron, inputs, values)
    limit = rational(neuron.name, "bound", bound)
    if limit <= 0:
        raise wrong(neuron.name, "bound", bound, "a number > 0")
    plane = _plane(step)
    found = None if plane is None else _decided(neuron, step, values or {}, float(limit), plane)
    if isinstance(found, Invariant) or (isinstance(found, Escape) and found.diverges):
        return found
    boxed = _search(step)
    if isinstance(boxed, Invariant):
        if not is_invariant(neuron, boxed.states, inputs, values=values):
            raise InternalError(neuron.name, f"{boxed.states} is not an invariant box")
        return boxed
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
    step = _Step(neuron, inputs, values)
    return step.keeps(checked(neuron.name, step.kernel, Role.STATE, states))


class _Step:
    """F: box of states -> box of the states after a step."""

    def __init__(self, neuron: Neuron, inputs: Given, values: Mapping[str, Any] | None) -> None:
        nodes = nodes_of(lower(neuron))
        self.name = neuron.name
        after = set(nodes.result_names(Role.STATE))
        self.kernel: ir.Kernel = keep_results(nodes, after)
        self.inputs = checked(neuron.name, nodes, Role.INPUT, inputs)
        self.values = parameters_for(neuron.name, nodes, prepared_parameters(neuron, values))
        self.names = nodes.input_names(Role.STATE)
        kind = np.dtype("float64")
        raw = parameters_of(neuron, values or {}, SINGLE, kind)
        start = start_of(neuron, None, (), kind, raw)
        self.start = {n: interval_of(neuron.name, f"state {n!r}", float(start[n])) for n in start}
        self._fixed: Box = {**self.inputs, **{n: point(v) for n, v in self.values.items()}}

    def __call__(self, box: Mapping[str, Interval]) -> Box:
        found = self.pieces(box)
        return {n: found.range(f"{n}_next") for n in self.names}

    def pieces(self, box: Mapping[str, Interval]) -> SymbolicKernel:
        table = {**self._fixed, **box}
        ports = {p.var.name for p in self.kernel.inputs}
        return symbolic(self.kernel, {n: table[n] for n in ports})

    def keeps(self, box: Mapping[str, Interval]) -> bool:
        try:
            after = self(box)
        except UnsupportedError:
            return False
        return all(box[n].holds(after[n]) for n in self.names)


def _decided(
    neuron: Neuron,
    step: _Step,
    values: Mapping[str, Any],
    bound: float,
    plane: PlaneStep[Fraction],
) -> Invariant | Escape | str:
    """Return a polygon as a certificate, an escape, or the reason why neither is found."""
    start = (step.start[step.names[0]].low, step.start[step.names[1]].low)
    broken = None
    if not is_stable(plane.linear(plane.mode_at(start))):
        broken = escape_plane(neuron, step.inputs, values, bound, plane)
        if broken is not None and broken.diverges:
            return broken
    found = invariant_polygon(plane, start)
    if isinstance(found, str):
        return broken or escape_plane(neuron, step.inputs, values, bound, plane) or found
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


def _plane(step: _Step) -> PlaneStep[Fraction] | None:
    """Return the step of two states as one that is affine in pieces, or None."""
    if len(step.names) != 2:
        return None
    around = Interval(Fraction(-FARTHEST), Fraction(FARTHEST))
    try:
        pieces = step.pieces(dict.fromkeys(step.names, around))
    except UnsupportedError:  # a chain of bound values has no finite range so far away
        return None
    return plane_step(pieces, step.names, step.inputs)


def _search(step: _Step) -> Invariant | str:
    """Return a box as a certificate, or the reason why none is found."""
    box, before = dict(step.start), dict(step.start)
    cause = "the interval still grows"
    for k in range(1, _STEPS + 1):
        try:
            after = step(box)
        except UnsupportedError as error:
            if k == 1:
                raise
            cause = reason(error)
            break
        grown = {n: _grown(box[n], after[n]) for n in step.names}
        if grown == box:
            return Invariant(box, step.inputs, step.values, box)
        if any(i.magnitude > 1 << _FARTHEST for i in grown.values()):
            break
        before, box = box, grown
        if k % _EVERY == 0:
            guess = {n: _extrapolated(before[n], box[n]) for n in step.names}
            if step.keeps(guess):
                return _shrunk(step, box, guess)
    for k in range(_FARTHEST):
        wide = {n: _widened(i, Fraction(2) ** k) for n, i in box.items()}
        if step.keeps(wide):
            return _shrunk(step, box, wide)
    return cause


def _grown(box: Interval, after: Interval) -> Interval:
    """Return the hull; an end that moves is rounded outward."""
    around = after.outward(FINE)
    low = box.low if after.low >= box.low else min(around.low, box.low)
    high = box.high if after.high <= box.high else max(around.high, box.high)
    return Interval(low, high)


def _extrapolated(before: Interval, box: Interval) -> Interval:
    """Return the widened limit of ends that move in a geometric series."""
    far = Fraction(1024)  # times the last step: a slope up to 0.999
    low, high = (box.low - before.low) * far, (box.high - before.high) * far
    return Interval(box.low + low, box.high + high).outward(FINE)


def _widened(box: Interval, amount: Fraction) -> Interval:
    return Interval(box.low - amount, box.high + amount).outward(FINE)


def _shrunk(step: _Step, inner: Box, outer: Box) -> Invariant:
    """Return an invariant box between `inner`, which is not, and `outer`, which is: bisection."""
    best, least = dict(outer), dict(inner)
    for _ in range(3):
        smaller = step(best)  # if B is invariant, so are F(B) and its hull with the start
        best = {n: hull((smaller[n], step.start[n])).outward(FINE) for n in step.names}
    for name in step.names:
        for side in ("low", "high"):
            best = _bisected(step, best, least, name, side)
    return Invariant(best, step.inputs, step.values, least)


def _bisected(step: _Step, best: Box, least: Box, name: str, side: str) -> Box:
    inside, outside = getattr(least[name], side), getattr(best[name], side)
    unit = Fraction(1, 1 << FINE)
    while abs(outside - inside) > unit:
        middle = (inside + outside) / 2
        trial = Interval(*(middle, best[name].high) if side == "low" else (best[name].low, middle))
        if step.keeps({**best, name: trial}):
            best, outside = {**best, name: trial}, middle
        else:
            inside = middle
    return best
