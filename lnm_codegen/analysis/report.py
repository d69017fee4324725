"""Analysis of a neuron for `lnm analyze`, as data; the command line prints it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, TypeAlias

import numpy as np

from lnm_codegen.analysis.charge import potential_of
from lnm_codegen.analysis.error import ErrorBounds, error_bounds
from lnm_codegen.analysis.exact import prepared_parameters
from lnm_codegen.analysis.fixed_points import FixedPoints, fixed_points
from lnm_codegen.analysis.interval import Interval, meet
from lnm_codegen.analysis.invariant import Escape, Invariant, Undecided, invariant
from lnm_codegen.analysis.linear.modes import (
    Modes,
    Pole,
    distinct_points,
    eigenvalues,
    find_points,
    modes_of_step,
    stability,
)
from lnm_codegen.analysis.linear.step import StepMap, Values, impulse_response, linear_step_response
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


# Linear part of `lnm analyze FAMILY`: poles, fixed points and responses, as data.


RESPONSE_STEPS, _SHOWN = 64, 12
"""Steps of the responses, and of a response as text."""

Deviations: TypeAlias = dict[str, list[float]]
"""State -> its deviation after each step."""


@dataclass(frozen=True)
class StatePoint:
    """A fixed point of the step without a spike.

    Attributes:
        states: State -> its value.
        poles: Poles of the Jacobian there, by falling modulus.
        kind: "stable", "unstable" or "neutral": the greatest modulus against 1.
        fires: The neuron fires there, and the reset follows.
    """

    states: dict[str, float]
    poles: tuple[Pole, ...]
    kind: str
    fires: bool


@dataclass(frozen=True)
class LinearAnalysis:
    """Linear analysis of a neuron with several states.

    Attributes:
        modes: Point, Jacobian, poles and class; R = 1.
        points: Fixed points found at each constant input; see `points` for the search.
        impulse: State -> its deviation after each of `RESPONSE_STEPS` steps of the linear step at
            the point, for an impulse of 1 of the first input.
        step: The same for a constant 1.
    """

    modes: Modes
    points: tuple[tuple[dict[str, float], tuple[StatePoint, ...]], ...]
    impulse: Deviations
    step: Deviations

    @property
    def poles(self) -> tuple[Pole, ...]:
        """Poles at the point."""
        return self.modes.poles()

    @property
    def label(self) -> str:
        """Class, one of `classes.POLE_CLASSES`."""
        return self.modes.labels[0]


def linear_analysis(
    neuron: Neuron, constants: Iterable[Mapping[str, Any]], values: Values | None = None
) -> LinearAnalysis:
    """Return the linear analysis of a neuron.

    Args:
        neuron: A neuron with one state or more.
        constants: Constant inputs at which fixed points are searched.
        values: Parameters, one value each; the declared `init` otherwise.

    Raises:
        ModelError: A parameter is unknown, or a function initialises it.
        UnsupportedError: The neuron has no state.
    """
    step = StepMap(neuron, values)
    modes = modes_of_step(step)
    found = []
    for constant in constants:
        x = {n: float(v) for n, v in constant.items()}
        found.append((x, _points(step, x)))
    return LinearAnalysis(modes, tuple(found), *linear_responses(modes))


def linear_responses(modes: Modes, row: int = 0) -> tuple[Deviations, Deviations]:
    """Return the impulse response and the step response of one set; see `LinearAnalysis`."""
    matrix, gain = modes.matrix[row : row + 1], modes.gain[row : row + 1, :, 0]
    impulse, constant = (
        {s.name: f(matrix, gain, RESPONSE_STEPS)[:, k, 0].tolist()
         for k, s in enumerate(modes.neuron.states)}
        for f in (impulse_response, linear_step_response)
    )  # fmt: skip
    return impulse, constant


def response_lines(neuron: Neuron, impulse: Deviations, step: Deviations) -> tuple[str, str]:
    """Return the first values of both responses of the potential, as text."""
    name, inputs = potential_of(neuron).name, neuron.inputs
    of_input = f" in {inputs[0]}" if len(inputs) > 1 else ""
    first, second = (
        f"{name} after {title} of 1{of_input}: "
        + "".join(f"{round(v, 3) + 0:g}, " for v in response[name][:_SHOWN])
        + "..."
        for title, response in (("an impulse", impulse), ("a step", step))
    )
    return first, second


def _points(step: StepMap, x: dict[str, float]) -> tuple[StatePoint, ...]:
    found = []
    for at in distinct_points(step, find_points(step, x), x).T:
        values = eigenvalues(step.jacobian(at[:, None], x)[0])[0]
        fires = bool(step.margin(at[:, None], x)[0] >= 0)
        poles = tuple(Pole(complex(v)) for v in values)
        states = dict(zip(step.states, np.asarray(at).tolist(), strict=True))
        found.append(StatePoint(states, poles, stability(poles[0].radius), fires))
    return tuple(found)
