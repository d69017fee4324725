"""Random inputs at which a neuron spikes: their scale, and the values of every step.

A comparison in which no spike occurs says nothing about spikes and resets. The scale is found by
trial: powers of 2, on a few neurons, in float64.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, cast

import numpy as np

from lnm_codegen.compiler.arguments import extent_of, parameters_of
from lnm_codegen.compiler.build import build
from lnm_codegen.compiler.interpret import broadcast_to_neurons, interpret
from lnm_codegen.compiler.pipeline import lower
from lnm_codegen.ir import nodes as ir
from lnm_codegen.ir.declarations import State
from lnm_codegen.ir.interpret import Array, run
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.language.symbols import Declared
from lnm_codegen.validation import is_number

ENOUGH = 0.02
"""Share of neurons and steps in which each spike must occur, and in which it must be absent."""

DOUBLINGS = 20
"""Powers of 2 that are tried in each direction."""

BOUND = 100.0
"""Largest potential of a neuron that has not diverged, in units of `unit_of` or of the scale."""


@dataclass(frozen=True)
class Drive:
    """Scale of inputs, and the share of neurons and steps in which each spike occurs."""

    scale: float
    rates: dict[str, float]  # spike -> 0 to 1; empty if every neuron diverges


def spiking_scale(
    neuron: Neuron,
    *x_seq: Array,
    values: Mapping[str, Any] | None = None,
    state: Mapping[str, Any] | None = None,
    least_kept: float = 1.0,
) -> Drive:
    """Return the power of 2 that makes a neuron spike if its inputs are multiplied by it.

    The scale is 1 if each spike then occurs in `ENOUGH` of neurons and steps, and is absent in as
    many. Otherwise larger and smaller scales follow until one meets this. If none does, the scale
    is the one that comes nearest, or 1 if that is not nearer. A neuron without spikes has scale 1.

    Args:
        neuron: The definition.
        x_seq: Inputs (T, N, *) of scale 1, one array for each.
        values: Parameters by name, as for `lnm.interpret`.
        state: Initial states by name, as for `lnm.interpret`.
        least_kept: Least share of neurons that do not diverge at another scale than 1.
    """
    if not neuron.fire:
        return Drive(1.0, {})

    def tried(scale: float) -> tuple[Drive, float]:
        found = step_values(neuron, [scale * x for x in x_seq], values, state)
        kept = ~diverged(neuron, found, scale)
        names = spike_names(neuron).items() if kept.any() else ()
        rates = {spike: float(found[let][:, kept].mean()) for let, spike in names}
        suits = scale == 1 or kept.mean() >= least_kept
        suitability = sum(min(rate, 1 - rate, ENOUGH) for rate in rates.values())
        return Drive(scale, rates), suitability if suits else 0.0

    best, most = tried(1.0)
    scales = [[2.0**k for k in range(1, DOUBLINGS + 1)], [2.0**-k for k in range(1, DOUBLINGS + 1)]]
    if not best.rates or min(best.rates.values()) >= ENOUGH:  # it diverges, or spikes too often
        scales.reverse()
    wanted = ENOUGH * len(spike_names(neuron))
    for scale in (s for direction in scales for s in direction):
        if most >= wanted:
            break
        drive, suitability = tried(scale)
        if suitability > most:
            best, most = drive, suitability
    return best


def step_values(
    neuron: Neuron,
    x_seq: Sequence[Array],
    values: Mapping[str, Any] | None = None,
    state: Mapping[str, Any] | None = None,
    more: Sequence[ir.Let] = (),
) -> dict[str, Array]:
    """Return each Let of the forward kernel at every step, (T, N, *), in float64.

    The states before each step are those of the interpreter. `more` are further Lets.
    """
    program, shape = lower(neuron), x_seq[0].shape
    given = dict(values or {})
    extent = extent_of(neuron.params, shape)
    raw = parameters_of(neuron, given, extent, np.dtype(np.float64))
    table = broadcast_to_neurons(run(program.prepare, raw), extent)
    states = interpret(neuron, *x_seq, state=state, **given).trajectory
    body = (*program.forward.body, *more)
    results = tuple(ir.Port(let.target, ir.Role.OUTPUT) for let in body)
    kernel = replace(program.forward, body=body, results=results)
    inputs = {s.name: x for s, x in zip(neuron.inputs, x_seq, strict=True)}
    lanes = {n: v.reshape(shape[1:]) for n, v in table.items()}
    found = run(kernel, {**lanes, **inputs, **states})
    return {n: np.broadcast_to(v, shape) for n, v in found.items()}


@lru_cache(maxsize=256)
def spike_names(neuron: Neuron) -> dict[str, str]:
    """Return the Let of the forward kernel that decides each spike -> name of the spike."""
    made, kept = (
        [let.target.name for let in kernel.body if isinstance(let.value, ir.Spike)]
        for kernel in (build(neuron), lower(neuron).forward)
    )
    names = dict(zip(made, neuron.spikes, strict=True))
    return {let: names[let] for let in kept}


def diverged(neuron: Neuron, found: Mapping[str, Array], scale: float) -> Array:
    """Return the neurons (N, *) of `step_values` with a state beyond the bound, or NaN."""
    bound = bound_of(neuron, scale)
    ends = [found[f"{s.name}_next"] for s in neuron.states]
    kept: Array = np.all([np.abs(v) <= bound for v in ends], axis=(0, 1))
    return ~kept


def bound_of(neuron: Neuron, scale: float) -> float:
    """Return the largest state of a neuron that has not diverged, for inputs of a scale."""
    return BOUND * max(unit_of(neuron), scale)


def unit_of(neuron: Neuron) -> float:
    """Return the size of the states: the largest declared initial value, at least 1."""
    return max([1.0, *(abs(init_of(s)) for s in neuron.states)])


def init_of(state: Declared) -> float:
    """Return the declared initial value of a state; 0 for a function."""
    init = cast("State", state.decl).init
    return float(cast("float", init)) if is_number(init) else 0.0


def starts_of(neuron: Neuron) -> dict[str, tuple[float, float]]:
    """Return middle and half width of random initial values of each state.

    The half width is 1/2. The middle is the declared value where that is large, or 0. A neuron in
    large units, such as mV, may have states in smaller ones, such as the gates of ion channels:
    there the middle is every declared value, and the half width at most half of it.
    """
    found = {}
    for state in neuron.states:
        init = init_of(state)
        if unit_of(neuron) == 1:
            found[state.name] = (init if abs(init) > 0.5 else 0.0, 0.5)
        else:
            found[state.name] = (init, min(0.5, abs(init) / 2 or 0.5))
    return found
