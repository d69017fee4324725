"""Accuracy of a network in float and in integers on the same samples."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from lnm_codegen.deploy.integers.convert import integer_samples
from lnm_codegen.errors import ModelError
from lnm_codegen.ir.fixed.interpret import Array
from lnm_codegen.ir.network.interpret import interpret_network
from lnm_codegen.ir.network.nodes import IntegerNetwork

Batches = Iterable[tuple[Tensor, Tensor]]
"""Samples and labels (N,)."""


@dataclass(frozen=True, slots=True)
class IntegerAccuracy:
    """Correct predictions of a network in float and in integers."""

    samples: int
    correct: int
    correct_integers: int
    broken: int  # samples that are correct in float and wrong in integers

    @property
    def accuracy(self) -> float:
        """Share of correct predictions in float."""
        return self.correct / self.samples

    @property
    def accuracy_integers(self) -> float:
        """Share of correct predictions in integers."""
        return self.correct_integers / self.samples

    @property
    def lost(self) -> float:
        """Percentage points that the integers lose; negative if they gain."""
        return 100 * (self.correct - self.correct_integers) / self.samples

    @property
    def points_broken(self) -> float:
        """Percentage of samples that are correct in float and wrong in integers; >= `lost`."""
        return 100 * self.broken / self.samples

    def most_broken(self, percent: float) -> int:
        """Return the most samples that may break for a target in percent."""
        return sum(100 * k / self.samples <= percent for k in range(1, self.samples + 1))

    def __str__(self) -> str:
        change = f"{abs(self.lost):.2f} points {'gained' if self.lost < 0 else 'lost'}"
        return (
            f"float {100 * self.accuracy:.2f} %, integers {100 * self.accuracy_integers:.2f} %,"
            f" {change} on {self.samples} samples"
        )


def is_correct_in_integers(network: IntegerNetwork, batches: Batches) -> Array:
    """Return for each sample whether its label in integers is right."""
    found = [
        interpret_network(network, integer_samples(network, x.cpu().numpy())).labels
        == labels.cpu().numpy()
        for x, labels in batches
    ]
    return np.concatenate(found) if found else np.zeros(0, bool)


def is_correct_in_float(network: nn.Module, batches: Batches) -> Array:
    """Return for each sample whether its label in float is right; scores per step are averaged."""
    found = []
    with torch.no_grad():
        for x, labels in batches:
            logits = network(x)
            logits = logits.mean(0) if logits.dim() == 3 else logits
            found.append((logits.argmax(1) == labels).cpu().numpy())
    return np.concatenate(found) if found else np.zeros(0, bool)


def compared(in_float: Array, in_integers: Array) -> IntegerAccuracy:
    """Return the counts of two arrays of correct predictions of the same samples."""
    counts = (in_float.sum(), in_integers.sum(), (in_float & ~in_integers).sum())
    return IntegerAccuracy(len(in_float), *map(int, counts))


def integer_accuracy(
    network: nn.Module, integers: IntegerNetwork, batches: Batches
) -> IntegerAccuracy:
    """Return the accuracy of both on labelled samples.

    Raises:
        ModelError: No samples.
    """
    kept = list(batches)
    if not kept:
        raise ModelError("accuracy", "no samples", "one or more")
    return compared(is_correct_in_float(network, kept), is_correct_in_integers(integers, kept))
