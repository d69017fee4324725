"""Networks as a chain of modules, for the conversion to integers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from lnm_codegen.ir.network.nodes import OverTime

IGNORED = -100
"""The label of a time step without one, as in `cross_entropy`."""


def mean_over_time(values: Tensor) -> Tensor:
    """Return the mean of values (T, N, *) over time.

    The gradient of a sum is one step that is repeated, without memory of its own for each step;
    that of `Tensor.mean` is written T times.
    """
    total = values.sum(0, dtype=torch.promote_types(values.dtype, torch.float32))
    return (total / values.shape[0]).to(values.dtype)


REDUCTIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "mean": mean_over_time,
    "last": lambda values: values[-1],
    "max": lambda values: values.amax(0),
    "step": lambda values: values,
}
"""Reductions of outputs over time; "step" keeps those of every step."""


def over_time(over: str, values: Tensor, lengths: Tensor | None = None) -> Tensor:
    """Return values (T, N, *) reduced over time; samples end after `lengths` (N,) steps."""
    if lengths is None:
        return REDUCTIONS[over](values)
    ends = lengths.reshape(-1, *[1] * (values.dim() - 2))
    if over == "last":
        return values.gather(0, (ends - 1).expand(values.shape[1:])[None])[0]
    kept = torch.arange(len(values), device=values.device).reshape(-1, *[1] * ends.dim()) < ends
    if over == "max":
        return values.masked_fill(~kept, -math.inf).amax(0)
    return values.masked_fill(~kept, 0.0).sum(0) / ends


def scores_over(over: str, outputs: Tensor) -> Tensor:
    """Return the scores of a network that may reduce its outputs itself: (N, C), or of each step.

    A network with outputs (T, N, C) that a chain reduces gives their mean, as its loss does.
    """
    if outputs.dim() == 3 and over != "step":
        return mean_over_time(outputs)
    return outputs


@dataclass(frozen=True, eq=False)
class Chain:
    """Modules in order, from the input to the scores of the classes.

    A module reads the one before, unless `inputs` has its path.

    Attributes:
        modules: (path in the network, module), in order: linear layers, convolutions, batch
            normalisations, `NeuronLayer`s, poolings, flattens, identities.
        time_steps: T of a sample that is repeated; None for sequences.
        over: Reduction of the last outputs over time: "mean", "last" or "max"; "step" is none.
        feedback: Path of neurons -> U without bias, by which they receive their own spikes of the
            step before. A `RecurrentLayer` has its own U.
        inputs: Path of a module -> the paths of modules before it, whose outputs it reads and adds;
            "" is the input of the network. A `NormNeuron` with a shortcut reads what it normalises
            and its shortcut.
    """

    modules: tuple[tuple[str, nn.Module], ...]
    time_steps: int | None
    over: OverTime
    feedback: Mapping[str, nn.Linear] = field(default_factory=dict)
    inputs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
