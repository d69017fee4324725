"""Linear classes of the rows of a layer with several states, and counts of its unstable rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lnm_codegen.analysis.linear.modes import DIVERGING, RESET, Modes, modes_of
from lnm_codegen.ir.interpret import Array
from lnm_codegen.nn import NeuronLayer
from lnm_codegen.nn.parameters import ParameterSets, parameter_sets

ROWS = 128
"""Largest number of rows of a layer that are analysed one by one."""


@dataclass(frozen=True, slots=True)
class Unstable:
    """Number of rows of a layer whose linear step is unstable; see `analysis.linear.classes`.

    Attributes:
        rows: Rows that were analysed, at most `ROWS`; 0 for a layer without such classes.
        diverging: Rows of class "diverging".
        reset: Rows of class "unstable but reset".
    """

    rows: int = 0
    diverging: int = 0
    reset: int = 0


def numbers_of(rows: ParameterSets, selected: Sequence[int]) -> dict[str, Array]:
    """Return the parameters of these rows, (R,) or (R, size), as float64."""
    return {n: v[list(selected)].double().numpy() for n, v in rows.values.items()}


def layer_modes(layer: NeuronLayer, rows: ParameterSets, selected: Sequence[int]) -> Modes:
    """Return the linear behaviour of the selected rows."""
    return modes_of(layer.neuron, numbers_of(rows, selected), len(selected))


def is_counted(layer: NeuronLayer) -> bool:
    """Report whether a layer has several states and learns: training may make its rows unstable."""
    neuron = layer.neuron
    return len(neuron.states) > 1 and any(p.learnable for p in neuron.params)


def count_unstable(layer: NeuronLayer) -> Unstable:
    """Return the counts of the rows that `lnm analyze RUN` analyses, of a counted layer."""
    if not is_counted(layer):
        return Unstable()
    rows = parameter_sets(layer)
    labels = layer_modes(layer, rows, rows.evenly_spaced_indices(ROWS)).labels
    return Unstable(len(labels), labels.count(DIVERGING), labels.count(RESET))


def unstable_text(counts: Sequence[Unstable]) -> str:
    """Return a line on the diverging rows of all layers, or an empty text without any."""
    diverging, reset = sum(c.diverging for c in counts), sum(c.reset for c in counts)
    if not diverging:
        return ""
    other = f" and {reset} unstable but reset" if reset else ""
    verb = "is" if diverging == 1 else "are"
    total = sum(c.rows for c in counts)
    return f"{diverging} of {total} rows {verb} diverging{other}, in free runs without input"
