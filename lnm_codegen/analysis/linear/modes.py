"""Point, Jacobian, eigenvalues and class of each parameter set of a neuron.

The point is the fixed point without input that is nearest to the initial states, or else the
initial states. Only where the greatest modulus r is above 1 are free runs simulated, without input
and with spikes and resets. They begin at STARTS states on a circle around the point, in the plane
of the dominant eigenvector. Its radius is KICK scales; the scale is the distance of the initial
states to the threshold.

The linear step reaches KICK * r**T scales in T steps. T is the least number from RUN_STEPS to
MOST_STEPS that makes this 2 * BOUND, or else MOST_STEPS. Runs stay if no state moves further away
than BOUND scales, or than half of what the linear step reaches if that is less, but LEAST_BOUND at
least. So runs of r < 1.0002 are too short to leave it, and stay.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lnm_codegen.analysis.linear.step import Inputs, StepMap, Values, farthest
from lnm_codegen.ir.interpret import Array
from lnm_codegen.language.neuron import Neuron

RUN_STEPS, MOST_STEPS, STARTS, KICK = 1000, 10_000, 8, 0.5
LEAST_BOUND, BOUND = 2.0, 100.0


@dataclass(frozen=True)
class Modes:
    """Linear behaviour of R parameter sets of a neuron with n states.

    Attributes:
        neuron: The neuron.
        states: The point of each set, (n, R).
        fixed: The point is a fixed point, (R,).
        fires: The neuron fires in the step from there, (R,).
        matrix: Jacobian dF/ds of the step without a spike, (R, n, n).
        gain: dF/dx of each input, (R, n, m).
        eigenvalues: Of the Jacobian, by falling modulus, (R, n).
        first: The eigenvalue of greatest modulus among those of the reached states, (R,).
        reached: The input reaches the state without a spike, (R, n); see `reached_states`.
        labels: Class of each set, one of `classes.POLE_CLASSES`.
    """

    neuron: Neuron
    states: Array
    fixed: Array
    fires: Array
    matrix: Array
    gain: Array
    eigenvalues: Array
    first: Array
    reached: Array
    labels: tuple[str, ...]

    def poles(self, row: int = 0) -> tuple[Pole, ...]:
        """Return the poles of one set."""
        return tuple(Pole(complex(value)) for value in self.eigenvalues[row])

    def unreached(self, row: int = 0) -> tuple[str, ...]:
        """Return the states of one set that its input does not reach, if it reaches others."""
        states = zip(self.neuron.states, self.reached[row], strict=True)
        return tuple(s.name for s, known in states if not known) if self.reached[row].any() else ()

    def at(self, row: int = 0) -> dict[str, float]:
        """Return the point of one set, by state."""
        names = (s.name for s in self.neuron.states)
        return {name: float(v) for name, v in zip(names, self.states[:, row], strict=True)}


def modes_of(neuron: Neuron, values: Values | None = None, rows: int = 1) -> Modes:
    """Return the linear behaviour of a neuron with R parameter sets.

    Args:
        neuron: A neuron with one state or more.
        values: Parameters; the declared `init` otherwise.
        rows: R.

    Raises:
        ModelError: An unknown parameter, or one that a function initialises and `values` lacks.
        UnsupportedError: The neuron has no state.
    """
    return modes_of_step(StepMap(neuron, values, rows))


def modes_of_step(step: StepMap) -> Modes:
    """Return the linear behaviour of the parameter sets of a step."""
    rows = step.rows
    at, fixed = nearest_point(step, find_points(step))
    matrix, gain = step.jacobian(at)
    found = eigenvalues(matrix)
    bounded = np.ones(rows, bool)
    unstable = np.flatnonzero(~(np.abs(found[:, 0]) <= 1 + EDGE))
    if len(unstable):
        bounded[unstable] = _stays(step.select(unstable), at[:, unstable], matrix[unstable])
    reached = reached_states(matrix, gain)
    both = reached[:, :, None] & reached[:, None, :]
    answering = eigenvalues(np.where(both, matrix, 0.0))[:, 0]
    first = np.where(reached.any(-1), answering, found[:, 0])
    labels = tuple(classify_poles(found[r], bool(bounded[r]), first[r]) for r in range(rows))
    fires = np.asarray(step.margin(at) >= 0)
    return Modes(step.neuron, at, fixed, fires, matrix, gain, found, first, reached, labels)


def reached_states(matrix: Array, gain: Array) -> Array:
    """Return the states that an input moves in the linear step, directly or through others, (R, n).

    The exact zeros of the Jacobian decide, so that the scales of the states do not matter. A state
    that only resets move is not reached.

    Args:
        matrix: Jacobian dF/ds, (R, n, n).
        gain: dF/dx, (R, n, m).
    """
    reached = np.asarray((gain != 0).any(-1))
    for _ in range(matrix.shape[-1]):
        reached = reached | ((matrix != 0) & reached[:, None, :]).any(-1)
    return reached


def _stays(step: StepMap, at: Array, matrix: Array) -> Array:
    """Report whether free runs stay within the bound, (R,)."""
    finite = np.asarray(np.isfinite(matrix).all((-2, -1)))
    values, vectors = np.linalg.eig(np.where(finite[:, None, None], matrix, 0.0))
    largest = np.abs(values).argmax(-1)
    dominant = np.take_along_axis(vectors, largest[:, None, None], -1)[:, :, 0].T
    turns = np.exp(2j * math.pi * np.arange(STARTS) / STARTS)[None, :, None]
    kicks = (dominant[:, None] * turns).real
    kicks /= np.maximum(np.linalg.norm(kicks, axis=0), 1e-12)
    scale, centre = step.scale(), at[:, None]
    steps, bound = _runs(np.abs(values).max(-1))
    away = farthest(step, centre, centre + KICK * scale * kicks, steps)
    return np.asarray(finite & (away <= bound * scale))


def _runs(radius: Array) -> tuple[Array, Array]:
    """Return the number of steps of free runs, and their bound in scales, (R,) each."""
    with np.errstate(divide="ignore", over="ignore"):
        steps = np.ceil(math.log(2 * BOUND / KICK) / np.log(radius)).clip(RUN_STEPS, MOST_STEPS)
        return steps, np.clip(KICK * radius**steps / 2, LEAST_BOUND, BOUND)


# Poles: the eigenvalues a of the Jacobian of a step, and their radius, frequency and damping time.
#
# A small deviation along the eigenvector is multiplied by a in every step.
#
#     radius          |a|; the deviation dies out if |a| < 1
#     frequency       |arg a| / (2*pi), cycles a step, 0 to 1/2
#     damping time    -1 / ln|a|: the steps in which the deviation falls to 1/e. Infinite for
#                     | |a| - 1 | <= EDGE; negative for a greater |a|, where the deviation grows by
#   e
#                     in as many steps


REAL, EDGE = 1e-6, 1e-6
"""An eigenvalue a with |Im a| <= REAL * |a| counts as real: rounding splits a double one. A modulus
within EDGE of 1 counts as 1: learned numbers are rounded."""


@dataclass(frozen=True, slots=True)
class Pole:
    """An eigenvalue of the Jacobian."""

    value: complex

    @property
    def radius(self) -> float:
        """Modulus."""
        return abs(self.value)

    @property
    def frequency(self) -> float:
        """Cycles a step, 0 to 1/2."""
        return float(frequencies(np.array(self.value)))

    @property
    def damping_time(self) -> float:
        """Steps to 1/e; see the module."""
        return float(damping_times(np.array(self.value)))


def eigenvalues(matrices: Array) -> Array:
    """Return the eigenvalues (*, n) of matrices (*, n, n), by falling modulus.

    Of a complex pair, the one with the positive imaginary part comes first. They are NaN for a
    matrix that is not finite.
    """
    finite = np.asarray(np.isfinite(matrices).all((-2, -1)))
    found = np.linalg.eigvals(np.where(finite[..., None, None], matrices, 0.0)).astype(complex)
    found = np.where(is_real(found), found.real, found)
    order = np.lexsort((-found.imag, -found.real, -np.round(np.abs(found), 12)), axis=-1)
    return np.where(finite[..., None], np.take_along_axis(found, order, -1), complex("nan"))


def is_real(values: Array) -> Any:
    """Report which eigenvalues count as real."""
    return np.abs(values.imag) <= REAL * np.abs(values)


def frequencies(values: Array) -> Array:
    """Return the frequency of each eigenvalue in cycles a step."""
    straight = np.where(is_real(values), values.real, values)
    return np.asarray(np.abs(np.angle(straight)) / (2 * math.pi))


def damping_times(values: Array) -> Array:
    """Return the damping time of each eigenvalue in steps."""
    radius = np.abs(values)
    with np.errstate(divide="ignore"):
        times = -1 / np.asarray(np.log(radius))
    return np.asarray(np.where(np.abs(radius - 1) <= EDGE, np.inf, times))


def number(value: complex, digits: int = 6) -> str:
    """Return an eigenvalue as text: `0.5 + 0.6i`, or `0.5` if it is real."""
    if abs(value.imag) == 0:
        return f"{value.real:.{digits}g}"
    sign = "-" if value.imag < 0 else "+"
    return f"{value.real:.{digits}g} {sign} {abs(value.imag):.{digits}g}i"


def poles_as_list(poles: Sequence[Pole]) -> list[dict[str, float]]:
    """Return poles as plain data; the damping time of modulus 1 is infinite."""
    return [
        {"real": p.value.real, "imag": p.value.imag, "radius": p.radius,
         "frequency": p.frequency, "damping_time": p.damping_time}
        for p in poles
    ]  # fmt: skip


# Classes of linear behaviour of a step with several states.
#
# r is the greatest modulus of the eigenvalues of the Jacobian at the point. a_1 is the eigenvalue
# of greatest modulus in the block of the states that the input reaches, or in the whole Jacobian if
# the input reaches none. The first class that applies wins, in this order:
#
#     diverging           r > 1, and a free run leaves the bound
#     unstable but reset  r > 1, and every free run stays: resets, or clamps, hold the states
#     integrator          a_1 is real with |a_1 - 1| <= 0.1: the neuron sums its input
#     resonator           a_1 is complex with |a_1| >= 0.9, near the circle: it rings for long
#     oscillator          a_1 is complex with |a_1| < 0.9: a damped oscillation
#     alternating         a_1 is real and below -0.05: a deviation changes its sign at every step
#     real poles          a_1 is real and otherwise: leaks without an oscillation of a_1
#
# r > 1 means r > 1 + `poles.EDGE`, the rounding of learned numbers. Free runs have no input and
# begin near the point. Their length and bound depend on r: see `modes`. Inputs may still drive the
# states out.


SLOW, FLAT = 0.1, 0.05
"""Distance of a slow pole from 1 or the circle; a real pole above -FLAT does not alternate."""
RESET, DIVERGING = "unstable but reset", "diverging"
"""The classes with an unstable point: free runs stay, or leave the bound."""
POLE_CLASSES = (
    "real poles", "integrator", "oscillator", "resonator", "alternating", RESET, DIVERGING,
)  # fmt: skip


def classify_poles(values: Array, bounded: bool, first: complex | None = None) -> str:
    """Return the class of eigenvalues (n,), by falling modulus; one of `POLE_CLASSES`.

    Args:
        values: Eigenvalues. NaN counts as diverging.
        bounded: Free runs stay within the bound; read only if r > 1.
        first: The greatest eigenvalue of the states that the input reaches; by default of all.
    """
    radius = abs(complex(values[0]))
    if not radius <= 1 + EDGE:
        return RESET if bounded and np.isfinite(radius) else DIVERGING
    first = complex(values[0] if first is None else first)
    if bool(is_real(np.array(first))):
        if abs(first.real - 1) <= SLOW:
            return "integrator"
        return "alternating" if first.real < -FLAT else "real poles"
    return "resonator" if abs(first) >= 1 - SLOW else "oscillator"


def class_note(labels: Iterable[str]) -> str:
    """Return a note on "unstable but reset" if that is one of the classes, or an empty text."""
    if RESET not in labels:
        return ""
    return (
        f'"{RESET}" describes runs without input from states near the point: resets or clamps hold'
        " them. Inputs may still drive the states out."
    )


def stability(radius: float) -> str:
    """Return "stable", "unstable" or "neutral" for the greatest modulus of the eigenvalues."""
    if abs(radius - 1) <= EDGE:
        return "neutral"
    return "stable" if radius < 1 else "unstable"


# Fixed points s = F(s, x) of the step without a spike, by Newton's method.
#
# The search begins at the initial states and on a grid around them, and so may miss a fixed point;
# `analysis.fixed_points` finds all of them for one state and a polynomial.


REACH, PLACES = 4.0, {1: 9, 2: 7, 3: 5}
"""The grid has PLACES[n] points (or else 3) for each state, REACH scales to either side."""
ITERATIONS, FARTHEST = 60, 2.0**20
"""Newton steps; distance of a point over the scale."""
TOLERANCE, SHORT, ROUNDING = 1e-9, 1e-8, 16 * float(np.finfo(float).eps)
"""Residual and length of the last Newton step over the scale; residual over the states that counts
as 0. A small residual alone is no fixed point: near a double root it is the squared distance."""
SAME, TINY = 1e-6, 1e-14
"""Distance over the scale of results that are one point; a state over the scale that counts as 0.
"""


def find_points(step: StepMap, x: Inputs | None = None) -> Array:
    """Return the result of each start, (n, S, R); NaN where Newton's method finds nothing.

    The first start is the initial state.
    """
    n, scale = len(step.states), step.scale()
    count = PLACES.get(n, 3)
    grid = np.array(list(itertools.product(np.linspace(-REACH, REACH, count), repeat=n))).T
    offsets = np.concatenate([np.zeros((n, 1)), grid], axis=1)
    starts = step.start()[:, None] + offsets[:, :, None] * scale
    rows = np.tile(np.arange(step.rows), starts.shape[1])
    flat = starts.reshape(n, -1)
    found = np.full_like(flat, np.nan)
    active = np.arange(flat.shape[1])
    for _ in range(ITERATIONS):
        now, own = flat[:, active], step.select(rows[active])
        residual = own.next(now, x) - now
        size = np.abs(residual).max(0) / scale[rows[active]]
        move = _newton_step(own, now, residual, x)
        with np.errstate(invalid="ignore"):
            short = np.abs(move).max(0) <= SHORT * scale[rows[active]]
        done = (size <= TOLERANCE) & short | (np.abs(residual) <= ROUNDING * np.abs(now)).all(0)
        moved = now + move
        found[:, active[done]] = np.where(np.isfinite(moved), moved, now)[:, done]
        with np.errstate(invalid="ignore"):
            near = np.abs(moved).max(0) <= FARTHEST * np.maximum(scale[rows[active]], 1)
        flat[:, active] = moved
        active = active[near & ~done]
        if not len(active):
            break
    small = np.abs(found) <= TINY * scale[rows]
    return np.where(small, 0.0, found).reshape(starts.shape)


def _newton_step(step: StepMap, at: Array, residual: Array, x: Inputs | None) -> Array:
    matrix = np.eye(len(at)) - step.jacobian(at, x)[0]
    solvable = np.asarray(np.isfinite(matrix).all((-2, -1)) & np.isfinite(residual).all(0))
    matrix = np.where(solvable[:, None, None], matrix, np.eye(len(at)))
    solvable &= np.linalg.det(matrix) != 0
    matrix = np.where(solvable[:, None, None], matrix, np.eye(len(at)))
    move = np.linalg.solve(matrix, residual.T[:, :, None])[:, :, 0].T
    return np.where(solvable, move, np.nan)


def nearest_point(step: StepMap, points: Array) -> tuple[Array, Array]:
    """Return the point nearest to the initial states, (n, R), and where there is one, (R,).

    Without a point, the result is the initial states.
    """
    start = step.start()
    distance = np.linalg.norm(points - start[:, None], axis=0)
    known = np.isfinite(distance)
    best = np.where(known, distance, np.inf).argmin(0)
    chosen = np.take_along_axis(points, best[None, None], axis=1)[:, 0]
    return np.where(known.any(0), chosen, start), known.any(0)


def distinct_points(step: StepMap, points: Array, x: Inputs | None = None) -> Array:
    """Return the different points of one parameter set, (n, P), the nearest first.

    Points that are not isolated count as one, the nearest.
    """
    start, scale = step.start()[:, 0], float(step.scale()[0])
    flat = points[:, :, 0]
    flat = flat[:, np.isfinite(flat).all(0)]
    flat = flat[:, np.argsort(np.linalg.norm(flat - start[:, None], axis=0), kind="stable")]
    loose = False
    kept: list[Array] = []
    for point in flat.T:
        same = any(np.abs(point - other).max() <= SAME * scale for other in kept)
        alone = is_isolated(step, point[:, None], x)[0]
        if same or (not alone and loose):
            continue
        loose |= not alone
        kept.append(point)
    return np.array(kept).T.reshape(len(start), -1)


def is_isolated(step: StepMap, at: Array, x: Inputs | None = None) -> Array:
    """Report whether no other fixed point is near: no eigenvalue of the Jacobian counts as 1."""
    values = eigenvalues(step.jacobian(at, x)[0])
    return np.asarray((np.abs(values - 1) > EDGE).all(-1))
