"""Responses of neurons in time: of the linear step, and simulations with spikes and resets.

An array over time has the shape (T, n, *, R), as in `step`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from lnm_codegen.analysis.linear.step import StepMap
from lnm_codegen.ir.interpret import Array


def impulse_response(matrix: Array, gain: Array, steps: int) -> Array:
    """Return A**t B for t = 0, ..., steps - 1: the states after each step, of x = 1, 0, 0, ...

    Args:
        matrix: A, (R, n, n).
        gain: B, (R, n).
        steps: T.

    Returns:
        (T, n, R).
    """
    state, found = gain, []
    for _ in range(steps):
        found.append(state.T)
        state = (matrix @ state[..., None])[..., 0]
    return np.array(found)


def linear_step_response(matrix: Array, gain: Array, steps: int) -> Array:
    """Return the states after each step of x = 1, 1, 1, ...: the sums of `impulse_response`."""
    return np.cumsum(impulse_response(matrix, gain, steps), axis=0)


@dataclass(frozen=True)
class Trajectory:
    """A simulation.

    Attributes:
        states: States after the reset, (T + 1, n, *, R); the first are the initial ones.
        charged: States after the charge, (T, n, *, R).
        spikes: Steps at which any spike fires, (T, *, R).
    """

    states: Array
    charged: Array
    spikes: Array


def simulate(
    step: StepMap, x_seq: Mapping[str, Any], steps: int, start: Array | None = None
) -> Trajectory:
    """Run a neuron with its spikes and resets.

    Args:
        step: The neuron and its R parameter sets.
        x_seq: Input -> a number, or an array (T, *, R) that broadcasts; 0 by default.
        steps: T.
        start: Initial states, (n, *, R); the declared ones by default.
    """
    after, charged, spikes = zip(*_steps(step, x_seq, steps, start), strict=True)
    begin = step.start() if start is None else start
    new = tuple(range(1, 1 + after[0].ndim - begin.ndim))
    first = np.broadcast_to(np.expand_dims(begin, new), after[0].shape)
    return Trajectory(np.array((first, *after)), np.array(charged), np.array(spikes))


def firing_rates(step: StepMap, currents: Array, steps: int) -> Array:
    """Return spikes per step under a constant first input from the initial states, (P, R).

    Args:
        step: The neuron and its R parameter sets.
        currents: Values of the input, (P,).
        steps: Number of steps that the rate is the mean of.
    """
    start = np.broadcast_to(step.start()[:, None], (len(step.states), len(currents), step.rows))
    fired = np.zeros(start.shape[1:])
    for _, _, spikes in _steps(step, {step.inputs[0]: currents[None, :, None]}, steps, start):
        fired += spikes
    return fired / steps


def farthest(step: StepMap, centre: Array, start: Array, steps: Array) -> Array:
    """Return the greatest distance of any state from a centre in a run without input, (R,).

    Each parameter set has its own number of steps, (R,).
    """
    found = np.abs(start - centre).max((0, 1))
    for t, (after, _, _) in enumerate(_steps(step, {}, int(steps.max()), start)):
        away = np.abs(np.where(np.isnan(after), np.inf, after) - centre)
        found = np.where(t < steps, np.maximum(found, away.max((0, 1))), found)
    return np.asarray(found)


def _steps(
    step: StepMap, x_seq: Mapping[str, Any], steps: int, start: Array | None
) -> Iterator[tuple[Array, Array, Array]]:
    """Yield the results of `StepMap.fire` of each step. An input of one step serves all of them."""
    inputs = {n: np.asarray(x, float) for n, x in x_seq.items()}
    now = step.start() if start is None else np.asarray(start, float)
    lanes = np.broadcast_shapes(now.shape[1:], *(x.shape[1:] for x in inputs.values()))
    new = tuple(range(1, 2 + len(lanes) - now.ndim))
    now = np.broadcast_to(np.expand_dims(now, new), (len(now), *lanes))
    for t in range(steps):
        x = {n: a if not a.ndim else a[t % len(a)] for n, a in inputs.items()}
        now, charged, spikes = step.fire(now, x)
        yield now, charged, spikes
