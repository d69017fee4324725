"""Data sets in memory, in files or simulated: two splits, and the batches they give a network."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import torch
from torch import Tensor

from lnm_codegen.errors import ModelError, ShapeError
from lnm_codegen.nn.load.warn import warn_once
from lnm_codegen.validation import Accepted, require_integer, wrong

Kind = Literal["image", "sequence"]
Scale = tuple[Tensor, Tensor]
"""Mean and deviation by which samples are normalised; each broadcasts against a sample."""
Source = Callable[[Tensor], Tensor]
"""rows (n,) int64 -> inputs (n, *sample)."""
Reader = Callable[[Tensor, Tensor | None], Tensor]
"""(rows, chance) -> inputs; `chance` (n, draws) in [0, 1), or None for no augmentation."""
Augment = Callable[[Tensor, Tensor], Tensor]
"""(inputs (n, ...), chance (n, draws)) -> inputs (n, ...)."""

READ_AT_ONCE = 4096
FEW = 4
"""Samples of a split that represent it in a comparison."""
PADDING = math.nan
"""The inputs of a time step behind the end of a sample; see `unpadded`."""
LARGEST = 2**31
"""The largest integer that an option of a set accepts."""
Size = Annotated[int, Accepted(low=1, high=LARGEST)]
Seed = Annotated[int, Accepted(low=0, high=LARGEST)]


class Split:
    """Labelled samples, read when a batch needs them: from memory, from files, or simulated."""

    batch: int | None = None
    """Samples in a batch where something else makes the batches, a `DataLoader`."""

    def __len__(self) -> int:
        raise NotImplementedError

    @property
    def labels(self) -> Tensor:
        """All labels: int64 (count,), or (count, T) where each time step has a label."""
        raise NotImplementedError

    @property
    def known_labels(self) -> Tensor | None:
        """The labels, or None where every sample must be read for them."""
        return self.labels

    def pairs(
        self, rows: Tensor, chance: Tensor | None = None, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return inputs and labels of some samples, not normalised: (n, *sample), time second.

        Args:
            rows: Indices of the samples, (n,) int64.
            chance: Uniform numbers in [0, 1), (n, draws). They alone determine the augmentation of
                each sample; None leaves the samples unchanged.
            generator: Source of a seed for samples with random transforms of their own.
        """
        raise NotImplementedError

    def subset(self, rows: Tensor) -> Split:
        """Return a split of these rows, in that order. Nothing is read yet."""
        raise NotImplementedError

    def read_batches(
        self, size: int, generator: torch.Generator | None, draws: int, rank: int, world: int
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the `pairs` of the batches of an epoch; see `Dataset.batches`.

        `draws` is the number of random numbers for the augmentation of a sample, 0 for none.
        """
        count = len(self)
        order = (
            torch.arange(count) if generator is None else torch.randperm(count, generator=generator)
        )
        for rows in torch.split(order, size):
            chance = None
            if draws:
                shape = (len(rows), draws)
                chance = torch.rand(shape, generator=generator, dtype=torch.float64)[rank::world]
            yield self.pairs(rows[rank::world], chance, generator)

    def few(self, seed: int) -> tuple[Tensor, Tensor] | None:
        """Return some samples that represent the split, read with a seed; None if that fails."""
        return self.pairs(torch.arange(min(FEW, len(self))))

    def take(self, rows: Tensor, chance: Tensor | None = None) -> Tensor:
        """Return the inputs of some samples; see `pairs`."""
        return self.pairs(rows, chance)[0]

    def first(self, limit: int | None) -> Split:
        """Return the first `limit` samples, or all of them."""
        return self if limit is None else self.subset(torch.arange(min(limit, len(self))))

    def in_memory(self, augment: Augment | None = None) -> Split:
        """Read all inputs now and return them as a split in memory."""
        parts = [self.take(rows) for rows in torch.split(torch.arange(len(self)), READ_AT_ONCE)]
        return memory_split(torch.cat(parts), self.labels, augment)

    @property
    def images(self) -> Tensor:
        """All inputs at once, read at each call. For sets that fit in memory."""
        return self.take(torch.arange(len(self)))


class LabelledSplit(Split):
    """Samples whose labels are in memory.

    Args:
        labels: The labels of all samples.
        read: Reader of the inputs.
    """

    def __init__(self, labels: Tensor, read: Reader) -> None:
        self._labels, self._read = labels, read

    def __len__(self) -> int:
        return len(self._labels)

    @property
    def labels(self) -> Tensor:
        """All labels."""
        return self._labels

    def pairs(
        self,
        rows: Tensor,
        chance: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return inputs and labels of some samples."""
        return self._read(rows, chance), self._labels[rows]

    def subset(self, rows: Tensor) -> Split:
        """Return a split of these rows."""
        read = self._read
        return LabelledSplit(self._labels[rows], lambda some, chance: read(rows[some], chance))


def memory_split(inputs: Tensor, labels: Tensor, augment: Augment | None = None) -> Split:
    """Return a split whose inputs (count, *sample) are in memory."""
    return source_split(lambda rows: inputs[rows], labels, augment)


def source_split(source: Source, labels: Tensor, augment: Augment | None = None) -> Split:
    """Return a split whose inputs come from `source`, with an augmentation of whole batches."""

    def read(rows: Tensor, chance: Tensor | None) -> Tensor:
        inputs = source(rows)
        return inputs if chance is None or augment is None else augment(inputs, chance)

    return LabelledSplit(labels, read)


class Loaded(NamedTuple):
    """Arguments of `load`: its folder, limit and options."""

    folder: Path | None
    limit: int | None
    options: dict[str, Any]


@dataclass(frozen=True, eq=False)
class Dataset:
    """A training and a test split.

    Attributes:
        name: A name of `DATASETS`, or one of your own.
        train: Samples for training.
        test: Samples for the reported accuracy; in a `held_out` set, for validation.
        classes: Labels are 0 to classes - 1. Of other targets, the numbers in one of them.
        kind: "image", (C, H, W), or "sequence", (T, *features).
        sample: The shape of one input.
        scale: Mean and deviation; by default 0 and 1.
        per_step: Each time step of a sequence has its own label.
        draws: Random numbers that the augmentation of a sample takes; 0 without augmentation.
        is_held_out: `test` was drawn from the training samples, or was given for validation.
        loaded: Arguments with which `load` made these samples; None for samples of your own.
        has_classes: Labels are classes. Other targets need a loss function.
        unread_test: The test split of a set whose samples for validation were given.
        padded: Samples have different lengths. The steps behind the end of one are NaN, in inputs
            and in batches; networks take them apart with `unpadded`.
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
    is_held_out: bool = False
    loaded: Loaded | None = None
    has_classes: bool = True
    unread_test: Split | None = None
    padded: bool = False

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

        Every process draws the same order and the same augmentation of the whole batch, and takes
        the rows rank, rank + world, ... So the batches of all processes together are those of a
        single process. A last batch of fewer than `world` samples is empty on some processes.

        Args:
            split: `train` or `test`.
            size: Samples in the whole batch; the last may have fewer.
            generator: Source of the shuffling and the augmentation; None keeps the order.
            augment: Change the samples at random, as is usual for this set.
            rank: Index of this process.
            world: Number of processes.

        Yields:
            Images x (N, C, H, W), or sequences x (T, N, *features), float32; labels (N,), or
            (T, N) if `per_step`. Other targets are (N, *), or (T, N, *).

        Raises:
            ModelError: A size, rank or world out of range, an augmentation without a generator, or
                a set without augmentation.
        """
        where = f"data: {self.name}"
        require_integer(where, "size", size)
        if not 0 <= rank < world:
            raise wrong(where, "rank", rank, f"0 to world - 1 = {world - 1}")
        if augment and not self.draws:
            raise ModelError(where, "the set has no augmentation", remedy="Set augment=False.")
        if augment and generator is None:
            problem = "augment=True draws random numbers"
            raise ModelError(where, problem, remedy="Give a generator.")
        mean, std = self.scale
        draws = self.draws if augment else 0
        for x, labels in split.read_batches(size, generator, draws, rank, world):
            if self.kind == "sequence":
                x = x.transpose(0, 1).contiguous()
                labels = labels.transpose(0, 1).contiguous() if self.per_step else labels
            yield x.to(torch.float32).sub(mean).div_(std), labels

    def count(self, labels: Tensor) -> int:
        """Return the number of samples of a batch with these labels or targets."""
        return labels.shape[1 if self.per_step else 0]

    def first(self, limit: int | None) -> Dataset:
        """Return a set of the first `limit` samples of each split, or of all."""
        loaded = self.loaded
        if loaded is not None:
            loaded = loaded._replace(limit=least(limit, loaded.limit))
        if limit is not None and self.train.batch is not None:
            remedy = "Limit the data set, say with torch.utils.data.Subset, before the loader."
            raise ModelError(f"data: {self.name}", "limit applies to data sets only", remedy=remedy)
        train, test = self.train.first(limit), self.test.first(limit)
        unread = None if self.unread_test is None else self.unread_test.first(limit)
        return replace(self, train=train, test=test, loaded=loaded, unread_test=unread)

    def held_out(self, count: int, seed: int = 0) -> Dataset:
        """Return a set for validation: its `test` is drawn from `train`, which keeps the rest.

        The real test split is absent. With one label per sample the draw is stratified: a class
        with n of N samples gives count n / N of them, rounded down or up. The scale remains that
        of the whole training split.

        Args:
            count: Samples held out.
            seed: Seed of the draw.

        Raises:
            ModelError: A count that leaves a split empty.
        """
        total, generator = len(self.train), torch.Generator().manual_seed(seed)
        require_integer(f"data: {self.name}", "the number held out", count, 1, total - 1)
        drawn = torch.zeros(total, dtype=torch.bool)
        if self.has_classes and not self.per_step:
            drawn[_stratified(self.train.labels, count, generator)] = True
        else:
            drawn[torch.randperm(total, generator=generator)[:count]] = True
        rest, out = (~drawn).nonzero().flatten(), drawn.nonzero().flatten()
        train, test = self.train.subset(rest), self.train.subset(out)
        return replace(self, train=train, test=test, is_held_out=True)

    def with_test(self) -> Dataset:
        """Return the set with its test split in place of the samples given for validation."""
        if self.unread_test is None:
            return self
        return replace(self, test=self.unread_test, is_held_out=False, unread_test=None)


def padded_to(steps: int, x: Tensor) -> Tensor:
    """Return a sample (t, *features), t <= T, as (T, *features) with steps of NaN behind it."""
    found = x.new_full((steps, *x.shape[1:]), PADDING, dtype=torch.float32)
    found[: len(x)] = x
    return found


def unpadded(x_seq: Tensor) -> tuple[Tensor, Tensor]:
    """Return a batch (T, N, *features) with 0 in place of the padding, and the lengths (N,).

    The last step of a sample is the last one without NaN in its first feature.

    Raises:
        ShapeError: x_seq is no tensor of three axes or more.
    """
    if not isinstance(x_seq, Tensor) or x_seq.dim() < 3:
        found = tuple(x_seq.shape) if isinstance(x_seq, Tensor) else type(x_seq).__name__
        raise ShapeError("unpadded", f"x_seq is {found}", "a tensor (T, N, *features)")
    seen = ~x_seq.flatten(2)[:, :, 0].isnan()
    steps = torch.arange(1, len(x_seq) + 1, device=x_seq.device)[:, None]
    lengths = (seen * steps).amax(0).clamp(min=1)
    kept = (steps <= lengths).reshape(*seen.shape, *[1] * (x_seq.dim() - 2))
    return torch.where(kept, x_seq, 0.0), lengths


def by_length(x_seq: Tensor, labels: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the samples of each length of a batch, and their labels, without padding."""
    lengths = unpadded(x_seq)[1]
    for steps in sorted(set(lengths.tolist())):
        rows = (lengths == steps).nonzero().flatten()
        own = labels[..., rows]
        yield x_seq[:steps, rows], own[:steps] if labels.dim() > 1 else own


def standard_scale(x: Tensor, over: tuple[int, ...] = (), correction: int = 0) -> Scale:
    """Return mean and deviation over some axes, or over all, as float32.

    The deviation of equal values is 1. Both are computed in float64: in float32 it is not 0.
    """
    wide, axes = x.double(), over or tuple(range(x.ndim))
    mean, std = wide.mean(axes).float(), wide.std(axes, correction=correction).float()
    varies = (x.amin(axes) < x.amax(axes)) & (std > 0)
    return mean, torch.where(varies, std, torch.ones_like(std))


def least(*limits: int | None) -> int | None:
    """Return the smallest of several limits; None is no limit."""
    return min((n for n in limits if n is not None), default=None)


def warn_of_absent_classes(data: Dataset, limit: int | None, held_out: int = 0) -> None:
    """Show a warning if a limit leaves the training split without some classes of the set."""
    if limit is None or limit > len(data.train) + held_out or not data.has_classes:
        return
    labels = data.train.labels.flatten()
    counts = torch.bincount(labels[labels >= 0], minlength=data.classes)
    absent = (counts == 0).nonzero().flatten().tolist()
    if absent:
        named = ", ".join(map(str, absent[:10])) + ", ..." * (len(absent) > 10)
        problem = f"limit={limit} leaves no training sample of {data.name} with the label {named}"
        warn_once(f"train: {problem}. Raise the limit, or shuffle samples of your own first.")


def _stratified(labels: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Draw `count` rows by class; the largest remainders round up."""
    sizes = torch.bincount(labels)
    quota, remainder = sizes * count // len(labels), sizes * count % len(labels)
    spare = count - int(quota.sum())
    quota[remainder.argsort(descending=True, stable=True)[:spare]] += 1
    drawn = []
    for label, some in enumerate(quota.tolist()):
        rows = (labels == label).nonzero().flatten()
        drawn.append(rows[torch.randperm(len(rows), generator=generator)[:some]])
    return torch.cat(drawn)
