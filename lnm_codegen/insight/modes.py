"""Movement of the poles of a layer's rows during training, and the typical row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lnm_codegen.analysis.linear.modes import POLE_CLASSES, Modes, modes_of
from lnm_codegen.ir.interpret import Array
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.nn import NeuronLayer
from lnm_codegen.nn.parameters import ParameterSets, parameter_sets
from lnm_codegen.train.stability.modes import numbers_of

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
