"""Spread of the learned parameters of a layer over its rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lnm_codegen.nn import NeuronLayer


@dataclass(frozen=True, slots=True)
class Spread:
    """Values of one learned number over the rows of a layer.

    Attributes:
        rows: Number of values.
        mean: Mean.
        deviation: Standard deviation, with divisor `rows` - 1.
        quartiles: Least value, 25 %, 50 % and 75 % quantile, and greatest value.
        negative: Number of values below 0.
    """

    rows: int
    mean: float
    deviation: float
    quartiles: tuple[float, ...]
    negative: int

    @property
    def signs(self) -> str:
        """Return "16 of 128", or "-" if no or every value is negative."""
        differ = 0 < self.negative < self.rows
        return f"{self.negative} of {self.rows}" if differ else "-"


def spreads(layer: NeuronLayer) -> dict[str, Spread]:
    """Return number -> its spread, of every learned number with several rows."""
    found = {}
    for param in layer.neuron.params:
        tensor = getattr(layer, param.name).detach().double().cpu()
        values = tensor.reshape(-1, param.size or 1).numpy()
        if not param.learnable or len(values) < 2:
            continue
        for name, column in zip(param.element_names, values.T, strict=True):
            quartiles = tuple(np.quantile(column, np.linspace(0, 1, 5)).tolist())
            numbers = (float(column.mean()), float(column.std(ddof=1)), quartiles)
            found[name] = Spread(len(column), *numbers, int((column < 0).sum()))
    return found
