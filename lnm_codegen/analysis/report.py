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
from lnm_codegen.analysis.ranges import Given, box_of, checked, kernel_of, kernel_ranges
from lnm_codegen.compiler.fixed import quantize
from lnm_codegen.errors import ModelError, UnsupportedError
from lnm_codegen.ir.fixed import nodes as fx
from lnm_codegen.ir.fixed.spec import FixedSpec
from lnm_codegen.ir.operators import Role
from lnm_codegen.ir.types import Fixed
from lnm_codegen.language.neuron import Neuron


@dataclass(frozen=True)
class FixedAnalysis:
    """A neuron in a fixed-point format.

    Attributes:
        spec: The formats.
        errors: Error bounds of every node.
        cut: State or input -> its interval, if it was cut to its format.
    """

    spec: Fixed | FixedSpec
    errors: ErrorBounds
    cut: dict[str, Interval]


@dataclass(frozen=True)
class Analysis:
    """Analysis of a neuron.

    Attributes:
        neuron: The definition.
        values: Parameters by name that differ from their `init`.
        scheme: "horner" or "estrin".
        inputs: Input -> interval.
        invariant: A certificate, an input sequence that breaks it, or neither.
        states: State -> interval for `ranges`, or None if none is known.
        ranges: Node -> range, or None without `states`.
        fixed_points: Fixed points at input 0 and at both ends; or the reason why there are none.
        fixed: Analysis in a fixed-point format, or None.
    """

    neuron: Neuron
    values: Mapping[str, Any]
    scheme: str
    inputs: dict[str, Interval]
    invariant: Invariant | Escape | Undecided
    states: dict[str, Interval] | None
    ranges: dict[str, Interval] | None
    fixed_points: tuple[FixedPoints, ...] | str
    fixed: FixedAnalysis | None


def analyze(
    neuron: Neuron,
    inputs: Given,
    *,
    states: Given | None = None,
    spec: Fixed | FixedSpec | None = None,
    values: Mapping[str, Any] | None = None,
    scheme: str = "horner",
) -> Analysis:
    """Analyse a neuron.

    Args:
        neuron: The definition.
        inputs: Input -> (low, high).
        states: State -> (low, high) for the ranges; the invariant intervals by default.
        spec: Formats for error bounds; none by default.
        values: Parameters by name; the declared `init` otherwise.
        scheme: "horner" or "estrin".

    Raises:
        ModelError: A name is missing or unknown, an interval is not finite or upside down, or a
            `spec` is given although no interval of the states is known.
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
        whole = box_of(neuron, kernel, states=over, inputs=box, values=values, scheme=scheme)
        found = kernel_ranges(kernel, whole)
    return Analysis(
        neuron=neuron,
        values=values or {},
        scheme=scheme,
        inputs=box,
        invariant=verdict,
        states=over,
        ranges=found,
        fixed_points=_fixed_points(neuron, box, values),
        fixed=None if spec is None else _fixed(neuron, spec, over, box, values, scheme),
    )


def _fixed_points(
    neuron: Neuron, inputs: Mapping[str, Interval], values: Mapping[str, Any] | None
) -> tuple[FixedPoints, ...] | str:
    constants = [dict.fromkeys(inputs, Fraction(0))]
    constants += [{n: i.low for n, i in inputs.items()}, {n: i.high for n, i in inputs.items()}]
    different = [c for k, c in enumerate(constants) if c not in constants[:k]]
    try:
        return tuple(fixed_points(neuron, c, values=values) for c in different)
    except UnsupportedError as error:
        return str(error)


def _fixed(
    neuron: Neuron,
    spec: Fixed | FixedSpec,
    states: Mapping[str, Interval] | None,
    inputs: Mapping[str, Interval],
    values: Mapping[str, Any] | None,
    scheme: str,
) -> FixedAnalysis:
    if states is None:
        raise ModelError(
            neuron.name,
            "no interval of the states is known, so errors have no bound",
            remedy="Give states, for example --state v=-2,1 on the command line.",
        )
    program = quantize(neuron, spec, scheme)
    cut: dict[str, Interval] = {}
    boxes = [
        {n: _within(program, n, i, cut) for n, i in given.items()} for given in (states, inputs)
    ]
    parameters = prepared_parameters(neuron, values, scheme)
    bounds = error_bounds(program, parameters=parameters, states=boxes[0], inputs=boxes[1])
    return FixedAnalysis(spec, bounds, cut)


def _within(program: fx.Program, name: str, given: Interval, cut: dict[str, Interval]) -> Interval:
    """Return the part of an interval that the port's format holds."""
    bits = next(fx.bits_of(p.var) for p in program.kernel.inputs if p.var.name == name)
    inside = meet(given, Interval(*bits.interval))
    if inside is None:
        raise ModelError(
            program.name,
            f"{name!r} lies in {given}, outside {bits}",
            f"values in {Interval(*bits.interval)}",
            "Give more integer bits.",
        )
    if inside != given:
        cut[name] = inside
    return inside
