"""Invariant boxes of any step: guessed in floats, proven in rationals.

Let F(B) be the least box that holds every state after a step from states in B and inputs in X. A
box B is invariant if it holds the initial states and F(B) lies in B. The least invariant box is the
limit of

    B <- hull(B, F(B)),   from the initial states.

The first steps are those of a grid of states, in floats. Their box lies in every invariant box, up
to rounding, so that none exists where it passes 2**_FARTHEST. The exact iteration starts from it,
and reaches the limit because ends move outward to multiples of 2**-FINE. Where convergence is slow
(a slope a near 1 takes 1/(1 - a) steps), a larger box is guessed and tested, and bisection moves
its ends inward. A box that a state of the grid leaves is not tested exactly. The exact evaluations
have a budget, `WORK`, which counts rational numbers and never time.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from functools import cached_property
from itertools import product
from math import ceil, floor
from operator import attrgetter
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lnm_codegen.analysis.exact import nodes_of, parameters_for, prepared_parameters
from lnm_codegen.analysis.interval import Interval, hull, interval_of, point
from lnm_codegen.analysis.plane import FARTHEST, PlaneStep, plane_step
from lnm_codegen.analysis.polygon import hull_of
from lnm_codegen.analysis.polynomial import SymbolicKernel
from lnm_codegen.analysis.ranges import Given, checked, symbolic
from lnm_codegen.compiler.arguments import SINGLE, parameters_of, start_of
from lnm_codegen.compiler.pipeline import lower
from lnm_codegen.errors import UnsupportedError, reason
from lnm_codegen.ir import nodes as ir
from lnm_codegen.ir.interpret import run
from lnm_codegen.ir.kernel import Role
from lnm_codegen.ir.passes.simplify import keep_results
from lnm_codegen.language.neuron import Neuron

FINE = 32
"""Ends are multiples of 2**-FINE, or values that occur."""
WORK = 16_000
"""After so much work (`BoxStep.work`) no other box is evaluated: some 50 microseconds a unit."""
_STEPS, _EVERY, _SAMPLED, _CONTRACTIONS = 256, 4, 512, 8
_FAR = Fraction(1024)  # steps like the last one: a slope up to 0.999
_ENDS = (attrgetter("low"), attrgetter("high"))
_SETTLED = 2.0**-44  # of the size: the grid's box moves no more
_FARTHEST = 24
"""Boxes stay within +-2**_FARTHEST."""
_GROWS = "the interval still grows"
_SPENT = "no interval is found within the work of the search"


def invariant_box(step: BoxStep) -> tuple[Box, Box] | str:
    """Return an invariant box and a box inside every other one, or the reason why none is found.

    The two are equal if the box is the least.

    Raises:
        UnsupportedError: A function is not monotone.
    """
    step(step.start)
    sampled = _sampled(step)
    if sampled is None:
        return _GROWS
    box, before = sampled
    guess = _extrapolated(before, before, box)
    if guess != box and _keeps(step, guess):
        return _shrunk(step, box, guess)
    found = _iterated(step, box)
    return _SPENT if isinstance(found, str) and _is_spent(step) else found


def _iterated(step: BoxStep, box: Box) -> tuple[Box, Box] | str:
    cause, before = _GROWS, box
    for k in range(1, _STEPS + 1):
        if _is_spent(step):
            return _SPENT
        try:
            after = step(box)
        except UnsupportedError as error:
            cause = reason(error)
            break
        older, before, box = before, box, {n: _grown(box[n], after[n]) for n in step.names}
        if before == box:
            return box, box
        if any(i.magnitude > 1 << _FARTHEST for i in box.values()):
            return cause
        guess = _extrapolated(older, before, box)
        if k % _EVERY == 0 and guess != box and _keeps(step, guess):
            return _shrunk(step, box, guess)
    for k in range(_FARTHEST):
        wide = {n: _widened(i, Fraction(2) ** k) for n, i in box.items()}
        if _keeps(step, wide):
            return _shrunk(step, box, wide)
    return cause


def _is_spent(step: BoxStep) -> bool:
    return step.work > WORK


def _keeps(step: BoxStep, box: Box) -> bool:
    """Report whether a box is proven to be invariant, at no cost beyond the budget."""
    return not _is_spent(step) and not step.leaves(box) and step.keeps(box)


def _sampled(step: BoxStep) -> tuple[Box, Box] | None:
    """Return a box that nearly all invariant boxes hold, and the one a step before; None if far.

    The two are equal where the iteration settles.
    """
    before = ends = step.ends(step.start)
    for _ in range(_SAMPLED):
        after = step.sampled(ends)
        if np.isnan(after).any():
            break
        before = ends
        ends = np.array([np.minimum(ends[0], after[0]), np.maximum(ends[1], after[1])])
        if not (np.abs(ends) <= 2.0**_FARTHEST).all():
            return None
        if (np.abs(ends - before) <= _SETTLED * (1 + np.abs(ends))).all():
            before = ends
            break
    return _inward(step, ends), _inward(step, before)


def _inward(step: BoxStep, ends: Ends) -> Box:
    """Return ends as multiples of 2**-FINE inside, where they are not those of the start."""
    unit, box = 1 << FINE, {}
    for name, low, high in zip(step.names, *ends.tolist(), strict=True):
        first = step.start[name]
        ends_of = Fraction(ceil(low * unit), unit), Fraction(floor(high * unit), unit)
        box[name] = Interval(min(first.low, ends_of[0]), max(first.high, ends_of[1]))
    return box


def _grown(box: Interval, after: Interval) -> Interval:
    """Return the hull; an end that moves is rounded outward."""
    around = after.outward(FINE)
    low = box.low if after.low >= box.low else min(around.low, box.low)
    high = box.high if after.high <= box.high else max(around.high, box.high)
    return Interval(low, high)


def _extrapolated(older: Box, before: Box, box: Box) -> Box:
    """Return the widened limits of ends that move in a geometric series; the box if one does not.

    Ends of which one step alone is known go on for _FAR steps like it.
    """
    found = {}
    for name, i in box.items():
        limits = []
        for end in _ENDS:
            first, last = end(before[name]) - end(older[name]), end(i) - end(before[name])
            if first and abs(last) >= abs(first):
                return box
            limits.append(end(i) + last * min(_FAR, 2 * last / (first - last) if first else _FAR))
        found[name] = Interval(*limits).outward(FINE)
    return found


def _widened(box: Interval, amount: Fraction) -> Interval:
    return Interval(box.low - amount, box.high + amount).outward(FINE)


def _shrunk(step: BoxStep, inner: Box, outer: Box) -> tuple[Box, Box]:
    """Return an invariant box between `inner`, which is not, and `outer`, which is: bisection."""
    best = dict(outer)
    for _ in range(_CONTRACTIONS):
        if _is_spent(step):
            break
        smaller = step(best)  # if B is invariant, so are F(B) and its hull with the start
        best = {n: hull((smaller[n], step.start[n])).outward(FINE) for n in step.names}
    for name in step.names:
        for side in ("low", "high"):
            best = _bisected(step, best, inner, name, side)
    return best, inner


def _bisected(step: BoxStep, best: Box, least: Box, name: str, side: str) -> Box:
    inside, outside = getattr(least[name], side), getattr(best[name], side)
    unit = Fraction(1, 1 << FINE)
    while abs(outside - inside) > unit:
        middle = (inside + outside) / 2
        trial = Interval(*(middle, best[name].high) if side == "low" else (best[name].low, middle))
        if _keeps(step, {**best, name: trial}):
            best, outside = {**best, name: trial}, middle
        else:
            inside = middle
    return best


# A step of a neuron as a map F from boxes of states to boxes: exact, outward, and in floats.


Box: TypeAlias = dict[str, Interval]
Ends: TypeAlias = NDArray[np.float64]
"""(2, states): the lows and the highs of a box, in floats."""
_LANES = 300  # most points of a grid in a box
_ROUNDING = 2.0**-30  # of the size, for floats
_NEAR = Fraction(1, 1 << 20)


class BoxStep:
    """F: box of states -> box of the states after a step.

    Two states whose step is affine in pieces have the exact F, from the corners of the box. Any
    other F is evaluated outward, by the ranges of the kernel.

    Attributes:
        work: Rational numbers that were visited, counted: terms of polynomials, once for their
            value and once for each condition, and corners. A deterministic measure of time.
    """

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
        self.work = 0
        self._fixed: Box = {**self.inputs, **{n: point(v) for n, v in self.values.items()}}

    def __call__(self, box: Mapping[str, Interval]) -> Box:
        """Return F(box), or raise UnsupportedError."""
        if self.plane is not None and all(i.magnitude <= FARTHEST for i in box.values()):
            return self._image(self.plane, box)
        found = self.pieces(box)
        return {n: found.range(f"{n}_next") for n in self.names}

    def keeps(self, box: Mapping[str, Interval]) -> bool:
        """Report whether F(box) lies in the box; True is proven."""
        try:
            after = self(box)
        except UnsupportedError:
            return False
        return all(box[n].holds(after[n]) for n in self.names)

    @cached_property
    def plane(self) -> PlaneStep[Fraction] | None:
        """The step of two states as one that is affine in pieces, or None."""
        if len(self.names) != 2:
            return None
        middle = {n: point((i.low + i.high) / 2) for n, i in self.inputs.items()}
        near = {n: Interval(i.low - _NEAR, i.high + _NEAR) for n, i in self.start.items()}
        around = dict.fromkeys(self.names, Interval(Fraction(-FARTHEST), Fraction(FARTHEST)))
        try:
            # Few pieces hold so near to the start, where most other steps show that they are none.
            if plane_step(self.pieces({**middle, **near}), self.names, middle) is None:
                return None
            return plane_step(self.pieces(around), self.names, self.inputs)
        except UnsupportedError:  # a chain of bound values has no finite range so far away
            return None

    def pieces(self, box: Mapping[str, Interval]) -> SymbolicKernel:
        """Return the kernel over a box, or raise UnsupportedError."""
        table = {**self._fixed, **box}
        ports = {p.var.name for p in self.kernel.inputs}
        found = symbolic(self.kernel, {n: table[n] for n in ports})
        self.work += _terms(found)
        return found

    def _image(self, plane: PlaneStep[Fraction], box: Mapping[str, Interval]) -> Box:
        v, w = ((box[n].low, box[n].high) for n in self.names)
        image = plane.image(hull_of(product(v, w)))
        self.work += len(image)
        columns = zip(*image, strict=True)
        return {n: Interval(min(c), max(c)) for n, c in zip(self.names, columns, strict=True)}

    def sampled(self, ends: Ends) -> Ends:
        """Return the least box, in floats, of states after a step from a grid in a box."""
        values = ends[0] + self._grid[:, : len(self.names)] * (ends[1] - ends[0])
        given = {n: values[:, k] for k, n in enumerate(self.names)}
        after = run(self.kernel, {**self._floats, **given})
        columns = [after[f"{n}_next"] for n in self.names]
        return np.array([[c.min() for c in columns], [c.max() for c in columns]])

    def leaves(self, box: Mapping[str, Interval]) -> bool:
        """Report whether a state of the grid leaves the box by more than rounding; in floats."""
        ends = self.ends(box)
        after, margin = self.sampled(ends), _ROUNDING * (1 + np.abs(ends).max())
        inside = (after[0] >= ends[0] - margin) & (after[1] <= ends[1] + margin)
        return not bool(inside.all())

    def ends(self, box: Mapping[str, Interval]) -> Ends:
        """Return the ends of a box, rounded."""
        lows = [float(box[n].low) for n in self.names]
        return np.array([lows, [float(box[n].high) for n in self.names]])

    @cached_property
    def _grid(self) -> Ends:
        """Points of the unit cube of states and inputs, its corners among them."""
        axes = len(self.names) + len(self.inputs)
        most = max(2, min(17, int(_LANES ** (1 / axes))))
        return np.array(list(product(np.linspace(0, 1, most), repeat=axes)))

    @cached_property
    def _floats(self) -> dict[str, Any]:
        """Parameters and inputs, for every point of the grid."""
        found: dict[str, Any] = {n: float(v) for n, v in self.values.items()}
        for k, (name, x) in enumerate(self.inputs.items(), start=len(self.names)):
            found[name] = float(x.low) + self._grid[:, k] * float(x.width)
        return found


def _terms(found: SymbolicKernel) -> int:
    return sum(
        (1 + len(piece.conditions))
        * (
            (1 if isinstance(piece.value, bool) else len(piece.value.terms))
            + sum(len(c.poly.terms) for c in piece.conditions)
        )
        for pieces in found.pieces.values()
        for piece in pieces
    )
