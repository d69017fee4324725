"""Fixed points of the charge, h(v, x) = v at a constant x, of a neuron with one state.

Each piece of h (a clamp makes several) is a polynomial p of v under some conditions. Its fixed
points are the real roots of p(v) - v, isolated in rational intervals, where the conditions hold. A
small deviation is multiplied by the slope p' at every step below threshold:

    |slope| < 1  stable        slope < 0  the deviation alternates its sign
    |slope| > 1  unstable      |slope| = 1  neutral: higher terms decide

At the edge of two pieces, such as v = 0 of max(0, 1.5*v), both sides decide: a deviation is
multiplied by the slope of its own side. If both slopes are negative, two steps multiply it by their
product. Where the charge jumps at the point, it is unstable.

Signs and classes are exact: an interval is halved until the sign is certain, and a greatest common
divisor detects the sign 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from lnm_codegen.analysis.exact import prepared_parameters
from lnm_codegen.analysis.interval import Interval, interval_of, point
from lnm_codegen.analysis.linear.step import resets_silently
from lnm_codegen.analysis.polynomial import (
    Coefficients,
    Piece,
    Poly,
    SymbolicKernel,
    derivative,
    multiplied,
    real_roots,
    refined,
    shares_root,
    shifted,
    square_free,
    substituted,
    trimmed,
    truth,
    univariate,
    value_range,
)
from lnm_codegen.analysis.ranges import Given, checked, symbolic
from lnm_codegen.compiler.pipeline import lower
from lnm_codegen.errors import ModelError, UnsupportedError
from lnm_codegen.ir import nodes as ir
from lnm_codegen.ir.kernel import Names, Role
from lnm_codegen.language.neuron import Neuron

FARTHEST = 1 << 20
"""Fixed points are searched in [-2**20, 2**20]."""


@dataclass(frozen=True, slots=True)
class FixedPoint:
    """A potential that the charge does not change."""

    v: Interval  # holds this one fixed point; a point if it is rational
    slope: Interval  # holds dh/dv there; at an edge, that of the piece to which the point belongs
    kind: str  # "stable", "unstable" or "neutral"
    fires: bool | None  # the neuron fires there, and the reset follows; None without spikes

    @property
    def alternates(self) -> bool:
        """True if a deviation changes its sign at every step."""
        return self.slope.high < 0


@dataclass(frozen=True)
class FixedPoints:
    """Fixed points at one constant input."""

    inputs: dict[str, Fraction]
    points: tuple[FixedPoint, ...]  # isolated, in order
    everywhere: bool  # h(v) = v holds on a whole interval, as for a neuron without leak


def fixed_points(
    neuron: Neuron,
    inputs: Mapping[str, Any] | None = None,
    *,
    values: Mapping[str, Any] | None = None,
) -> FixedPoints:
    """Return the fixed points of the charge in [-2**20, 2**20].

    Args:
        neuron: A neuron with one state, and a charge that is polynomial in it.
        inputs: Input -> its constant value; 0 by default.
        values: Parameters by name; the declared `init` otherwise.

    Raises:
        ModelError: A name is unknown, or a value is not finite.
        UnsupportedError: The neuron has several states or none, h is not polynomial, or the reset
            acts without a spike.
    """
    state = only_state(neuron)
    if resets_silently(neuron):
        raise UnsupportedError(
            neuron.name,
            f"the reset changes {state!r} without a spike, so h = {state} is no fixed point",
            "a reset that acts at spikes only",
            "Use analysis.linear.report.linear_analysis, whose step includes the reset.",
        )
    kernel, charged = charge_kernel(neuron)
    names = kernel.input_names(Role.INPUT)
    box = checked(neuron.name, kernel, Role.INPUT, {n: 0 for n in names} | dict(inputs or {}))
    for name, inside in box.items():
        if inside.low != inside.high:
            raise ModelError(neuron.name, f"input {name!r} is {inside}", "one number")
    try:
        found = charge_pieces(neuron, kernel, box, values)
    except UnsupportedError:  # a function or a quotient, outside its domain somewhere
        raise _no_polynomial(neuron.name, state) from None
    points: dict[Fraction, FixedPoint] = {}
    everywhere = False
    for piece in found.pieces[charged]:
        p = _in_state(found, piece, neuron.name, state)
        difference = _minus_identity(p)
        if not difference:
            everywhere = True
            continue
        for root, _ in real_roots(difference):
            here = _Place(square_free(difference), root)
            if root.high < -FARTHEST or root.low > FARTHEST:
                continue
            if _holds(here, piece, found, state):
                fires = _fires(here, kernel, found, state)
                kind = _kind(here, piece, found.pieces[charged], found, state)
                points[here.root.low] = _classified(here, p, kind, fires)
    ordered = tuple(points[low] for low in sorted(points))
    return FixedPoints({n: i.low for n, i in box.items()}, ordered, everywhere)


def only_state(neuron: Neuron) -> str:
    """Return the name of a neuron's only state, or raise UnsupportedError."""
    names = [s.name for s in neuron.states]
    if len(names) != 1:
        raise UnsupportedError(
            neuron.name,
            f"{len(names)} states ({', '.join(names) or 'none'}), so the charge is not univariate",
            "a neuron with one state",
        )
    return str(names[0])


def charge_kernel(neuron: Neuron) -> tuple[ir.Kernel, str]:
    """Return the forward kernel with the charged first state as a further output, and its name."""
    taken = {s.name for s in neuron.symbols} | {name for name, _ in neuron.output}
    name = Names(taken).fresh("charged")
    return lower(neuron.with_outputs(**{name: neuron.states[0]})).forward, name


def charge_pieces(
    neuron: Neuron, kernel: ir.Kernel, inputs: Given, values: Mapping[str, Any] | None
) -> SymbolicKernel:
    """Return the pieces of `charge_kernel` over every potential."""
    box = {n: interval_of(neuron.name, f"input {n!r}", given) for n, given in inputs.items()}
    box |= {name: point(v) for name, v in prepared_parameters(neuron, values).items()}
    wide = Interval(Fraction(-FARTHEST), Fraction(FARTHEST))
    return symbolic(kernel, box | {n: wide for n in kernel.input_names(Role.STATE)})


class _Place:
    """A root of a square-free polynomial, in an interval that `narrow` halves."""

    def __init__(self, polynomial: Coefficients, root: Interval) -> None:
        self._polynomial, self.root = polynomial, root

    def sign(self, p: Coefficients) -> int:
        """Return the sign of p at the root, exactly."""
        if shares_root(self._polynomial, p, self.root):
            return 0
        while True:
            inside = value_range(p, self.root)
            if inside.low > 0 or inside.high < 0:
                return 1 if inside.low > 0 else -1
            self.narrow()

    def sign_beside(self, p: Coefficients, side: int) -> int:
        """Return the sign of p just right (side 1) or left (-1) of the root, or at it (0)."""
        sign, factor = self.sign(p), side
        while not sign and factor and trimmed(p):
            p = derivative(p)
            sign, factor = factor * self.sign(p), factor * side
        return sign

    def narrow(self) -> None:
        """Halve the interval 20 times."""
        self.root = refined(self._polynomial, self.root)


def _in_state(found: SymbolicKernel, piece: Piece, name: str, state: str) -> Coefficients:
    if isinstance(piece.value, bool):
        raise UnsupportedError(name, "the charge is a condition")
    return _coefficients(piece.value, found, name, state)


def _minus_identity(p: Coefficients) -> Coefficients:
    """Return the coefficients of p(v) - v."""
    padded = [*p, *(Fraction(0),) * (2 - len(p))]
    padded[1] -= 1
    return trimmed(padded)


def _coefficients(p: Poly, found: SymbolicKernel, name: str, state: str) -> Coefficients:
    expanded = substituted(p, found.definitions)
    if not expanded.variables <= {state}:
        raise _no_polynomial(name, state)
    return trimmed(univariate(expanded, state))


def _no_polynomial(name: str, state: str) -> UnsupportedError:
    return UnsupportedError(
        name, f"the charge is not a polynomial of {state!r}", "polynomials and selects"
    )


def _holds(here: _Place, piece: Piece, found: SymbolicKernel, state: str, side: int = 0) -> bool:
    """Report whether the conditions of a piece hold at a place, or just beside it."""
    polys = ((_coefficients(c.poly, found, "fire", state), c.op) for c in piece.conditions)
    return all(truth(point(Fraction(here.sign_beside(p, side))), op) for p, op in polys)


def _fires(here: _Place, kernel: ir.Kernel, found: SymbolicKernel, state: str) -> bool | None:
    """Report whether any spike fires at a place; None for a neuron without spikes."""
    spikes = [let.target.name for let in kernel.body if isinstance(let.value, ir.Spike)]
    if not spikes:
        return None
    pieces = [piece for name in spikes for piece in found.pieces[name]]
    return any(piece.value is True and _holds(here, piece, found, state) for piece in pieces)


def _kind(
    here: _Place, piece: Piece, beside: Sequence[Piece], found: SymbolicKernel, state: str
) -> str:
    """Return "stable", "unstable" or "neutral", by what becomes of a deviation to either side.

    `piece` holds at the place; `beside` are the pieces of which one holds beside it.
    """
    sides: list[Coefficients] = []
    for side in (-1, 1):
        held = (q for q in beside if _holds(here, q, found, state, side))
        p = _in_state(found, next(held, piece), "charge", state)
        if here.sign(_minus_identity(p)):
            return "unstable"
        sides.append(derivative(p))
    left, right = sides
    factors: Sequence[Coefficients] = sides
    if here.sign(left) < 0 and here.sign(right) < 0:
        factors = [multiplied(left, right)]
    elif here.sign(left) < 0 or here.sign(right) < 0:  # it changes sides, and stays on the other
        factors = [right if here.sign(left) < 0 else left]
    largest = max(here.sign(shifted(s, Fraction(-1))) for s in factors)
    return {-1: "stable", 0: "neutral", 1: "unstable"}[largest]


def _classified(here: _Place, p: Coefficients, kind: str, fires: bool | None) -> FixedPoint:
    slope = derivative(p)
    here.sign(slope)  # narrows until `alternates` is certain
    while here.root.width > Fraction(1, 1 << 60):
        here.narrow()
    return FixedPoint(here.root, value_range(slope, here.root), kind, fires)
