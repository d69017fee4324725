"""Analysis of a neuron for `lnm analyze`, as data; the command line prints it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from lnm_codegen.analysis.arithmetic.interval import Interval, meet
from lnm_codegen.analysis.error import ErrorBounds, error_bounds
from lnm_codegen.analysis.escape import Escape
from lnm_codegen.analysis.exact import prepared_parameters
from lnm_codegen.analysis.fixed_points import FixedPoints, fixed_points
from lnm_codegen.analysis.invariant import Invariant, Undecided, invariant
from lnm_codegen.analysis.linear.report import LinearAnalysis, linear_analysis
from lnm_codegen.analysis.linear.threshold import ThresholdGradient, threshold_gradient
from lnm_codegen.analysis.ranges import Given, checked, kernel_of, ranges
from lnm_codegen.compiler.fixed import program_of
from lnm_codegen.errors import ModelError, UnsupportedError
from lnm_codegen.ir.fixed import nodes as fx
from lnm_codegen.ir.operators import Role
from lnm_codegen.ir.types import Fixed, FixedSpec
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.options import SchemeName


@dataclass(frozen=True)
class FixedAnalysis:
    """A neuron in a fixed-point format."""

    spec: Fixed | FixedSpec
    errors: ErrorBounds
    cut: dict[str, Interval]  # state or input -> its interval, if it was cut to its format


@dataclass(frozen=True)
class Analysis:
    """Analysis of a neuron."""

    neuron: Neuron
    values: Mapping[str, Any]  # parameters by name that differ from their `init`
    scheme: SchemeName
    inputs: dict[str, Interval]
    invariant: Invariant | Escape | Undecided
    states: dict[str, Interval] | None  # over which `ranges` hold
    ranges: dict[str, Interval] | None  # node -> range
    fixed_points: tuple[FixedPoints, ...] | str  # at input 0 and at both ends; or why none
    linear: LinearAnalysis | None  # of a neuron with several states
    threshold: ThresholdGradient
    fixed: FixedAnalysis | None


def analyze(
    neuron: Neuron,
    inputs: Given,
    *,
    states: Given | None = None,
    spec: Fixed | FixedSpec | None = None,
    values: Mapping[str, Any] | None = None,
    scheme: SchemeName = "horner",
) -> Analysis:
    """Analyse a neuron for inputs in intervals, with the arguments of `ranges`.

    `states` are the invariant intervals by default. `spec` are formats for error bounds.

    Raises:
        ModelError: As for `ranges`, or a `spec` is given and no interval of the states is known.
        UnsupportedError: A function is not monotone; with `spec`, there is no fixed-point form.
    """
    kernel = kernel_of(neuron, scheme)
    box = checked(neuron.name, kernel, Role.INPUT, inputs)
    verdict = invariant(neuron, box, values=values)
    over: dict[str, Interval] | None = None
    if states is not None:
        over = checked(neuron.name, kernel, Role.STATE, states)
    elif isinstance(verdict, Invariant):
        over = verdict.states
    found = None
    if over is not None:
        found = ranges(neuron, states=over, inputs=box, values=values, scheme=scheme)
    return Analysis(
        neuron=neuron,
        values=values or {},
        scheme=scheme,
        inputs=box,
        invariant=verdict,
        states=over,
        ranges=found,
        fixed_points=_fixed_points(neuron, box, values),
        linear=linear_analysis(neuron, _constants(box), values) if len(neuron.states) > 1 else None,
        threshold=threshold_gradient(neuron, values),
        fixed=None if spec is None else _fixed(neuron, spec, over, box, values, scheme),
    )


def _fixed_points(
    neuron: Neuron, inputs: Mapping[str, Interval], values: Mapping[str, Any] | None
) -> tuple[FixedPoints, ...] | str:
    try:
        return tuple(fixed_points(neuron, c, values=values) for c in _constants(inputs))
    except UnsupportedError as error:
        return str(error)


def _constants(inputs: Mapping[str, Interval]) -> list[dict[str, Fraction]]:
    """Return the constant inputs of fixed points: 0, and both ends."""
    found = [dict.fromkeys(inputs, Fraction(0))]
    found += [{n: i.low for n, i in inputs.items()}, {n: i.high for n, i in inputs.items()}]
    return [c for k, c in enumerate(found) if c not in found[:k]]


def _fixed(
    neuron: Neuron,
    spec: Fixed | FixedSpec,
    states: Mapping[str, Interval] | None,
    inputs: Mapping[str, Interval],
    values: Mapping[str, Any] | None,
    scheme: SchemeName,
) -> FixedAnalysis:
    if states is None:
        raise ModelError(
            neuron.name,
            "no interval of the states is known, so errors have no bound",
            remedy="Give states, for example --state v=-2,1 on the command line.",
        )
    program = program_of(neuron, spec, scheme)
    formats = {p.var.name: fx.bits_of(p.var) for p in program.kernel.inputs}
    whole, inside = {**states, **inputs}, {}
    for name, given in whole.items():
        holds = Interval(*formats[name].interval)
        found = meet(given, holds)
        if found is None:
            problem = f"{name!r} lies in {given}, outside {formats[name]}"
            accepted, remedy = f"values in {holds}", "Give more integer bits."
            raise ModelError(program.name, problem, accepted, remedy)
        inside[name] = found
    bounds = error_bounds(
        program,
        parameters=prepared_parameters(neuron, values, scheme),
        states={n: inside[n] for n in states},
        inputs={n: inside[n] for n in inputs},
    )
    return FixedAnalysis(spec, bounds, {n: i for n, i in inside.items() if i != whole[n]})
