"""Word lengths of a neuron: for inputs in given intervals, with proof; or for recorded data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import inf, isfinite
from typing import Any

import numpy as np

from lnm_codegen.analysis.error import error_bounds
from lnm_codegen.analysis.exact import nodes_of, prepared_parameters
from lnm_codegen.analysis.interval import Interval, hull
from lnm_codegen.analysis.invariant import Escape, Invariant, Undecided, invariant
from lnm_codegen.analysis.ranges import ranges
from lnm_codegen.compiler.pipeline import lower
from lnm_codegen.compiler.stimulus import spiking_scale
from lnm_codegen.errors import ModelError
from lnm_codegen.hardware.wordlength.sample import (
    Sample,
    StepErrors,
    real_steps,
    sample_of,
    sampled_rates,
)
from lnm_codegen.hardware.wordlength.search import (
    DEFAULTS,
    FormatSearch,
    PrecisionTarget,
    SearchOptions,
    WordLengths,
)
from lnm_codegen.ir.fixed import nodes as fx
from lnm_codegen.ir.kernel import Role
from lnm_codegen.language.neuron import Neuron

STEPS, NEURONS, SEED = 64, 512, 0
"""Size and seed of simulated inputs, which are uniform in the interval of each input."""

HOW = " with --x"
"""Way to give inputs in the command."""
WIDTH, TRIALS = 2.0, 64
"""Largest input by default, and neurons on which the scale of another one is tried."""


@dataclass(frozen=True)
class FormatSelection:
    """Selected word lengths, with the certificate of proven ranges or the reason why none."""

    words: WordLengths
    invariant: Invariant | Escape | Undecided | None  # None for recorded data
    inputs: dict[str, tuple[float, float]]  # input -> interval, or its range in recorded data
    rates: dict[str, float]  # spike -> share of the sample's steps in which it occurs


def spiking_inputs(neuron: Neuron) -> dict[str, tuple[float, float]]:
    """Return an interval [-X, X] for each input, in which uniform inputs make a neuron spike.

    X is 2, or 2 times the power of 2 that `spiking_scale` finds.
    """
    rng = np.random.default_rng(SEED)
    x_seq = [rng.uniform(-WIDTH, WIDTH, (STEPS, 1, TRIALS)) for _ in neuron.inputs]
    largest = WIDTH * spiking_scale(neuron, *x_seq).scale
    return {s.name: (-largest, largest) for s in neuron.inputs}


def select_for_intervals(
    neuron: Neuron,
    inputs: Mapping[str, tuple[float, float]],
    target: PrecisionTarget,
    *,
    options: SearchOptions = DEFAULTS,
) -> FormatSelection:
    """Select word lengths for inputs in given intervals.

    If the states have an invariant interval, ranges and error bounds are proven. Otherwise both
    come from simulated steps, with inputs drawn uniformly.

    Raises:
        ModelError: An interval is invalid, no format reaches the target, or the neuron does not
            spike in the sample on which the result depends.
        UnsupportedError: The step has no fixed-point form.
    """
    found = invariant(neuron, inputs)
    rng = np.random.default_rng(SEED)
    x_seq = [rng.uniform(*inputs[s.name], (STEPS, 1, NEURONS)) for s in neuron.inputs]
    sample = sample_of(neuron, *x_seq, scheme=options.scheme)
    rates = sampled_rates(neuron, sample, options.scheme)
    given = {s.name: inputs[s.name] for s in neuron.inputs}
    if target.error is None or not isinstance(found, Invariant):
        _require_spikes(neuron, given, rates, target, HOW)
    if not isinstance(found, Invariant):
        words = _on_sample(neuron, sample, target, options, HOW)
        return FormatSelection(words, found, given, rates)
    scheme = options.scheme
    spans = ranges(neuron, states=found.states, inputs=found.inputs, scheme=scheme)
    spans = _widened(spans, target, {s.name for s in neuron.inputs})
    parameters = prepared_parameters(neuron, scheme=scheme)

    def bounds(program: fx.Program) -> StepErrors:
        bits = {v.name: fx.bits_of(v) for v in program.kernel.input_vars(Role.INPUT)}
        half = {n: (-Fraction(1, 2 << b.frac), Fraction(1, 2 << b.frac)) for n, b in bits.items()}
        proven = error_bounds(
            program,
            parameters=parameters,
            states=_on_grid(found.states, program.kernel),
            inputs=found.inputs,
            errors=half,
        )
        errors = {
            name: inf if node.saturates or node.after else float(node.bound)
            for name, node in proven.nodes.items()
        }
        margins = (inf if d.after else float(d.margin) for d in proven.decisions.values())
        return StepErrors(errors, max(margins, default=0.0))

    search = FormatSearch(neuron, sample, target, spans, bounds=bounds, options=options)
    return FormatSelection(search.result(), found, given, rates)


def _on_grid(states: Mapping[str, Interval], kernel: fx.Kernel) -> dict[str, Interval]:
    """Return intervals that also hold their ends rounded to the formats of the states."""
    found = {}
    for var in kernel.input_vars(Role.STATE):
        bits, span = fx.bits_of(var), states[var.name]
        low, high = (bits.value(bits.nearest(end)) for end in (span.low, span.high))
        found[var.name] = hull([span, Interval(low, high)])
    return found


def _require_spikes(
    neuron: Neuron,
    inputs: Mapping[str, tuple[float, float]],
    rates: Mapping[str, float],
    target: PrecisionTarget,
    how: str = "",
) -> None:
    """Raise ModelError if the sample has no spike; `how` says how to give other inputs.

    A circuit that never spikes would then have no mismatch. Where the target is an error, ranges
    of the sample need a spike for the nodes of a reset.
    """
    if not neuron.fire and target.mismatch is not None:
        problem = "the neuron has no spike, so that every format has a mismatch of 0"
        raise ModelError(neuron.name, problem, remedy="Give an error as the target, --error.")
    if rates and not any(rates.values()):
        given = ", ".join(f"{name} in [{low:g}, {high:g}]" for name, (low, high) in inputs.items())
        problem = f"no step has a spike for {given}"
        raise ModelError(neuron.name, problem, remedy=f"Give inputs that make it spike{how}.")


def select_for_data(
    neuron: Neuron,
    *x_seq: Any,
    target: PrecisionTarget,
    values: Mapping[str, Any] | None = None,
    options: SearchOptions = DEFAULTS,
) -> FormatSelection:
    """Select word lengths for recorded sequences (T, N, *), on which potentials must be finite.

    Raises:
        ModelError: No format reaches the target, or the target is a mismatch and no spike occurs.
        UnsupportedError: The step has no fixed-point form.
    """
    sample = sample_of(neuron, *x_seq, values=values, scheme=options.scheme)
    spans = {n: (float(x.min()), float(x.max())) for n, x in sample.inputs.items()}
    rates = sampled_rates(neuron, sample, options.scheme)
    if target.mismatch is not None:
        _require_spikes(neuron, spans, rates, target)
    return FormatSelection(_on_sample(neuron, sample, target, options), None, spans, rates)


def _on_sample(
    neuron: Neuron,
    sample: Sample,
    target: PrecisionTarget,
    options: SearchOptions,
    how: str = "",
) -> WordLengths:
    spans: dict[str, Interval] = {}
    for nodes in real_steps(nodes_of(lower(neuron, options.scheme)), sample):
        for node, array in nodes.items():
            low, high = float(np.min(array)), float(np.max(array))
            if not (isfinite(low) and isfinite(high)):
                raise ModelError(
                    neuron.name,
                    f"{node} is not finite on these inputs",
                    remedy=f"Narrow them{how}, or bound the states with lnm.clip in the charge"
                    " (v_min in the family lnm).",
                )
            span = Interval(Fraction(low), Fraction(high))
            spans[node] = hull([spans[node], span]) if node in spans else span
    return FormatSearch(neuron, sample, target, spans, options=options).result()


def _widened(
    spans: Mapping[str, Interval], target: PrecisionTarget, inputs: set[str]
) -> dict[str, Interval]:
    """Widen the ranges of computed nodes by the error, so that they need not saturate."""
    margin = Fraction(target.error if target.error else 2**-6)
    return {
        name: span
        if name in inputs or span.low == span.high
        else Interval(span.low - margin, span.high + margin)
        for name, span in spans.items()
    }
