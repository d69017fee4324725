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

import math
from dataclasses import dataclass

import numpy as np

from lnm_codegen.analysis.linear.classes import classify_poles
from lnm_codegen.analysis.linear.points import find_points, nearest_point
from lnm_codegen.analysis.linear.poles import EDGE, Pole, eigenvalues
from lnm_codegen.analysis.linear.response import farthest
from lnm_codegen.analysis.linear.step import StepMap, Values
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
