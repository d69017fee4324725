"""Linear part of `lnm analyze FAMILY`: poles, fixed points and responses, as data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from lnm_codegen.analysis.charge import potential_of
from lnm_codegen.analysis.linear.classes import stability
from lnm_codegen.analysis.linear.modes import Modes, modes_of_step
from lnm_codegen.analysis.linear.points import distinct_points, find_points
from lnm_codegen.analysis.linear.poles import Pole, eigenvalues
from lnm_codegen.analysis.linear.response import impulse_response, linear_step_response
from lnm_codegen.analysis.linear.step import StepMap, Values
from lnm_codegen.language.neuron import Neuron

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
