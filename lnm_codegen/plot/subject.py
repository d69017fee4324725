"""Subject of a plot: the step of a neuron, or of the parameter sets of a layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from lnm_codegen.analysis.linear.step import StepMap
from lnm_codegen.errors import ModelError, UnsupportedError
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.plot.axes import integer_of
from lnm_codegen.validation import wrong

if TYPE_CHECKING:
    from lnm_codegen.nn.layer import NeuronLayer

Subject: TypeAlias = "Neuron | NeuronLayer"

MOST_CURVES = 64
"""Largest number of parameter sets that one plot draws as curves, evenly spaced."""


def step_of(where: str, subject: Subject, row: int | None, most: int | None = None) -> StepMap:
    """Return the step of a neuron, of a layer's parameter sets, or of one set.

    Args:
        where: Name of the plot.
        subject: A neuron, whose parameters have their `init`, or a layer.
        row: Number of a parameter set, or None for all.
        most: Largest number of sets, evenly spaced; None for no bound.

    Raises:
        ModelError: Neither a neuron nor a layer, a layer without sizes, or no such row.
        UnsupportedError: The neuron has no state.
    """
    place = f"plot.{where}"
    if isinstance(subject, Neuron):
        step = StepMap(subject)
    elif isinstance(getattr(subject, "neuron", None), Neuron):
        step = _layer_step(place, subject)
    else:
        raise wrong(place, "subject", subject, "a neuron or a NeuronLayer")
    if row is not None:
        return step.select(np.array([integer_of(place, "row", row, 0, step.rows - 1)]))
    if most is None or step.rows <= most:
        return step
    return step.select(np.unique(np.linspace(0, step.rows - 1, most).round().astype(int)))


def _layer_step(place: str, layer: NeuronLayer) -> StepMap:
    from lnm_codegen.nn.parameters import parameter_sets

    params = [getattr(layer, p.name) for p in layer.neuron.params]
    if any(type(p).__name__.startswith("Uninitialized") for p in params):
        problem = f"the sizes of the parameters of {layer.neuron.name} are not known yet"
        remedy = "Call the layer once, or give it channels or shape."
        raise ModelError(place, problem, remedy=remedy)
    sets = parameter_sets(layer)
    values = {n: v.double().numpy() for n, v in sets.values.items()}
    return StepMap(layer.neuron, values, len(sets))


def require_states(where: str, step: StepMap, count: int) -> None:
    """Raise UnsupportedError unless the neuron has this number of states."""
    if len(step.states) != count:
        word = "state" if len(step.states) == 1 else "states"
        problem = f"{len(step.states)} {word} ({', '.join(step.states)})"
        raise UnsupportedError(f"plot.{where}: {step.neuron.name}", problem, f"{count} states")
