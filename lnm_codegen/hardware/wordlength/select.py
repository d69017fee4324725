"""Word lengths for a neuron: on an interval of inputs, with proof; or on data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import inf, isfinite
from typing import Any

import numpy as np

from lnm_codegen.analysis import (
    Escape,
    Interval,
    Invariant,
    Undecided,
    error_bounds,
    invariant,
    prepared_parameters,
    ranges,
)
from lnm_codegen.analysis.exact import nodes_of
from lnm_codegen.compiler.pipeline import lower
from lnm_codegen.errors import ModelError
from lnm_codegen.hardware.wordlength.sample import Sample, real_nodes, sample_of
from lnm_codegen.hardware.wordlength.wordlength import MOST_WIDTH, Target, WordLengths, choose
from lnm_codegen.ir.fixed import nodes as fx
from lnm_codegen.ir.operators import Role
from lnm_codegen.ir.types import Bits
from lnm_codegen.language.neuron import Neuron

STEPS, NEURONS, SEED = 64, 512, 0
"""The drive of a neuron that no data are given for: uniform in the interval of its input."""


@dataclass(frozen=True)
class Chosen:
    """Word lengths, and where the ranges come from.

    Attributes:
        words: What the search found.
        invariant: The certificate behind proven ranges; else why there is none, or None for data.
    """

    words: WordLengths
    invariant: Invariant | Escape | Undecided | None


def for_interval(
    neuron: Neuron,
    inputs: Mapping[str, tuple[float, float]],
    target: Target,
    *,
    values: Mapping[str, Any] | None = None,
    rounding: str = "half_up",
    scheme: str = "horner",
    most: int = MOST_WIDTH,
) -> Chosen:
    """Choose word lengths for inputs in given intervals.

    Where the states have an invariant interval, ranges and error bounds are proven; otherwise both
    are those of simulated steps, driven by inputs drawn uniformly, and the result says so.

    Raises:
        ModelError: An interval that is none, no format that reaches the target.
        UnsupportedError: A step without a fixed-point form.
    """
    found = invariant(neuron, inputs, values=values)
    rng = np.random.default_rng(SEED)
    x_seq = [rng.uniform(*inputs[s.name], (STEPS, 1, NEURONS)) for s in neuron.inputs]
    sample = sample_of(neuron, *x_seq, values=values, scheme=scheme)
    if not isinstance(found, Invariant):
        words = _on(neuron, sample, target, rounding=rounding, scheme=scheme, most=most)
        return Chosen(words, found)
    spans = ranges(neuron, states=found.states, inputs=found.inputs, values=values, scheme=scheme)
    spans = _with_room(spans, target, {s.name for s in neuron.inputs})
    parameters = prepared_parameters(neuron, values, scheme)

    def bounds(program: fx.Program) -> dict[str, float]:
        proven = error_bounds(
            program,
            parameters=parameters,
            states=found.states,
            inputs=found.inputs,
            errors={v.name: _half_unit(v) for v in program.kernel.input_vars(Role.INPUT)},
        )
        return {
            name: inf if node.saturates or node.after else float(node.bound)
            for name, node in proven.nodes.items()
        }

    words = choose(
        neuron, sample, target, spans, bounds=bounds, rounding=rounding, scheme=scheme, most=most
    )
    return Chosen(words, found)


def for_data(
    neuron: Neuron,
    *x_seq: Any,
    target: Target,
    values: Mapping[str, Any] | None = None,
    rounding: str = "half_up",
    scheme: str = "horner",
    most: int = MOST_WIDTH,
) -> Chosen:
    """Choose word lengths on sequences (T, N, *) that were recorded.

    Raises:
        ModelError: A potential that is not finite on them, no format that reaches the target.
        UnsupportedError: A step without a fixed-point form.
    """
    sample = sample_of(neuron, *x_seq, values=values, scheme=scheme)
    words = _on(neuron, sample, target, rounding=rounding, scheme=scheme, most=most)
    return Chosen(words, None)


def _on(
    neuron: Neuron, sample: Sample, target: Target, *, rounding: str, scheme: str, most: int
) -> WordLengths:
    kernel = nodes_of(lower(neuron, scheme))
    spans = {
        name: _recorded(f"{neuron.name}: {name}", array)
        for name, array in real_nodes(kernel, sample.first).items()
    }
    return choose(neuron, sample, target, spans, rounding=rounding, scheme=scheme, most=most)


def _recorded(what: str, array: Any) -> Interval:
    low, high = float(np.min(array)), float(np.max(array))
    if not (isfinite(low) and isfinite(high)):
        raise ModelError(
            f"{what} is not finite on these inputs. Narrow them, or give the family a clamp, such"
            " as v_min=-2."
        )
    return Interval(Fraction(low), Fraction(high))


def _half_unit(var: fx.Var) -> tuple[Fraction, Fraction]:
    """Return how far a real number may be from what it is rounded to."""
    assert isinstance(var.type, Bits)
    half = Fraction(1, 2 << var.type.frac)
    return -half, half


def _with_room(
    spans: Mapping[str, Interval], target: Target, inputs: set[str]
) -> dict[str, Interval]:
    """Leave room for the error of what is computed, so that it need not saturate."""
    room = Fraction(target.error if target.error else 2**-6)
    return {
        name: span
        if name in inputs or span.low == span.high
        else Interval(span.low - room, span.high + room)
        for name, span in spans.items()
    }
