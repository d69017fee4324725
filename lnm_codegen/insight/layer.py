"""Analysis of one neuron layer of a trained network, as data."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import torch
from torch import Tensor

from lnm_codegen.analysis.charge import potential_of
from lnm_codegen.analysis.linear.modes import POLE_CLASSES, Modes
from lnm_codegen.analysis.linear.threshold import (
    ThresholdGradient,
    advice,
    threshold_gradient,
)
from lnm_codegen.analysis.report import Deviations, linear_responses
from lnm_codegen.errors import LnmError
from lnm_codegen.insight.classes import CLASSES
from lnm_codegen.insight.dynamics import (
    Response,
    RowDynamics,
    dynamics,
    potentials,
    probe,
    response,
    thresholds,
)
from lnm_codegen.insight.modes import Movement, movement, typical_row
from lnm_codegen.insight.record import Activity
from lnm_codegen.nn import NeuronLayer
from lnm_codegen.nn.parameters import ParameterSets, parameter_sets
from lnm_codegen.train.stability.certificate import Certificate, certificate
from lnm_codegen.train.stability.curve import charge_curve, learned_text
from lnm_codegen.train.stability.modes import layer_modes, numbers_of

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
