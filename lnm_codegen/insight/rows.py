"""The rows of a layer: what its parameters are for the layer, each channel or each neuron."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lnm_codegen.language.neuron import Neuron
from lnm_codegen.nn import NeuronLayer


@dataclass(frozen=True)
class Rows:
    """Parameters of a layer, a row for each set of values that differ in place.

    Attributes:
        shape: (), (C,) or the shape of one sample's neurons.
        values: Parameter -> (R,) or (R, size), R the product of `shape`.
    """

    shape: tuple[int, ...]
    values: dict[str, Tensor]

    def __len__(self) -> int:
        return int(torch.Size(self.shape).numel())

    @property
    def per(self) -> str:
        """What has a row of its own: "layer", or "channel" or "neuron"."""
        return {0: "layer", 1: "channel"}.get(len(self.shape), "neuron")

    def spread(self, most: int) -> list[int]:
        """Return the numbers of at most `most` rows, evenly spread."""
        if len(self) <= most:
            return list(range(len(self)))
        return sorted({round(k) for k in torch.linspace(0, len(self) - 1, most).tolist()})

    def of(self, row: int) -> dict[str, Any]:
        """Return the parameters of one row as plain numbers, for `analysis`."""
        return {name: value[row].double().tolist() for name, value in self.values.items()}

    def place(self, row: int) -> str:
        """Return what a row is the row of, `channel 3`."""
        if not self.shape:
            return "layer"
        index = [int(k) for k in torch.unravel_index(torch.tensor(row), self.shape)]
        return f"{self.per} {index[0] if len(index) == 1 else tuple(index)}"


def rows_of(layer: NeuronLayer) -> Rows:
    """Return the rows of a layer: as many as its finest parameter has."""
    held = {}
    for decl in layer.neuron.params:
        value: Tensor = getattr(layer, decl.name).detach().cpu()
        held[decl.name] = tuple(value.shape if decl.size is None else value.shape[:-1])
    shape: tuple[int, ...] = max(held.values(), key=len, default=())
    values = {}
    for decl in layer.neuron.params:
        value = getattr(layer, decl.name).detach().cpu()
        size = () if decl.size is None else (decl.size,)
        lead = held[decl.name]
        wide = value.reshape((*lead, *(1 for _ in shape[len(lead) :]), *size))
        values[decl.name] = wide.expand((*shape, *size)).reshape((-1, *size))
    return Rows(shape, values)


def by_row(values: Tensor, rows: Rows) -> Tensor:
    """Return values (T, N, *) as (R, K): what belongs to each row."""
    if not rows.shape:
        return values.reshape(1, -1)
    if len(rows.shape) == 1 and values.dim() > 2:
        return values.movedim(2, 0).reshape(rows.shape[0], -1)
    return values.flatten(2).movedim(2, 0).reshape(len(rows), -1)


def probe(neuron: Neuron, rows: Rows, chosen: Sequence[int], **arguments: Any) -> NeuronLayer:
    """Return a layer with one channel for each of the chosen rows.

    Args:
        neuron: Of the layer whose rows they are, or with further outputs.
        rows: Of `rows_of`.
        chosen: Numbers of rows.
        arguments: Further ones of `NeuronLayer`.
    """
    apart = neuron.with_per({p.name: "channel" for p in neuron.params})
    made = NeuronLayer(apart, channels=len(chosen), **arguments)
    index = torch.tensor(list(chosen))
    with torch.no_grad():
        for decl in apart.params:
            getattr(made, decl.name).copy_(rows.values[decl.name][index])
    return made.eval()
