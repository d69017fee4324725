"""`Split`: labelled samples that are read when they are asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Reader = Callable[[Tensor, Tensor | None], Tensor]
"""(rows, chance) -> inputs. `rows` (n,) int64; `chance` (n, draws) in [0, 1), or None for none."""

Augment = Callable[[Tensor, Tensor], Tensor]
"""(inputs (n, ...), chance (n, draws)) -> inputs (n, ...)."""

READ_AT_ONCE = 4096


@dataclass(frozen=True, eq=False)
class Split:
    """Labelled samples.

    Attributes:
        labels: int64, (count,), or (count, T) where each step has its own.
        read: Where the inputs come from: memory, files, or a simulation.
    """

    labels: Tensor
    read: Reader

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: Tensor, chance: Tensor | None = None) -> Tensor:
        """Return the inputs of some samples, as they are kept: not normalised.

        Args:
            rows: Which, (n,) int64.
            chance: Uniform numbers in [0, 1), (n, draws), that decide how each sample is augmented;
                None leaves it as it is. A sample's own numbers are all that it depends on.

        Returns:
            (n, *sample); a sequence has its time axis second.
        """
        return self.read(rows, chance)

    def subset(self, rows: Tensor) -> Split:
        """Return a split of these rows, in that order. Nothing is read yet."""
        return Split(self.labels[rows], lambda some, chance: self.read(rows[some], chance))

    def first(self, limit: int | None) -> Split:
        """Return the first `limit` samples, or all of them."""
        return self if limit is None else self.subset(torch.arange(min(limit, len(self))))

    def in_memory(self, augment: Augment | None = None) -> Split:
        """Read all inputs now and keep them, with an augmentation of whole batches."""
        parts = [
            self.read(rows, None) for rows in torch.split(torch.arange(len(self)), READ_AT_ONCE)
        ]
        return held(torch.cat(parts), self.labels, augment)

    @property
    def images(self) -> Tensor:
        """All inputs at once, read at each call. For sets that fit in memory."""
        return self.take(torch.arange(len(self)))


def held(inputs: Tensor, labels: Tensor, augment: Augment | None = None) -> Split:
    """Return a split whose inputs (count, *sample) are in memory."""

    def read(rows: Tensor, chance: Tensor | None) -> Tensor:
        found = inputs[rows]
        return found if chance is None or augment is None else augment(found, chance)

    return Split(labels, read)
