"""Classes of behaviour of a charge map f: v[t] = f(v[t-1]) without input, below the threshold V.

The first class that applies wins, in this order:

    integrator      |f' - 1| <= 0.1 everywhere: the neuron sums its input and forgets nothing
    bistable        two stable fixed points below V: it holds one of two potentials
    quadratic-like  an unstable fixed point between rest and V, and a stable one below it: beyond
                    the unstable point it charges itself, as a quadratic integrate-and-fire neuron
    self-exciting   f(z) > z for all 0 < z < V: without input it charges until it fires
    oscillating     f' < -0.05 at the fixed point nearest to rest, or on average if there is none:
                    the potential changes sides at every step
    leaky           one stable fixed point below V with -0.05 <= f' < 1, or none and
                    -0.05 <= f' < 1 everywhere: it forgets
    other           no other class applies

"Below V" is the interval of the portrait. A slope within 0.05 of 0 counts as leaky: the potential
is forgotten at once. A fixed point of slope 0 at the lower end comes from a clamp. It counts only
as the stable point of a quadratic-like map, and slopes exclude the clamped part. An upper clamp
bends f like any other part of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

INTEGRATOR, FLAT = 0.1, 0.05
"""Bounds on |f' - 1| of an integrator, and on a |f'| that counts as 0."""
CLASSES = (
    "leaky", "integrator", "quadratic-like", "bistable", "self-exciting", "oscillating", "other",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Point:
    """A fixed point z = f(z).

    Attributes:
        v: Potential z.
        slope: f'(z).
        kind: "stable", "unstable" or "neutral".
    """

    v: float
    slope: float
    kind: str


@dataclass(frozen=True)
class Portrait:
    """A charge map, sampled.

    Attributes:
        z: Increasing potentials up to the threshold, two or more.
        h: f(z) of each.
        points: Fixed points. Those outside [z[0], z[-1]) are ignored.
        rest: Initial potential of a neuron.
    """

    z: Sequence[float]
    h: Sequence[float]
    points: Sequence[Point]
    rest: float = 0.0

    @property
    def slopes(self) -> tuple[float, ...]:
        """Slopes of the chords of f between neighbouring z, outside the lower clamp."""
        low = self.z[0]
        ends = list(zip(self.z, self.z[1:], self.h, self.h[1:], strict=False))
        free = [(z0, z1, h0, h1) for z0, z1, h0, h1 in ends if low not in (h0, h1)] or ends
        return tuple((h1 - h0) / (z1 - z0) for z0, z1, h0, h1 in free)

    @property
    def inside(self) -> tuple[Point, ...]:
        """Fixed points below the threshold, in order."""
        low, high = self.z[0], self.z[-1]
        return tuple(sorted((p for p in self.points if low <= p.v < high), key=lambda p: p.v))


def classify(portrait: Portrait) -> str:
    """Return the class of a charge map, one of `CLASSES`."""
    slopes, points = portrait.slopes, portrait.inside
    if all(abs(slope - 1) <= INTEGRATOR for slope in slopes):
        return "integrator"
    low = portrait.z[0]
    free = [p for p in points if p.v > low or p.slope]
    stable = [p for p in free if p.kind == "stable"]
    if len(stable) > 1:
        return "bistable"
    held = [p for p in points if p.kind == "stable"]
    over = [p for p in free if p.kind == "unstable" and p.v > portrait.rest]
    if held and over and over[-1].v > held[0].v:
        return "quadratic-like"
    if _excites_itself(portrait):
        return "self-exciting"
    near = min(free, key=lambda p: abs(p.v - portrait.rest), default=None)
    mean = (portrait.h[-1] - portrait.h[0]) / (portrait.z[-1] - portrait.z[0])
    if (mean if near is None else near.slope) < -FLAT:
        return "oscillating"
    at = [p.slope for p in stable] if free else slopes
    return "leaky" if at and all(-FLAT <= slope < 1 for slope in at) else "other"


def _excites_itself(portrait: Portrait) -> bool:
    """Report whether f(z) > z for all 0 < z < V.

    In an interval so wide that no sample lies between 0 and V, V decides: f has no fixed point
    between them.
    """
    top = portrait.z[-1]
    if top <= 0 or any(0 < p.v for p in portrait.inside):
        return False
    above = [h > z for z, h in zip(portrait.z, portrait.h, strict=True) if 0 < z < top]
    return all(above or [portrait.h[-1] > top])
