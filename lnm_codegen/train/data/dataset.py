"""`Dataset`: two splits and how a batch of them reaches a network."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor

from lnm_codegen.errors import ModelError
from lnm_codegen.train.data.split import Split

Kind = Literal["image", "sequence"]
Scale = tuple[Tensor, Tensor]
"""What is subtracted from a sample and what it is then divided by; each broadcasts against it."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """A training and a test split.

    Attributes:
        name: A name of `DATASETS`.
        train: For the weights.
        test: For the figure that is reported; in a `held_out` set, for choices.
        classes: Labels are 0 to classes - 1.
        kind: "image", (C, H, W), or "sequence", (T, *features).
        sample: The shape of one input.
        scale: Mean and deviation; by default 0 and 1.
        per_step: Each step of a sequence has a label of its own.
        draws: How many random numbers the augmentation of a sample takes; 0 where there is none.
    """

    name: str
    train: Split
    test: Split
    classes: int
    kind: Kind
    sample: tuple[int, ...]
    scale: Scale = field(default_factory=lambda: (torch.tensor(0.0), torch.tensor(1.0)))
    per_step: bool = False
    draws: int = 0

    def batches(
        self,
        split: Split,
        size: int,
        generator: torch.Generator | None = None,
        augment: bool = False,
        rank: int = 0,
        world: int = 1,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the batches of one epoch: normalised float32 inputs, and labels.

        Every process draws the same order and the same augmentation of the whole batch and takes
        its rows rank, rank + world, ..., so that the processes' batches together are those of one
        process alone. A last batch of fewer than `world` samples leaves some of them none.

        Args:
            split: `train` or `test`.
            size: Samples in the whole batch; the last may have fewer.
            generator: Shuffles, and drives the augmentation. None keeps the order.
            augment: Change the samples at random, as is usual for this set.
            rank: This process.
            world: How many processes there are.

        Yields:
            Images x (N, C, H, W), or sequences x (T, N, *features), float32; labels (N,), or
            (T, N) where they are per step.

        Raises:
            ModelError: A size, rank or world out of range, or an augmentation without a generator
                or for a set that has none.
        """
        self._check(size, generator, augment, rank, world)
        count, (mean, std) = len(split), self.scale
        order = (
            torch.arange(count) if generator is None else torch.randperm(count, generator=generator)
        )
        for rows in torch.split(order, size):
            chance = None
            if augment:
                shape = (len(rows), self.draws)
                chance = torch.rand(shape, generator=generator, dtype=torch.float64)[rank::world]
            own = rows[rank::world]
            x, labels = split.take(own, chance), split.labels[own]
            if self.kind == "sequence":
                x = x.transpose(0, 1).contiguous()
                labels = labels.t().contiguous() if self.per_step else labels
            yield x.to(torch.float32).sub(mean).div_(std), labels

    def held_out(self, count: int, seed: int = 0) -> Dataset:
        """Return a set whose `test` is drawn from `train`, which keeps the rest: for choices.

        The real test split is not in it. With a label per sample the draw is stratified: a class
        with n of N samples gives count n / N of them, rounded down or up. The scale stays that of
        the whole training split.

        Args:
            count: Samples held out.
            seed: Of the draw.

        Raises:
            ModelError: Nothing would be held out, or nothing left.
        """
        total = len(self.train)
        if not 1 <= count < total:
            raise ModelError(
                f"data: {self.name}", f"{count!r} samples held out of {total}", f"1 to {total - 1}"
            )
        drawn = torch.zeros(total, dtype=torch.bool)
        drawn[_draw(self.train.labels, count, torch.Generator().manual_seed(seed))] = True
        left, out = (~drawn).nonzero().flatten(), drawn.nonzero().flatten()
        return replace(self, train=self.train.subset(left), test=self.train.subset(out))

    def _check(
        self, size: int, generator: torch.Generator | None, augment: bool, rank: int, world: int
    ) -> None:
        if size < 1:
            raise ModelError(f"data: {self.name}", f"batches of {size!r}", "1 or more")
        if not 0 <= rank < world:
            raise ModelError(
                f"data: {self.name}", f"rank {rank!r} of {world!r} processes", "0 to world - 1"
            )
        if augment and not self.draws:
            raise ModelError(
                "data", f"{self.name!r} has no augmentation", "augment=False for this set"
            )
        if augment and generator is None:
            raise ModelError(
                f"data: {self.name}",
                "augment=True draws random numbers",
                remedy="Give a generator.",
            )


def _draw(labels: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Draw `count` rows; by class, with the largest remainders rounded up, where there is one."""
    if labels.dim() > 1:
        return torch.randperm(len(labels), generator=generator)[:count]
    sizes = torch.bincount(labels)
    quota, remainder = sizes * count // len(labels), sizes * count % len(labels)
    spare = count - int(quota.sum())
    quota[remainder.argsort(descending=True, stable=True)[:spare]] += 1
    drawn = []
    for label, some in enumerate(quota.tolist()):
        rows = (labels == label).nonzero().flatten()
        drawn.append(rows[torch.randperm(len(rows), generator=generator)[:some]])
    return torch.cat(drawn)
