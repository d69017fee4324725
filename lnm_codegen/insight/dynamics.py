"""Dynamics of a row of a layer: fixed points, slopes, class, and f-I curve."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from lnm_codegen.analysis.charge import potential_of
from lnm_codegen.analysis.fixed_points import fixed_points
from lnm_codegen.analysis.linear.step import StepMap, firing_rates
from lnm_codegen.errors import LnmError
from lnm_codegen.insight.classes import Point, Portrait, classify
from lnm_codegen.insight.record import Activity
from lnm_codegen.ir.declarations import State
from lnm_codegen.ir.interpret import Array
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.nn import NeuronLayer
from lnm_codegen.nn.parameters import ParameterSets
from lnm_codegen.train.stability.curve import charge_curve
from lnm_codegen.train.stability.modes import numbers_of

RESPONSE_STEPS, CURRENTS, PLACES = 256, 129, 201
"""Steps and currents of an f-I curve; potentials of a charge curve."""
FARTHEST = 1e6
"""Largest |potential| of a curve; a neuron that diverged visits infinity."""


@dataclass(frozen=True)
class RowDynamics:
    """Dynamics of one row without input.

    Attributes:
        row: Number of the row.
        place: "layer", "channel 3", "neuron (1, 2)".
        interval: Potentials from the lower of rest and the least visited one to the threshold, see
            `StepMap.threshold`. Without a threshold it ends at the greatest visited one. Visited
            potentials beyond `FARTHEST` count as `FARTHEST`, and NaN as the lower one.
        points: Fixed points of the charge in [-2**20, 2**20], exact up to rounding to float.
        slopes: Least and greatest slope over the interval, outside clamps.
        label: One of `classes.CLASSES`.
    """

    row: int
    place: str
    interval: tuple[float, float]
    points: tuple[Point, ...]
    slopes: tuple[float, float]
    label: str


def dynamics(
    layer: NeuronLayer, rows: ParameterSets, selected: Sequence[int], activity: Activity
) -> tuple[RowDynamics, ...] | str:
    """Return the dynamics of the selected rows, or the reason why there are none.

    Args:
        layer: The layer.
        rows: Its parameters.
        selected: Numbers of the rows.
        activity: Activity of the layer, for the interval.
    """
    neuron = layer.neuron.with_per({p.name: "layer" for p in layer.neuron.params})
    start = cast("State", potential_of(layer.neuron).decl)
    found = []
    for row, threshold in zip(selected, thresholds(layer, rows, selected).tolist(), strict=True):
        values = rows.of(row)
        init = values[start.param] if start.param else start.init
        rest = float(init) if isinstance(init, int | float) else 0.0
        try:
            at = fixed_points(neuron, values=values)
        except LnmError as error:
            return str(error)
        points = tuple(Point(float(p.v.low), float(p.slope.low), p.kind) for p in at.points)
        interval = _interval(rest, threshold, activity.visited[row])
        portrait = _portrait(probe(layer.neuron, rows, [row]), interval, points, rest)
        slopes = portrait.slopes
        ends = (min(slopes), max(slopes))
        label, interval = classify(portrait), (portrait.z[0], portrait.z[-1])
        found.append(RowDynamics(row, rows.place(row), interval, points, ends, label))
    return tuple(found)


def _portrait(
    layer: NeuronLayer, interval: tuple[float, float], points: tuple[Point, ...], rest: float
) -> Portrait:
    """Return the sampled charge of a layer of one row.

    A visited clamp is rounded to float32. The portrait begins at the clamp itself, so that points
    and samples on the clamp equal its lower end.
    """
    z = torch.linspace(*interval, PLACES, dtype=torch.float64)
    h = charge_curve(layer, z)[:, 0].detach()
    least = float(h.min())
    if least != interval[0] == float(h.min().float()):
        return _portrait(layer, (least, interval[1]), points, rest)
    return Portrait(z.tolist(), h.tolist(), points, rest)


def thresholds(layer: NeuronLayer, rows: ParameterSets, selected: Sequence[int]) -> Array:
    """Return the threshold of each selected row, see `StepMap.threshold`."""
    return StepMap(layer.neuron, numbers_of(rows, selected), len(selected)).threshold()


def _interval(rest: float, threshold: float, visited: Tensor) -> tuple[float, float]:
    low = min(rest, max(float(visited[0].nan_to_num(nan=-FARTHEST)), -FARTHEST))
    high = min(float(visited[1]), FARTHEST) if math.isnan(threshold) else threshold
    return low, high if high > low else low + 1.0


def potentials(levels: Array, activity: Activity) -> Tensor:
    """Return potentials of the curve: the visited ones and [0, threshold], with a margin.

    `levels` are the thresholds; NaN counts as 1.
    """
    top = float(np.where(np.isnan(levels), 1.0, levels).max())
    visited = activity.visited
    low = max(min(0.0, float(visited[:, 0].min())), -FARTHEST)
    high = min(max(top, float(visited[:, 1].max())), FARTHEST)
    margin = 0.05 * (high - low)
    return torch.linspace(low - margin, high + margin, PLACES, dtype=torch.float64)


@dataclass(frozen=True)
class Response:
    """f-I curves: firing rates under a constant input, from rest.

    Attributes:
        currents: Inputs, (P,).
        rates: Spikes per step over `RESPONSE_STEPS` steps, (P, R).
    """

    currents: Tensor
    rates: Tensor


def response(
    layer: NeuronLayer, rows: ParameterSets, selected: Sequence[int], currents: tuple[float, float]
) -> Response:
    """Return the f-I curves of the selected rows, over an interval of inputs."""
    low, high = currents
    x = torch.linspace(low, high if high > low else low + 1.0, CURRENTS)
    step = StepMap(layer.neuron, numbers_of(rows, selected), len(selected))
    rates = firing_rates(step, x.double().numpy(), RESPONSE_STEPS)
    return Response(x, torch.from_numpy(rates))


def probe(
    neuron: Neuron, rows: ParameterSets, selected: Sequence[int], **arguments: Any
) -> NeuronLayer:
    """Return a layer with one channel for each selected row.

    Args:
        neuron: Neuron of the layer that the rows belong to.
        rows: Parameters of that layer.
        selected: Numbers of the rows.
        arguments: Further arguments of `NeuronLayer`.
    """
    apart = neuron.with_per({p.name: "channel" for p in neuron.params})
    made = NeuronLayer(apart, channels=len(selected), **arguments)
    index = torch.tensor(list(selected))
    with torch.no_grad():
        for decl in apart.params:
            getattr(made, decl.name).copy_(rows.values[decl.name][index])
    return made.eval()
