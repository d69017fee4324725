"""Analysis of one neuron layer of a trained network, as data: dynamics, classes, poles."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from lnm_codegen.analysis.charge import potential_of
from lnm_codegen.analysis.fixed_points import fixed_points
from lnm_codegen.analysis.linear.modes import POLE_CLASSES, Modes, modes_of
from lnm_codegen.analysis.linear.step import StepMap, firing_rates
from lnm_codegen.analysis.linear.threshold import (
    ThresholdGradient,
    advice,
    threshold_gradient,
)
from lnm_codegen.analysis.report import Deviations, linear_responses
from lnm_codegen.errors import LnmError
from lnm_codegen.insight.record import Activity
from lnm_codegen.ir.declarations import State
from lnm_codegen.ir.interpret import Array
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.nn.layer import NeuronLayer
from lnm_codegen.nn.parameters import ParameterSets, parameter_sets
from lnm_codegen.train.stability.layers import charge_curve, layer_modes, learned_text, numbers_of
from lnm_codegen.train.stability.projection import Certificate, certificate

# Classes of behaviour of a charge map f: v[t] = f(v[t-1]) without input, below the threshold V.
#
# The first class that applies wins, in this order:
#
#     integrator      |f' - 1| <= 0.1 everywhere: the neuron sums its input and forgets nothing
#     bistable        two stable fixed points below V: it holds one of two potentials
#     quadratic-like  an unstable fixed point between rest and V, and a stable one below it: beyond
#                     the unstable point it charges itself, as a quadratic integrate-and-fire neuron
#     self-exciting   f(z) > z for all 0 < z < V: without input it charges until it fires
#     oscillating     f' < -0.05 at the fixed point nearest to rest, or on average if there is none:
#                     the potential changes sides at every step
#     leaky           one stable fixed point below V with -0.05 <= f' < 1, or none and
#                     -0.05 <= f' < 1 everywhere: it forgets
#     other           no other class applies
#
# "Below V" is the interval of the portrait. A slope within 0.05 of 0 counts as leaky: the potential
# is forgotten at once. A fixed point of slope 0 at the lower end comes from a clamp. It counts only
# as the stable point of a quadratic-like map, and slopes exclude the clamped part. An upper clamp
# bends f like any other part of it.


INTEGRATOR, FLAT = 0.1, 0.05
"""Bounds on |f' - 1| of an integrator, and on a |f'| that counts as 0."""
CLASSES = (
    "leaky", "integrator", "quadratic-like", "bistable", "self-exciting", "oscillating", "other",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Point:
    """A fixed point z = f(z).

    Attributes:
        v: Potential z.
        slope: f'(z).
        kind: "stable", "unstable" or "neutral".
    """

    v: float
    slope: float
    kind: str


@dataclass(frozen=True)
class Portrait:
    """A charge map, sampled.

    Attributes:
        z: Increasing potentials up to the threshold, two or more.
        h: f(z) of each.
        points: Fixed points. Those outside [z[0], z[-1]) are ignored.
        rest: Initial potential of a neuron.
    """

    z: Sequence[float]
    h: Sequence[float]
    points: Sequence[Point]
    rest: float = 0.0

    @property
    def slopes(self) -> tuple[float, ...]:
        """Slopes of the chords of f between neighbouring z, outside the lower clamp."""
        low = self.z[0]
        ends = list(zip(self.z, self.z[1:], self.h, self.h[1:], strict=False))
        free = [(z0, z1, h0, h1) for z0, z1, h0, h1 in ends if low not in (h0, h1)] or ends
        return tuple((h1 - h0) / (z1 - z0) for z0, z1, h0, h1 in free)

    @property
    def inside(self) -> tuple[Point, ...]:
        """Fixed points below the threshold, in order."""
        low, high = self.z[0], self.z[-1]
        return tuple(sorted((p for p in self.points if low <= p.v < high), key=lambda p: p.v))


def classify(portrait: Portrait) -> str:
    """Return the class of a charge map, one of `CLASSES`."""
    slopes, points = portrait.slopes, portrait.inside
    if all(abs(slope - 1) <= INTEGRATOR for slope in slopes):
        return "integrator"
    low = portrait.z[0]
    free = [p for p in points if p.v > low or p.slope]
    stable = [p for p in free if p.kind == "stable"]
    if len(stable) > 1:
        return "bistable"
    held = [p for p in points if p.kind == "stable"]
    over = [p for p in free if p.kind == "unstable" and p.v > portrait.rest]
    if held and over and over[-1].v > held[0].v:
        return "quadratic-like"
    if _excites_itself(portrait):
        return "self-exciting"
    near = min(free, key=lambda p: abs(p.v - portrait.rest), default=None)
    mean = (portrait.h[-1] - portrait.h[0]) / (portrait.z[-1] - portrait.z[0])
    if (mean if near is None else near.slope) < -FLAT:
        return "oscillating"
    at = [p.slope for p in stable] if free else slopes
    return "leaky" if at and all(-FLAT <= slope < 1 for slope in at) else "other"


def _excites_itself(portrait: Portrait) -> bool:
    """Report whether f(z) > z for all 0 < z < V.

    In an interval so wide that no sample lies between 0 and V, V decides: f has no fixed point
    between them.
    """
    top = portrait.z[-1]
    if top <= 0 or any(0 < p.v for p in portrait.inside):
        return False
    above = [h > z for z, h in zip(portrait.z, portrait.h, strict=True) if 0 < z < top]
    return all(above or [portrait.h[-1] > top])


# Dynamics of a row of a layer: fixed points, slopes, class, and f-I curve.


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


# Movement of the poles of a layer's rows during training, and the typical row.


MOST_EPOCHS = 17
"""Largest number of epochs whose poles are computed, evenly spaced, with the first and the last."""


@dataclass(frozen=True)
class Movement:
    """Poles of the selected rows during training.

    Attributes:
        epochs: E epochs; 0 is before the first.
        eigenvalues: (E, R, n).
        labels: Class of each row, for each of these epochs.
    """

    epochs: tuple[int, ...]
    eigenvalues: Array
    labels: tuple[tuple[str, ...], ...]

    @property
    def classes(self) -> dict[str, list[int]]:
        """Class -> number of rows in each epoch."""
        counts = [Counter(row) for row in self.labels]
        found = {label: [c[label] for c in counts] for label in POLE_CLASSES}
        return {label: numbers for label, numbers in found.items() if any(numbers)}


def movement(
    layer: NeuronLayer, selected: Sequence[int], history: dict[str, Tensor] | None
) -> Movement | None:
    """Return the movement of the poles, or None without a history of the parameters."""
    if not history:
        return None
    count = min(len(values) for values in history.values())
    epochs = np.unique(np.linspace(0, count - 1, MOST_EPOCHS).round().astype(int)).tolist()
    past = [numbers_of(_past_sets(layer, history, epoch), selected) for epoch in epochs]
    values = {n: np.concatenate([one[n] for one in past]) for n in past[0]}
    found = modes_of(layer.neuron, values, len(epochs) * len(selected))
    rows = len(selected)
    labels = tuple(found.labels[k * rows : (k + 1) * rows] for k in range(len(epochs)))
    eigenvalues = found.eigenvalues.reshape(len(epochs), rows, -1)
    return Movement(tuple(epochs), eigenvalues, labels)


class _Past:
    """Parameters of a layer after an epoch, as attributes."""

    def __init__(self, neuron: Neuron, values: dict[str, Any]) -> None:
        self.neuron = neuron
        self.__dict__.update(values)


def _past_sets(layer: NeuronLayer, history: dict[str, Tensor], epoch: int) -> ParameterSets:
    values = {}
    for decl in layer.neuron.params:
        now: Tensor = getattr(layer, decl.name)
        known = history.get(decl.name)
        values[decl.name] = now if known is None else known[epoch].reshape(now.shape)
    with torch.no_grad():
        return parameter_sets(_Past(layer.neuron, values))


def typical_row(modes: Modes) -> int:
    """Return the row of the most frequent class whose `Modes.first` is nearest to the median."""
    (label, _), *_ = Counter(modes.labels).most_common(1)
    rows = np.array([k for k, one in enumerate(modes.labels) if one == label])
    first = modes.first[rows]
    middle = complex(np.median(first.real), np.median(first.imag))
    return int(rows[np.abs(first - middle).argmin()])


# Analysis of one neuron layer of a trained network, as data.


ALL_CLASSES = tuple(dict.fromkeys((*CLASSES, *POLE_CLASSES)))
"""Classes of charge maps and of poles."""
PROVEN_ROWS = 16
"""Largest number of rows of a layer with several states that its certificate examines."""


@dataclass(frozen=True)
class LayerAnalysis:
    """One neuron layer.

    Attributes:
        name: Path in the network.
        layer: The layer.
        rows: Its parameters, row by row.
        selected: Rows that are analysed one by one, evenly spaced.
        activity: Activity on the test samples; None for a layer without state.
        z: Potentials of the curve, from the least visited to beyond the threshold.
        curve: Charged potential at z without input, (P, selected); empty without state.
        dynamics: Dynamics of each selected row, or the reason for their absence.
        modes: Linear behaviour of the selected rows of a neuron with several states, or None.
        movement: How training moved it, or None.
        certificate: Certificate for inputs up to the largest observed, of all selected rows or of
            `PROVEN_ROWS` of several states; or the reason.
        response: f-I curves of the selected rows, or None.
        threshold: Factor of gradients at the threshold, of the selected rows.
        history: Parameter -> (epochs + 1, rows, elements), or None without a recorded history.
    """

    name: str
    layer: NeuronLayer = field(repr=False)
    rows: ParameterSets = field(repr=False)
    selected: list[int]
    activity: Activity | None
    z: Tensor = field(repr=False)
    curve: Tensor = field(repr=False)
    dynamics: tuple[RowDynamics, ...] | str
    modes: Modes | None
    movement: Movement | None
    certificate: Certificate | str
    response: Response | None
    threshold: ThresholdGradient
    history: dict[str, Tensor] | None

    @property
    def classes(self) -> dict[str, int]:
        """Class -> number of selected rows, the most frequent first."""
        found = Counter(self.labels)
        order = sorted(found, key=lambda label: (-found[label], ALL_CLASSES.index(label)))
        return {label: found[label] for label in order}

    @property
    def labels(self) -> tuple[str, ...]:
        """Class of each selected row; empty without classes."""
        if self.modes is not None:
            return self.modes.labels
        return () if isinstance(self.dynamics, str) else tuple(row.label for row in self.dynamics)

    def place(self, k: int) -> str:
        """Return the place of selected row k: "layer", "channel 3", "neuron (1, 2)"."""
        return self.rows.place(self.selected[k])

    @property
    def typical(self) -> int | None:
        """Number of the typical row among the selected ones, or None with one state."""
        return None if self.modes is None else typical_row(self.modes)

    @property
    def responses(self) -> tuple[Deviations, Deviations] | None:
        """Impulse and step response of the typical row; see `analysis.linear.report`."""
        if self.modes is None or self.typical is None:
            return None
        return linear_responses(self.modes, self.typical)

    @property
    def advice(self) -> str:
        """Advice on the surrogate, or an empty text."""
        return advice(self.layer.neuron, self.threshold)

    @property
    def potential(self) -> str:
        """Name of the potential: the state v, or else the first."""
        return str(potential_of(self.layer.neuron).name)

    @property
    def learned(self) -> str:
        """Learned parameters, in a line."""
        return learned_text(self.layer)


def analyze_layer(
    name: str,
    layer: NeuronLayer,
    activity: Activity | None,
    history: dict[str, Tensor] | None,
    most: int,
) -> LayerAnalysis:
    """Analyse a layer; `most` is the largest number of rows that are analysed one by one."""
    rows = parameter_sets(layer)
    selected = rows.evenly_spaced_indices(most)
    absent = f"{layer.neuron.name} did not run, or has no state."
    found: tuple[RowDynamics, ...] | str = absent
    proven: Certificate | str = absent
    z, curve, rates = torch.empty(0), torch.empty(0, len(selected)), None
    modes, moved = None, None
    if activity is not None:
        found = dynamics(layer, rows, selected, activity)
        if len(layer.neuron.states) > 1:
            modes = layer_modes(layer, rows, selected)
            moved = movement(layer, selected, history)
        z = potentials(thresholds(layer, rows, selected), activity)
        with torch.no_grad():
            curve = charge_curve(probe(layer.neuron, rows, selected), z)
        try:
            largest = max(abs(end) for end in activity.input)
            proven = certificate(probe(layer.neuron, rows, _examined(layer, selected)), largest)
        except LnmError as error:
            proven = str(error)
        if len(layer.neuron.inputs) == 1 and layer.neuron.spikes:
            rates = response(layer, rows, selected, activity.input)
    return LayerAnalysis(
        name=name, layer=layer, rows=rows, selected=selected, activity=activity, z=z,
        curve=curve, dynamics=found, modes=modes, movement=moved, certificate=proven,
        response=rates, history=history,
        threshold=threshold_gradient(layer.neuron, numbers_of(rows, selected), len(selected)),
    )  # fmt: skip


def _examined(layer: NeuronLayer, selected: list[int]) -> list[int]:
    """Return the rows for the certificate: fewer of several states, where a proof takes longer."""
    if len(layer.neuron.states) == 1 or len(selected) <= PROVEN_ROWS:
        return selected
    places = torch.linspace(0, len(selected) - 1, PROVEN_ROWS).round().long()
    return [selected[k] for k in places.tolist()]
