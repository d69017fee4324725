"""What a row of a layer has learned: fixed points, slopes, class, and its answer to current."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lnm_codegen.analysis.charge import potential_of
from lnm_codegen.analysis.fixed_points import fixed_points
from lnm_codegen.errors import LnmError
from lnm_codegen.insight.classes import Point, Portrait, classify
from lnm_codegen.insight.rows import probe
from lnm_codegen.insight.watch import Seen
from lnm_codegen.nn import NeuronLayer
from lnm_codegen.nn.parameters import ParameterSets
from lnm_codegen.train.stability.curve import charge_curve

STEPS, CURRENTS, PLACES = 256, 129, 201
"""Steps of an f-I curve, currents of it, places of a curve."""


@dataclass(frozen=True)
class RowDynamics:
    """What one row does without input.

    Attributes:
        row: Its number.
        place: "layer", "channel 3", "neuron (1, 2)".
        interval: Potentials that count: the least one visited, or rest if that is lower, to the
            threshold, or where there is none of that name the greatest one visited.
        points: Fixed points of the charge, in [-2**20, 2**20]: exact, as floats.
        slopes: The least and the greatest slope over the interval, where no clamp acts.
        label: One of `classes.CLASSES`.
    """

    row: int
    place: str
    interval: tuple[float, float]
    points: tuple[Point, ...]
    slopes: tuple[float, float]
    label: str


def dynamics(
    layer: NeuronLayer, rows: ParameterSets, chosen: Sequence[int], seen: Seen
) -> tuple[RowDynamics, ...] | str:
    """Return the dynamics of the chosen rows, or why they cannot be told.

    Args:
        layer: The layer.
        rows: Its rows.
        chosen: Numbers of those to look at.
        seen: What it met, for the interval.
    """
    neuron = layer.neuron.with_per({p.name: "layer" for p in layer.neuron.params})
    start = potential_of(layer.neuron).decl.init  # type: ignore[union-attr]
    rest = float(start) if isinstance(start, int | float) else 0.0
    found = []
    for row in chosen:
        values = rows.of(row)
        try:
            at = fixed_points(neuron, values=values)
        except LnmError as error:
            return str(error)
        points = tuple(Point(float(p.v.low), float(p.slope.low), p.kind) for p in at.points)
        interval = _interval(rest, values.get("v_threshold"), seen.visited[row])
        z = torch.linspace(*interval, PLACES, dtype=torch.float64)
        h = charge_curve(probe(layer.neuron, rows, [row]), z)[:, 0]
        portrait = Portrait(z.tolist(), h.tolist(), points, rest)
        slopes = portrait.slopes
        ends = (min(slopes), max(slopes))
        label = classify(portrait)
        found.append(RowDynamics(row, rows.place(row), interval, points, ends, label))
    return tuple(found)


def _interval(rest: float, threshold: object, visited: Tensor) -> tuple[float, float]:
    low = min(rest, float(visited[0]))
    high = float(threshold) if isinstance(threshold, int | float) else float(visited[1])
    return low, high if high > low else low + 1.0


@dataclass(frozen=True)
class Response:
    """f-I curves: the rate that a constant current drives a neuron at rest to.

    Attributes:
        currents: (P,).
        rates: Spikes per step over `STEPS` steps, (P, R).
    """

    currents: Tensor
    rates: Tensor


def response(
    layer: NeuronLayer, rows: ParameterSets, chosen: Sequence[int], currents: tuple[float, float]
) -> Response:
    """Return the f-I curves of the chosen rows, over an interval of currents."""
    low, high = currents
    x = torch.linspace(low, high if high > low else low + 1.0, CURRENTS)
    made = probe(layer.neuron, rows, chosen, backend="torch")  # quicker than a compiler
    x_seq = x[None, :, None].expand(STEPS, len(x), len(chosen))
    with torch.no_grad():
        out = made(x_seq)
    spikes: Tensor = out[0] if isinstance(out, tuple) else out
    return Response(x, (spikes != 0).float().mean(0))
