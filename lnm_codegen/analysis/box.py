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

from fractions import Fraction
from math import ceil, floor
from operator import attrgetter

import numpy as np

from lnm_codegen.analysis.arithmetic.interval import Interval, hull
from lnm_codegen.analysis.step import Box, BoxStep, Ends
from lnm_codegen.errors import UnsupportedError, reason

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
