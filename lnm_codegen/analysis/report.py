"""Analysis of a neuron for `lnm analyze`: data, and its sections."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, TypeAlias, assert_never

import numpy as np

from lnm_codegen.analysis.charge import potential_of
from lnm_codegen.analysis.error import ErrorBounds, NodeError, error_bounds
from lnm_codegen.analysis.exact import prepared_parameters
from lnm_codegen.analysis.fixed_points import FixedPoints, fixed_points
from lnm_codegen.analysis.interval import Interval, meet
from lnm_codegen.analysis.invariant import Escape, Invariant, Undecided, invariant
from lnm_codegen.analysis.linear.modes import (
    Modes,
    Pole,
    class_note,
    distinct_points,
    eigenvalues,
    find_points,
    modes_of_step,
    number,
    poles_as_list,
    stability,
)
from lnm_codegen.analysis.linear.step import StepMap, Values, impulse_response, linear_step_response
from lnm_codegen.analysis.linear.threshold import ThresholdGradient, advice, threshold_gradient
from lnm_codegen.analysis.ranges import Given, checked, kernel_of, ranges
from lnm_codegen.compiler.fixed import program_of
from lnm_codegen.errors import ModelError, UnsupportedError
from lnm_codegen.ir.fixed import nodes as fx
from lnm_codegen.ir.kernel import Role
from lnm_codegen.ir.types import Fixed, FixedSpec
from lnm_codegen.language.neuron import Neuron, brief, equations
from lnm_codegen.options import SchemeName
from lnm_codegen.sections import Lines, Section, Table


@dataclass(frozen=True)
class FixedAnalysis:
    """A neuron in a fixed-point format."""

    spec: Fixed | FixedSpec
    errors: ErrorBounds
    cut: dict[str, Interval]  # state or input -> its interval, if it was cut to its format

    def section(self, over: str) -> Section:
        """Return ranges, formats and errors of the nodes; `over` names the intervals."""
        header = ("node", "range", "format", "needs", "rounding", "coefficients", "bound", "")
        rows = []
        for name, node in self.errors.nodes.items():
            unit = 1 << node.bits.frac
            rows.append(
                (name, str(node.range), str(node.bits), f"Q{node.integer_bits}.{node.bits.frac}",
                 f"{float(node.arithmetic.magnitude * unit):.3f} ulp",
                 f"{float(node.coefficients.magnitude * unit):.3f} ulp",
                 f"{float(node.bound):.3g}", _note(node))
            )  # fmt: skip
        notes = [
            f"{name} is clipped to the range of its format, {inside}"
            for name, inside in self.cut.items()
        ]
        notes += [
            f"{name} may have the other outcome if its operands differ by at most"
            f" {float(decision.margin):.3g}"
            for name, decision in self.errors.decisions.items()
        ]
        title = f"Fixed point, {self.spec}: one step from the same state, for {over}"
        return Section(title, (Table(header, rows), *notes))

    def as_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "format": str(self.spec),
            "cut": _intervals(self.cut),
            "nodes": {
                name: {
                    "format": str(node.bits),
                    **_intervals({"range": node.range}),
                    "integer_bits": node.integer_bits,
                    "arithmetic": float(node.arithmetic.magnitude),
                    "coefficients": float(node.coefficients.magnitude),
                    "bound": float(node.bound),
                    "ulp": float(node.ulp),
                    "saturates": node.saturates,
                    "after": node.after,
                    "decisions": node.decisions,
                }
                for name, node in self.errors.nodes.items()
            },
            "decisions": {
                name: {"margin": float(d.margin), "after": d.after}
                for name, d in self.errors.decisions.items()
            },
        }


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

    def sections(self) -> list[Section]:
        """Return equations, states, fixed points, and the ranges or errors of the nodes."""
        found = [
            Section("", (Lines(brief(self.neuron)),)),
            Section("States", (Lines(verdict_lines(self.invariant)),)),
        ]
        points = self.fixed_points
        if self.linear is not None:
            found += self.linear.sections()
        else:
            part = Lines((points,)) if isinstance(points, str) else _points_table(points)
            found.append(Section("Fixed points of the charge, h = v", (part,)))
        if note := advice(self.neuron, self.threshold):
            found.append(Section("Surrogate", (note,)))
        if self.states is None or self.ranges is None:
            text = "none: no interval of the states is known. Give one, such as --state v=-2,1."
            return [*found, Section("Ranges", (Lines((text,)),))]
        over = _box(self.states | self.inputs)
        if self.fixed is not None:
            return [*found, self.fixed.section(over)]
        named = {*self.inputs, *self.states}
        constants = {n for n, i in self.ranges.items() if i.low == i.high and n not in named}
        rows = [
            (name, str(i), "exact" if i.tight else "outer")
            for name, i in self.ranges.items()
            if name not in constants
        ]
        values = (f"{n} = {float(self.ranges[n].low):.6g}" for n in sorted(constants))
        parts = (Table(("node", "range", ""), rows), ", ".join(values))
        return [*found, Section(f"Ranges of every node for {over}", parts)]

    def as_dict(self) -> dict[str, Any]:
        """Return plain data."""
        points = self.fixed_points
        return {
            "name": self.neuron.name,
            "equations": equations(self.neuron),
            "scheme": self.scheme,
            "inputs": _intervals(self.inputs),
            "states": None if self.states is None else _intervals(self.states),
            "invariant": _verdict(self.invariant),
            "fixed_points": points
            if isinstance(points, str)
            else [_points_dict(p) for p in points],
            "linear": None if self.linear is None else self.linear.as_dict(),
            "reset_gain": self.threshold.gain,
            "threshold_factor": self.threshold.factor,
            "ranges": None if self.ranges is None else _intervals(self.ranges),
            "fixed": None if self.fixed is None else self.fixed.as_dict(),
        }


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

    def sections(self) -> list[Section]:
        """Return class, poles, responses and fixed points."""
        place = ", ".join(f"{n} = {v:.6g}" for n, v in self.modes.at().items())
        point = "a fixed point without input" if self.modes.fixed[0] else "the initial states"
        rows = [
            (number(p.value), f"{p.radius:.6g}", f"{p.frequency:.6g}", f"{p.damping_time:.6g}")
            for p in self.poles
        ]
        poles = Table(("eigenvalue", "radius", "cycles a step", "damping time in steps"), rows)
        names = ", ".join(self.modes.unreached())
        unreached = f"without a spike the input does not reach {names}: the class is of the others"
        lines = response_lines(self.modes.neuron, self.impulse, self.step)
        title = f"Linear step without a spike at {place} ({point}): {self.label}"
        first = (poles, unreached if names else "", *lines, class_note((self.label,)))
        states, table = tuple(self.modes.at()), []
        for inputs, points in self.points:
            constant = ", ".join(f"{n} = {x:g}" for n, x in inputs.items())
            for p in points:
                at = (f"{p.states[n]:.6g}" for n in states)
                numbers = ", ".join(number(pole.value, 4) for pole in p.poles)
                table.append((constant, *at, numbers, p.kind, "fires there" if p.fires else ""))
            if not points:
                table.append((constant, "none found", *("" for _ in states[1:]), "", "", ""))
        second = Table(("input", *states, "eigenvalues", "", ""), table)
        method = "Fixed points of the step without a spike, by Newton's method"
        return [Section(title, first), Section(method, (second,))]

    def as_dict(self) -> dict[str, Any]:
        """Return plain data."""
        modes = self.modes
        return {
            "at": modes.at(),
            "fixed_point": bool(modes.fixed[0]),
            "fires": bool(modes.fires[0]),
            "class": self.label,
            "matrix": modes.matrix[0].tolist(),
            "unreached": list(modes.unreached()),
            "gain": {
                s.name: modes.gain[0, :, k].tolist() for k, s in enumerate(modes.neuron.inputs)
            },
            "eigenvalues": poles_as_list(self.poles),
            "impulse_response": self.impulse,
            "step_response": self.step,
            "fixed_points": [
                {"inputs": inputs, "points": [_point(p) for p in points]}
                for inputs, points in self.points
            ],
        }


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


# Parts of sections and of plain data.


def verdict_lines(verdict: Invariant | Escape | Undecided) -> list[str]:
    """Return the result for the states, as lines of text."""
    match verdict:
        case Invariant(states=states, reached=reached):
            if not states:
                return ["none"]
            lines = [f"{_box(states)}: never left (proven)"]
            if any(float(reached[n].width) < 0.999 * float(i.width) for n, i in states.items()):
                lines.append(f"the smallest such interval contains {_box(reached)}")
            return lines
        case Escape():
            return [str(verdict), *(f"  {n} = {_run(x)}" for n, x in verdict.inputs.items())]
        case Undecided(reason):
            return [f"undecided: {reason}"]
        case _:
            assert_never(verdict)


def _points_table(found: tuple[FixedPoints, ...]) -> Table:
    rows = []
    for at in found:
        constant = ", ".join(f"{n} = {float(x):g}" for n, x in at.inputs.items())
        if at.everywhere:
            rows.append((constant, "an interval", "1", "neutral", ""))
        for p in at.points:
            kind = f"{p.kind}, alternating" if p.alternates else p.kind
            fires = "fires there" if p.fires else ""
            rows.append(
                (constant, f"{float(p.v.low):.6g}", f"{float(p.slope.low):.6g}", kind, fires)
            )
        if not at.points and not at.everywhere:
            rows.append((constant, "none", "", "", ""))
    return Table(("input", "v", "slope", "", ""), rows)


def _note(node: NodeError) -> str:
    notes = ["SATURATES; the bound holds without saturation"] if node.saturates else []
    if node.after:
        notes.append(f"bound unless {' or '.join(node.after)} saturates")
    if node.decisions:
        notes.append(f"bound if {' and '.join(node.decisions)} have the same outcome")
    return "; ".join(notes)


def _box(box: Mapping[str, Interval]) -> str:
    return ", ".join(f"{n} in {i}" for n, i in box.items())


def _run(values: tuple[float, ...]) -> str:
    """Return a sequence as text, with equal neighbours counted."""
    groups: list[tuple[float, int]] = []
    for value in values:
        if groups and groups[-1][0] == value:
            groups[-1] = (value, groups[-1][1] + 1)
        else:
            groups.append((value, 1))
    shown = [f"{v:g}" if n == 1 else f"{n} times {v:g}" for v, n in groups]
    return ", ".join(shown if len(shown) <= 24 else [*shown[:24], f"... ({len(values)} steps)"])


def _intervals(box: Mapping[str, Interval]) -> dict[str, Any]:
    return {
        n: {"low": float(i.low), "high": float(i.high), "exact": i.tight} for n, i in box.items()
    }


def _verdict(verdict: Invariant | Escape | Undecided) -> dict[str, Any]:
    match verdict:
        case Invariant(states=states, reached=reached):
            exact = {n: [str(i.low), str(i.high)] for n, i in states.items()}
            return {"verdict": "invariant", "states": _intervals(states), "rational": exact,
                    "reached": _intervals(reached)}  # fmt: skip
        case Escape(inputs=inputs, state=state, value=value, bound=bound):
            return {"verdict": "escape", "inputs": inputs, "state": state, "value": value,
                    "bound": bound, "steps": verdict.steps}  # fmt: skip
        case Undecided(reason):
            return {"verdict": "undecided", "reason": reason}
        case _:
            assert_never(verdict)


def _points_dict(at: FixedPoints) -> dict[str, Any]:
    return {
        "inputs": {n: float(x) for n, x in at.inputs.items()},
        "everywhere": at.everywhere,
        "points": [
            {"v": float(p.v.low), "slope": float(p.slope.low), "kind": p.kind,
             "alternates": p.alternates, "fires": p.fires}
            for p in at.points
        ],
    }  # fmt: skip


def _point(point: StatePoint) -> dict[str, Any]:
    return {
        "states": point.states,
        "eigenvalues": poles_as_list(point.poles),
        "kind": point.kind,
        "fires": point.fires,
    }
