"""The step of a neuron without a spike, s[t] = F(s[t-1], x[t]), and its Jacobian, in NumPy.

F is the charge, then the reset with every spike set to 0. The compiler lowers it as a neuron
without spikes; its backward kernel gives the Jacobian. An array of states has the shape
(n, *, R): the states in the order of declaration first, the R parameter sets last.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from keyword import iskeyword
from typing import Any, TypeAlias, cast

import numpy as np
import sympy

from lnm_codegen.analysis.charge import potential_of, readable_inputs, without_spikes
from lnm_codegen.compiler.arguments import parameters_of
from lnm_codegen.compiler.pipeline import lower
from lnm_codegen.errors import UnsupportedError
from lnm_codegen.ir.declarations import Extent, State
from lnm_codegen.ir.interpret import Array, run
from lnm_codegen.ir.kernel import Names
from lnm_codegen.ir.nodes import Program, Role
from lnm_codegen.language.binding import read_by, rebound
from lnm_codegen.language.functions import attached
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.validation import require_known

Values: TypeAlias = Mapping[str, Any]
"""Parameters by name: a number or (size,) for all sets, or (R,) and (R, size)."""
Inputs: TypeAlias = Mapping[str, Any]
"""Inputs of a step by name: numbers, or arrays that broadcast to (*, R)."""


@dataclass(frozen=True)
class RowKernels:
    """A neuron's program with R parameter sets: prepared parameters, an array (R,) each."""

    neuron: Neuron
    program: Program
    table: dict[str, Array]

    def select(self, rows: Array) -> RowKernels:
        """Return those of these parameter sets."""
        return replace(self, table={n: v[rows] for n, v in self.table.items()})

    def run(self, states: Array, x: Inputs | None = None) -> dict[str, Array]:
        """Return the results of a step by name; an input that `x` lacks is 0."""
        return run(self.program.forward, self._given(states, x))

    def gradient(self, states: Array, result: str, x: Inputs | None = None) -> dict[str, Array]:
        """Return the derivatives of an output or a new state, by state and input."""
        backward = self.program.backward
        seeds = dict.fromkeys(backward.input_names(Role.GRAD), 0.0) | {f"grad_{result}": 1.0}
        found = run(backward, {**self._given(states, x), **seeds})
        names = (s.name for s in (*self.neuron.states, *self.neuron.inputs))
        return {n: np.broadcast_to(found[f"grad_{n}"], states.shape[1:]) for n in names}

    def jacobian(self, states: Array, x: Inputs | None = None) -> tuple[Array, Array]:
        """Return derivatives of the new states: by state (*, R, n, n), by input (*, R, n, m)."""
        names = [s.name for s in self.neuron.states]
        rows = [self.gradient(states, f"{name}_next", x).values() for name in names]
        whole = np.stack([np.stack([*row], -1) for row in rows], -2)
        return whole[..., : len(names)], whole[..., len(names) :]

    def _given(self, states: Array, x: Inputs | None) -> dict[str, Any]:
        inputs = {s.name: 0.0 for s in self.neuron.inputs} | dict(x or {})
        names = (s.name for s in self.neuron.states)
        return {**self.table, **dict(zip(names, states, strict=True)), **inputs}


def probe(neuron: Neuron, outputs: Iterable[tuple[str, Any]], **parts: Any) -> Neuron:
    """Return a neuron that keeps its states, or with other `parts`, and reads every input.

    `outputs` are pairs of a wanted name and an expression; further outputs follow.
    """
    names = Names({s.name for s in (*neuron.symbols, *(spike for spike, _ in neuron.fire))})
    seen = (("seen", x) for x in readable_inputs(neuron))
    output = {names.fresh(name): e for name, e in (*outputs, *seen)}
    charge: dict[Any, Any] = {s: s for s in neuron.states} | parts.pop("charge", {})
    return Neuron(charge=charge, output=output, **parts)


@lru_cache(maxsize=256)
def silent_neuron(neuron: Neuron) -> Neuron:
    """Return the neuron without spikes; its first outputs are the z of each spike."""
    if not neuron.states:
        raise UnsupportedError(neuron.name, "no state, so there is no step to analyse")
    own = dict(neuron.bindings)
    charged: dict[Any, Any] = {s: s for s in neuron.states}
    charged |= {s: rebound(e, attached, own) for s, e in neuron.charge}
    after = {s: rebound(e, lambda e: attached(without_spikes(e)), own) for s, e in neuron.reset}
    names = Names({s.name for s in neuron.symbols})
    output: dict[str, Any] = {names.fresh("z"): rebound(z, attached, own) for _, z in neuron.fire}
    output = output or {names.fresh("out"): neuron.states[0]}
    read = set().union(*map(read_by, (*charged.values(), *after.values(), *output.values())))
    output |= {names.fresh("seen"): x for x in readable_inputs(neuron) if x not in read}
    return Neuron(
        charge=charged,
        reset={s: e for s, e in after.items() if e is not s},
        output=output,
        name=None if iskeyword(neuron.name) else neuron.name,  # the family `if`
    )


def resets_silently(neuron: Neuron) -> bool:
    """Report whether the reset changes a state in a step without a spike, such as by a decay."""
    return any(sympy.expand(after - s) != 0 for s, after in silent_neuron(neuron).reset)


@lru_cache(maxsize=256)
def _fire_neuron(neuron: Neuron) -> Neuron:
    """Return the neuron that keeps its states; its first outputs are the z of each spike."""
    own = dict(neuron.bindings)
    return probe(neuron, (("z", rebound(z, attached, own)) for _, z in neuron.fire), name="fire")


@lru_cache(maxsize=256)
def _watched_neuron(neuron: Neuron) -> tuple[Neuron, tuple[str, ...], tuple[str, ...]]:
    """Return the neuron with charged states and spikes as outputs, and the names of these."""
    names = Names({s.name for s in neuron.symbols} | {n for n, _ in neuron.output})
    charged = {names.fresh("charged"): s for s in neuron.states}
    fired = {names.fresh("fired"): spike for spike, _ in neuron.fire}
    return neuron.with_outputs(**charged, **fired), tuple(charged), tuple(fired)


def kernels_of(neuron: Neuron, values: Values, rows: int) -> RowKernels:
    """Return the program of a neuron with its prepared parameters; unknown `values` are ignored.

    Raises:
        ModelError: A function initialises a parameter that `values` lacks.
        ShapeError: A parameter has another shape.
    """
    known = {p.name for p in neuron.params}
    given = {n: v for n, v in values.items() if n in known}
    apart = neuron.with_per({p.name: "channel" for p in neuron.params})
    program = lower(apart)
    raw = parameters_of(apart, given, Extent(1, rows, 1), np.dtype("float64"))
    found = run(program.prepare, raw)
    table = {n: np.broadcast_to(v.reshape(-1), (rows,)) for n, v in found.items()}
    return RowKernels(apart, program, table)


def initial_states(neuron: Neuron, values: Values, rows: int) -> Array:
    """Return the initial states, (n, R): parameters, or declared numbers; a random one is 0."""
    found = np.zeros((len(neuron.states), rows))
    for k, symbol in enumerate(neuron.states):
        decl = cast("State", symbol.decl)
        start = values.get(decl.param, decl.init)
        if not callable(start):
            found[k] = np.asarray(start, float)
    return found


class StepMap:
    """A neuron with R parameter sets: F and its Jacobian, and the step with spikes and resets.

    Attributes:
        neuron: The neuron.
        states: Names of its n states.
        inputs: Names of its inputs.
        rows: R.

    Raises:
        ModelError: An unknown parameter, or one that a function initialises and `values` lacks.
        ShapeError: A parameter has another shape.
        UnsupportedError: The neuron has no state.
    """

    def __init__(self, neuron: Neuron, values: Values | None = None, rows: int = 1) -> None:
        silent, given = silent_neuron(neuron), dict(values or {})
        for name in given:
            require_known(neuron.name, "parameter", name, (p.name for p in neuron.params))
        self.neuron, self.rows = neuron, rows
        self.states = tuple(s.name for s in neuron.states)
        self.inputs = tuple(s.name for s in neuron.inputs)
        self._outputs = tuple(n for n, _ in silent.output)[: len(neuron.fire)]
        watched, self._charged, self._fired = _watched_neuron(neuron)
        self._silent = kernels_of(silent, given, rows)
        self._whole = kernels_of(watched, given, rows)
        self._fire = kernels_of(_fire_neuron(neuron), given, rows)
        self._start = initial_states(neuron, given, rows)

    def select(self, rows: Array) -> StepMap:
        """Return the step of these parameter sets, which may repeat."""
        chosen = copy.copy(self)
        chosen.rows = len(rows)
        chosen._silent, chosen._whole = self._silent.select(rows), self._whole.select(rows)
        chosen._fire, chosen._start = self._fire.select(rows), self._start[:, rows]
        return chosen

    def start(self) -> Array:
        """Return the initial states, (n, R); a random one counts as 0."""
        return self._start

    def next(self, states: Array, x: Inputs | None = None) -> Array:
        """Return F(s, x), (n, *, R); an input that `x` lacks is 0."""
        found = self._silent.run(states, x)
        return self._stacked([found[f"{n}_next"] for n in self.states], states)

    def margin(self, states: Array, x: Inputs | None = None) -> Array:
        """Return the greatest z of the spikes in the step from s, (*, R); it fires where z >= 0.

        It is -inf for a neuron without spikes.
        """
        if not self.neuron.fire:
            return np.full(states.shape[1:], -np.inf)
        found = self._silent.run(states, x)
        return np.asarray(self._stacked([found[n] for n in self._outputs], states).max(0))

    def fire(self, states: Array, x: Inputs | None = None) -> tuple[Array, Array, Array]:
        """Return a step with spikes and resets: states after it, charged states, and spikes.

        The states are (n, *, R), the spikes (*, R): True where any spike fires.
        """
        found = self._whole.run(states, x)
        after = self._stacked([found[f"{n}_next"] for n in self.states], states)
        spikes = np.zeros(states.shape[1:], bool)
        for name in self._fired:
            spikes |= found[name] != 0
        return after, self._stacked([found[n] for n in self._charged], states), spikes

    def jacobian(self, states: Array, x: Inputs | None = None) -> tuple[Array, Array]:
        """Return dF/ds, (*, R, n, n), and dF/dx, (*, R, n, m), at s and x."""
        return self._silent.jacobian(states, x)

    def scale(self) -> Array:
        """Return the distance of the initial states to the threshold, (R,).

        It is |z| there, of the nearest of several spikes; 1 where that is 0 or not finite, or
        without spikes.
        """
        found = self._fire.run(self.start())
        each = [np.abs(found[n]) for n in self._outputs] if self.neuron.fire else []
        distance = np.min(self._stacked(each, self.start()), axis=0) if each else np.zeros(1)
        usable = np.isfinite(distance) & (distance > 0)
        return np.broadcast_to(np.where(usable, distance, 1.0), (self.rows,))

    def threshold(self) -> Array:
        """Return V of each set, (R,): the neuron fires where its charged potential is V or more.

        Other states have their initial values. The least V of several spikes counts. It is NaN if
        no z is an increasing line in the potential.
        """
        places = self.start()[:, None] + np.zeros((1, 4, 1))
        v = places[self.states.index(potential_of(self.neuron).name)]
        v += np.arange(-1.0, 3.0)[:, None] * self.scale()
        found = self._fire.run(places)
        lowest = np.full(self.rows, np.inf)
        for z in (np.broadcast_to(found[n], v.shape) for n in self._outputs):
            near = np.abs(z).argmin(0)[None]
            z0, v0 = (np.take_along_axis(a, near, 0)[0] for a in (z, v))
            with np.errstate(divide="ignore", invalid="ignore"):
                slope = (z[-1] - z[0]) / (v[-1] - v[0])
                bend = np.abs(z - z[0] - slope * (v - v[0])).max(0)
                level = v0 - z0 / slope
            is_line = (bend <= 1e-9 * np.abs(z).max(0)) & (slope > 0)
            lowest = np.where(is_line, np.fmin(level, lowest), lowest)
        return np.where(np.isfinite(lowest), lowest, np.nan)

    def _stacked(self, arrays: Sequence[Array], states: Array) -> Array:
        return np.stack([np.broadcast_to(a, states.shape[1:]) for a in arrays])


# Responses of neurons in time: of the linear step, and simulations with spikes and resets.
#
# An array over time has the shape (T, n, *, R).


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
