"""Analysis of a training run, as data: the content of `lnm analyze RUN`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lnm_codegen.analysis.charge import potential_of
from lnm_codegen.analysis.linear.classes import POLE_CLASSES
from lnm_codegen.analysis.linear.modes import Modes
from lnm_codegen.analysis.linear.report import Deviations, linear_responses
from lnm_codegen.analysis.linear.reset import advice, reset_gain
from lnm_codegen.errors import LnmError, ModelError
from lnm_codegen.insight.classes import CLASSES
from lnm_codegen.insight.dynamics import (
    Response,
    RowDynamics,
    dynamics,
    potentials,
    probe,
    response,
)
from lnm_codegen.insight.energy.report import EnergyReport, batch_size, energy
from lnm_codegen.insight.history import read_history
from lnm_codegen.insight.modes import Movement, movement, typical_row
from lnm_codegen.insight.record import Activity, record
from lnm_codegen.language.display import brief
from lnm_codegen.nn import NeuronLayer
from lnm_codegen.nn.parameters import ParameterSets, parameter_sets
from lnm_codegen.train.history import layer_history
from lnm_codegen.train.runs.config import clamp_of
from lnm_codegen.train.runs.saved import Run
from lnm_codegen.train.stability.certificate import Certificate, certificate
from lnm_codegen.train.stability.curve import charge_curve, learned_text
from lnm_codegen.train.stability.modes import ROWS, layer_modes, numbers_of
from lnm_codegen.validation import counted, require_integer

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
        reset_gain: Largest gain of gradients at the threshold; see `analysis.linear.reset`.
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
    reset_gain: float
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
        return advice(self.layer.neuron, self.reset_gain)

    @property
    def potential(self) -> str:
        """Name of the potential: the state v, or else the first."""
        return str(potential_of(self.layer.neuron).name)

    @property
    def learned(self) -> str:
        """Learned parameters, in a line."""
        return learned_text(self.layer)


@dataclass(frozen=True)
class RunAnalysis:
    """A trained network.

    Attributes:
        folder: Run folder.
        network: Names of the network, its neuron and its data.
        equations: Equations of the neuron.
        config: Configuration of the run, as plain data; `v_min` is None without a clamp.
        split: "test", or "held-out" if the run holds out validation samples.
        samples: Number of samples of that split.
        correct: Number of correct predictions on them.
        predictions: Number of predictions: one per sample, or one per labelled step.
        epochs: Epochs that the recorded history has, or None without a history.
        layers: Neuron layers, first to last.
        energy: Energy of an inference, on the same samples.
    """

    folder: Path
    network: str
    equations: tuple[str, ...]
    config: dict[str, Any]
    split: str
    samples: int
    correct: int
    predictions: int
    epochs: int | None
    layers: tuple[LayerAnalysis, ...]
    energy: EnergyReport

    @property
    def accuracy(self) -> float:
        """Share of correct predictions."""
        return self.correct / max(self.predictions, 1)

    @property
    def diversity(self) -> str:
        """Classes of behaviour over all layers, in a line."""
        classified = [layer for layer in self.layers if layer.classes]
        if not classified:
            return "Classes of behaviour: none apply to this neuron."
        total: Counter[str] = Counter()
        for layer in classified:
            total.update(layer.classes)
        rows, other = sum(total.values()), total.pop("other", 0)
        rest = f"; {other} of no class" if other else ""
        parts = ", ".join(f"{label} {total[label]}" for label in ALL_CLASSES if total[label])
        layers, all_rows = counted(len(classified), "layer"), counted(rows, "row")
        if len(total) < 2:
            only = next(iter(total), "none")
            return f"One class of behaviour in {layers} ({all_rows}{rest}): {only}."
        heads = list(dict.fromkeys(next(iter(layer.classes)) for layer in classified))
        across = (
            f"the most frequent class differs between layers: {', '.join(heads)}"
            if len(heads) > 1
            else f"the most frequent class is {heads[0]} in every layer"
        )
        many = f"{len(total)} classes of behaviour in {layers}"
        return f"{many} ({parts} of {all_rows}{rest}); {across}."


def analyze_run(run: Run, limit: int | None = None, rows: int = ROWS) -> RunAnalysis:
    """Analyse a run.

    Args:
        run: Result of `load_run`.
        limit: Largest number of test samples, or None for all.
        rows: Largest number of rows of a layer that are analysed one by one.

    Raises:
        ModelError: No neuron layer, no test samples, or a limit below 1.
    """
    if limit is not None:
        require_integer("analyze", "limit", limit)
    require_integer("analyze", "rows", rows)
    layers = run.network.neurons
    if not layers:
        raise ModelError("analyze", f"{run.folder} has no neuron layer")
    paths = {id(module): name for name, module in run.network.named_modules()}
    run.network.eval()
    recorded = record(run.network, layers, samples_of(run, limit))
    counts = energy(run.network, samples_of(run, limit))
    history = read_history(run.folder)
    found = [
        _layer(paths[id(x)], x, activity, history and layer_history(history, k, x), rows)
        for k, (x, activity) in enumerate(zip(layers, recorded.layers, strict=True))
    ]
    config = run.config.as_json() | {"v_min": clamp_of(run.config)}
    return RunAnalysis(
        folder=run.folder,
        network=f"{type(run.network).__name__} of {layers[0].neuron.name} on {run.data.name}",
        equations=brief(layers[0].neuron),
        config=config,
        split="held-out" if run.config.validation else "test",
        samples=recorded.samples,
        correct=recorded.correct,
        predictions=recorded.predictions,
        epochs=None if not history else min(len(values) for values in history.values()) - 1,
        layers=tuple(found),
        energy=counts,
    )


def samples_of(run: Run, limit: int | None) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield batches of the test split, up to the limit."""
    left = limit
    axis = 1 if run.data.kind == "sequence" else 0
    for x, labels in run.data.batches(run.data.test, batch_size(run.data)):
        number = labels.shape[-1] if left is None else min(left, labels.shape[-1])
        if number == 0:
            return
        yield x.narrow(axis, 0, number), labels.narrow(-1, 0, number)
        left = None if left is None else left - number


def _layer(
    name: str,
    layer: NeuronLayer,
    activity: Activity | None,
    history: dict[str, Tensor] | None,
    most: int,
) -> LayerAnalysis:
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
        z = potentials(layer, activity)
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
        reset_gain=float(reset_gain(layer.neuron, numbers_of(rows, selected), len(selected)).max()),
    )  # fmt: skip


def _examined(layer: NeuronLayer, selected: list[int]) -> list[int]:
    """Return the rows for the certificate: fewer of several states, where a proof takes longer."""
    if len(layer.neuron.states) == 1 or len(selected) <= PROVEN_ROWS:
        return selected
    places = torch.linspace(0, len(selected) - 1, PROVEN_ROWS).round().long()
    return [selected[k] for k in places.tolist()]
