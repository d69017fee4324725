"""Networks as a chain of modules, for the conversion to integers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from lnm_codegen.ir.network.nodes import OverTime

REDUCTIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "mean": lambda values: values.mean(0),
    "last": lambda values: values[-1],
    "max": lambda values: values.amax(0),
}
"""Reductions of outputs over time."""


@dataclass(frozen=True, eq=False)
class Chain:
    """Modules that follow each other, from the input to the scores of the classes.

    Attributes:
        modules: (path in the network, module), in order: linear layers, convolutions, batch
            normalisations, `NeuronLayer`s, poolings, flattens, identities.
        time_steps: T of a sample that is repeated; None for sequences.
        over: Reduction of the last outputs over time: "mean", "last" or "max".
    """

    modules: tuple[tuple[str, nn.Module], ...]
    time_steps: int | None
    over: OverTime
