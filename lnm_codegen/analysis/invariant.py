"""Invariant sets of the states for bounded input, or an input sequence that breaks them.

Two states whose step is affine in pieces, such as a matrix with a reset, stay in a convex polygon
(`plane.search`); its bounding box gives an interval for each state. A polygon holds rotations that
no box holds. For any other step, or without a polygon, a box is searched (`box`). Each result is
tested once more, in rationals, on itself alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from lnm_codegen.analysis.arithmetic.interval import Interval, rational
from lnm_codegen.analysis.box import invariant_box
from lnm_codegen.analysis.escape import Escape, escape, escape_plane
from lnm_codegen.analysis.plane.drive import reached
from lnm_codegen.analysis.plane.matrix import is_stable
from lnm_codegen.analysis.plane.polygon import Polygon
from lnm_codegen.analysis.plane.search import invariant_polygon, is_invariant_polygon
from lnm_codegen.analysis.plane.step import PlaneStep, in_floats
from lnm_codegen.analysis.ranges import Given, checked
from lnm_codegen.analysis.step import Box, BoxStep
from lnm_codegen.errors import InternalError
from lnm_codegen.ir.operators import Role
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
