"""Accuracy of a network in float and in integers on the same samples."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lnm_codegen.deploy.integers.convert import integer_samples
from lnm_codegen.errors import ModelError
from lnm_codegen.ir.network.interpret import interpret_network
from lnm_codegen.ir.network.nodes import IntegerNetwork


@dataclass(frozen=True, slots=True)
class IntegerAccuracy:
    """Correct predictions of a network in float and in integers."""

    samples: int
    correct: int
    correct_integers: int

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
        """Percentage points that the integers lose."""
        return 100 * (self.accuracy - self.accuracy_integers)

    def __str__(self) -> str:
        return (
            f"float {100 * self.accuracy:.2f} %, integers {100 * self.accuracy_integers:.2f} %,"
            f" {self.lost:.2f} points lost on {self.samples} samples"
        )


def count_integers(
    network: IntegerNetwork, batches: Iterable[tuple[Tensor, Tensor]]
) -> tuple[int, int]:
    """Return the numbers of correct predictions in integers, and of samples."""
    correct = count = 0
    for x, labels in batches:
        found = interpret_network(network, integer_samples(network, x.cpu().numpy()))
        correct += int((torch.from_numpy(found.labels) == labels.cpu()).sum())
        count += len(labels)
    return correct, count


def count_float(network: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> int:
    """Return the number of correct predictions in float; scores per step are averaged."""
    correct = 0
    with torch.no_grad():
        for x, labels in batches:
            logits = network(x)
            logits = logits.mean(0) if logits.dim() == 3 else logits
            correct += int((logits.argmax(1) == labels).sum())
    return correct


def integer_accuracy(
    network: nn.Module, integers: IntegerNetwork, batches: Iterable[tuple[Tensor, Tensor]]
) -> IntegerAccuracy:
    """Return the accuracy of both on labelled samples; labels are (N,).

    Raises:
        ModelError: No samples.
    """
    kept = list(batches)
    if not kept:
        raise ModelError("accuracy", "no samples", "one or more")
    correct, count = count_integers(integers, kept)
    return IntegerAccuracy(count, count_float(network, kept), correct)
