"""Samples of short runs, in which a fixed-point program is compared with real arithmetic.

Both arithmetics begin a run from the same states, those of a float64 simulation. A run ends when a
spike differs, so that one difference does not cause later ones. A run is longer than one step, so
that it also detects an error of a state whose effect on a spike is delayed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lnm_codegen.analysis.error import decisions_before
from lnm_codegen.analysis.exact import exact
from lnm_codegen.compiler.arguments import extent_of, parameters_of
from lnm_codegen.compiler.fixed import FixedNeuron, integers
from lnm_codegen.compiler.interpret import broadcast_to_neurons, interpret
from lnm_codegen.compiler.pipeline import lower
from lnm_codegen.compiler.stimulus import spike_names
from lnm_codegen.errors import ShapeError
from lnm_codegen.ir import nodes as ir
from lnm_codegen.ir.declarations import Extent
from lnm_codegen.ir.fixed import nodes as fx
from lnm_codegen.ir.interpret import Array, run, trace
from lnm_codegen.ir.types import BOOL, Bits
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.options import SchemeName

WINDOW = 8
"""Largest number of steps of a run."""

MISMATCH_NOTE = (
    f"mismatch: on runs of at most {WINDOW} steps from states of a float64 simulation, each to its"
    " first difference; over longer free runs more spikes differ, mainly with slow states"
)


@dataclass(frozen=True)
class Sample:
    """P runs of W steps of a neuron, in float64."""

    states: dict[str, Array]  # state -> values before the run, (P,)
    inputs: dict[str, Array]  # input -> values, (W, P)
    coefficients: dict[str, Array]  # prepared parameter -> value, or values (P,)
    spikes: tuple[str, ...]  # Lets that decide a spike
    keeps: Callable[[fx.Program], bool] = lambda program: True
    """Reports whether a program keeps the numbers that the neuron needs on the sequences."""

    def at(self, step: int, states: Mapping[str, Array]) -> dict[str, Array]:
        """Return every input of a step by name, given the states before it."""
        return {**states, **{n: x[step] for n, x in self.inputs.items()}, **self.coefficients}


def sample_of(
    neuron: Neuron,
    *x_seq: Any,
    values: Mapping[str, Any] | None = None,
    scheme: SchemeName = "horner",
    window: int = WINDOW,
    max_runs: int = 20_000,
    seed: int = 0,
) -> Sample:
    """Return runs of a neuron on sequences (T, N, *), one per input, in float64.

    `values`: as for `lnm.interpret`. A run has `window` steps, at most T/2 (or 1), so that runs of
    short sequences also begin from later states. If there are more than `max_runs` runs, a random
    subset is drawn.
    """
    given = dict(values or {})
    result = interpret(neuron, *x_seq, scheme=scheme, **given)
    arrays = [np.asarray(x, np.float64) for x in x_seq]
    shape = arrays[0].shape
    extent = extent_of(neuron.params, shape)
    raw = parameters_of(neuron, given, extent, np.dtype("float64"))
    prepared = run(lower(neuron, scheme).prepare, raw)
    window = min(window, (shape[0] + 1) // 2)
    lanes = int(np.prod(shape[1:], dtype=int))
    runs = (shape[0] - window + 1) * lanes
    if window < 1 or lanes < 1:
        raise ShapeError(neuron.name, f"x_seq has shape {shape}: no step", "one step or more")
    selected = np.arange(runs)
    if runs > max_runs:
        selected = np.sort(np.random.default_rng(seed).choice(runs, max_runs, replace=False))
    start, lane = selected // lanes, selected % lanes

    def drawn(array: Array, step: int) -> Array:
        return np.asarray(np.broadcast_to(array, shape).reshape(shape[0], -1)[start + step, lane])

    def keeps(program: fx.Program) -> bool:
        one = Extent(1, extent.channels, extent.inner)
        own = {
            s.name: np.broadcast_to(x, shape) for s, x in zip(neuron.inputs, arrays, strict=True)
        }
        flat = {n: x.reshape(shape[0], -1, one.neurons) for n, x in own.items()}
        return not FixedNeuron(neuron, program, one, raw).needed(flat, resolved=False)[0]

    return Sample(
        keeps=keeps,
        states={n: drawn(a, 0) for n, a in result.trajectory.items()},
        inputs={
            s.name: np.stack([drawn(a, k) for k in range(window)])
            for s, a in zip(neuron.inputs, arrays, strict=True)
        },
        coefficients={n: a[lane] for n, a in broadcast_to_neurons(prepared, extent).items()},
        spikes=tuple(spike_names(neuron)),
    )


@dataclass(frozen=True)
class StepErrors:
    """Errors of one step of a fixed-point program from the same state as real arithmetic.

    The error of a node is that of steps in which every comparison that the node depends on has the
    same outcome in both arithmetics. Where one differs, the node may jump. Comparisons of clamps do
    not count: their branches are equal at the limit.
    """

    errors: Mapping[str, float]  # node -> largest error
    margin: float  # largest error of the difference of a comparison's operands

    def largest(self, nodes: Iterable[str]) -> float:
        """Return the largest error of some nodes."""
        return max((self.errors[name] for name in nodes), default=0.0)


@dataclass(frozen=True)
class Observed(StepErrors):
    """Differences between a fixed-point program and real arithmetic, on the first step of runs.

    The mismatch is that of whole runs, which end at their first difference: the number of steps in
    which a spike differs, divided by the number of steps with a spike in real arithmetic, or by 1
    if there is none. A circuit that never spikes has a mismatch of 1.
    """

    differing: float | None  # share of steps in which a comparison differs; None without one
    mismatch: float  # share of spikes that differ; above 1 where others than these differ
    saturated: dict[str, float]  # node -> share of steps with exact values outside its format


def real_steps(kernel: ir.Kernel, sample: Sample) -> Iterator[dict[str, Array]]:
    """Yield the nodes of every step of the runs, each from the states that the last one left."""
    states: Mapping[str, Array] = sample.states
    for t in range(len(next(iter(sample.inputs.values())))):
        nodes = trace(kernel, sample.at(t, states))
        yield nodes
        states = {name: nodes[f"{name}_next"] for name in states}


def sampled_rates(
    neuron: Neuron, sample: Sample, scheme: SchemeName = "horner"
) -> dict[str, float]:
    """Return spike -> share of the sample's steps in which it occurs, in float64."""
    steps = list(real_steps(lower(neuron, scheme).forward, sample))
    shape = next(iter(sample.inputs.values())).shape
    return {
        spike: float(np.mean([np.broadcast_to(nodes[let], shape[1:]) for nodes in steps]))
        for let, spike in spike_names(neuron).items()
    }


def observed(program: fx.Program, sample: Sample, *, on_grid: bool = False) -> Observed:
    """Run both arithmetics from the same states on the same inputs, and compare every node.

    The fixed-point run rounds states, inputs and coefficients to their formats; the real run does
    not. With `on_grid` both runs begin from rounded states, as a proven bound assumes.
    """
    kernel = program.kernel
    shown = _with_comparisons(kernel)
    exactly = exact(shown)
    names = {p.var.name for p in kernel.inputs}
    if on_grid:
        near = {}
        for name, array in sample.states.items():
            near[name] = integers(array, kernel.bits(name)) / 2.0 ** kernel.bits(name).frac
        sample = replace(sample, states=near)
    runs = next(iter(sample.inputs.values())).shape
    alive = np.ones(runs[1], np.bool_)
    spiking = differing = 0
    real_states: Mapping[str, Array] = sample.states
    states = {n: integers(v, kernel.bits(n)) for n, v in sample.states.items()}
    for t in range(runs[0]):
        expected = trace(exactly, sample.at(t, real_states))
        given = {n: integers(v, kernel.bits(n)) for n, v in sample.at(t, {}).items() if n in names}
        found = trace(shown, given | states)
        spikes = _spikes(sample, expected)
        differs = np.any(spikes != _spikes(sample, found), 0)
        if t == 0:
            flipped, margin = _flipped(kernel, shown, found, expected, runs[1])
            errors, saturated = _compared(kernel, found, expected, flipped, runs[1])
            share = float(np.mean(np.any([*flipped.values()], 0))) if flipped else None
        spiking += int((alive & np.any(spikes, 0)).sum())
        differing += int((alive & differs).sum())
        alive &= ~differs
        real_states = {n: np.broadcast_to(expected[f"{n}_next"], runs[1:]) for n in states}
        states = {n: np.broadcast_to(found[f"{n}_next"], runs[1:]) for n in states}
    return Observed(errors, margin, share, differing / max(spiking, 1), saturated)


def _spikes(sample: Sample, nodes: Mapping[str, Array]) -> Array:
    """Return whether each spike occurs in a step of each run, (S, P)."""
    spikes = np.zeros((len(sample.spikes), *next(iter(sample.inputs.values())).shape[1:]), np.bool_)
    for row, name in zip(spikes, sample.spikes, strict=True):
        row[:] = nodes[name]
    return spikes


def _with_comparisons(kernel: fx.Kernel) -> fx.Kernel:
    """Return a kernel with Lets of each comparison, `<name>?<k>`, and of its operands."""
    body: list[fx.Let] = []
    for let in kernel.body:
        inside = (e for e in fx.walk(let.value) if isinstance(e, fx.Compare))
        for k, e in enumerate(inside):
            name = f"{let.target.name}?{k}"
            body.append(fx.Let(fx.Var(name, BOOL), e, let.phase))
            for word, operand in (("lhs", e.lhs), ("rhs", e.rhs)):
                var = fx.Var(f"{name}.{word}", fx.bits_of(operand))
                body.append(fx.Let(var, operand, let.phase))
        body.append(let)
    return replace(kernel, body=tuple(body))


def _flipped(
    kernel: fx.Kernel,
    shown: fx.Kernel,
    found: Mapping[str, Array],
    expected: Mapping[str, Array],
    count: int,
) -> tuple[dict[str, Array], float]:
    """Return node -> whether a comparison before it differs, for each run; and the margin.

    Nodes without a comparison are absent. `shown` is the kernel with its comparisons.
    """
    before = {node: names for node, names in decisions_before(kernel).items() if names}
    owners = {name for names in before.values() for name in names}
    differs = {name: np.zeros(count, np.bool_) for name in owners}
    margin = 0.0
    for let in shown.body:
        name = let.target.name
        owner, mark, _ = name.partition("?")
        if mark and owner in owners and isinstance(let.value, fx.Compare):
            differs[owner] = differs[owner] | (np.asarray(found[name]) != expected[name])
            unit = 2.0 ** -fx.bits_of(let.value.lhs).frac
            own = (found[f"{name}.lhs"] - found[f"{name}.rhs"]) * unit
            gap = np.abs(own - (expected[f"{name}.lhs"] - expected[f"{name}.rhs"]))
            margin = max(margin, float(np.max(gap)))
    return {node: np.any([differs[n] for n in names], 0) for node, names in before.items()}, margin


def _compared(
    kernel: fx.Kernel,
    found: Mapping[str, Array],
    expected: Mapping[str, Array],
    flipped: Mapping[str, Array],
    count: int,
) -> tuple[dict[str, float], dict[str, float]]:
    """Return the errors and the saturated shares of `Observed`."""
    variables = [p.var for p in kernel.inputs] + [let.target for let in kernel.body]
    errors, saturated = {}, {}
    for var in variables:
        if isinstance(var.type, Bits):
            low, high = (float(end) for end in var.type.interval)
            half = 2.0 ** -(var.type.frac + 1)
            exactly = expected[var.name]
            gap = np.abs(found[var.name] / 2.0**var.type.frac - exactly)
            gap = np.broadcast_to(gap, count)
            if var.name in flipped:
                gap = gap[~flipped[var.name]]
            errors[var.name] = float(gap.max(initial=0.0))
            outside = (exactly < low - half) | (exactly > high + half)
            saturated[var.name] = float(np.mean(outside))
    return errors, saturated
