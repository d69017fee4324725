"""From recordings to frames over time, counted when a batch first asks for them, and kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lnm_codegen.train.data.events import Events, frames
from lnm_codegen.train.data.options import check_choice, check_count
from lnm_codegen.train.data.split import Augment, Split

BINNINGS = ("count", "time")
Recording = Callable[[], Events]


@dataclass(frozen=True)
class Framing:
    """How recordings become frames.

    Attributes:
        time_steps: T.
        camera: Pixels along a side of the camera.
        size: Pixels along a side of a frame; fewer than the camera's sum what falls together.
        binning: "count" (slices of as many events) or "time" (of as many microseconds).
        keep: Keep the frames in memory.
    """

    time_steps: int
    camera: int
    size: int
    binning: str
    keep: bool

    def check(self, name: str) -> None:
        """Raise ModelError for a value out of range."""
        check_count(name, "time_steps", self.time_steps)
        check_count(name, "size", self.size, 1, self.camera)
        check_choice(name, "binning", self.binning, BINNINGS)
        check_choice(name, "keep", self.keep, (False, True))

    @property
    def shape(self) -> tuple[int, ...]:
        """(T, 2, H, W)."""
        return (self.time_steps, 2, self.size, self.size)


def recorded_split(
    recordings: Sequence[Recording], labels: Tensor, framing: Framing, augment: Augment | None
) -> Split:
    """Return a split that reads recordings and counts their events when it is asked for them."""

    def make(rows: Tensor) -> Tensor:
        found = torch.empty((len(rows), *framing.shape), dtype=torch.int16)
        for k, row in enumerate(rows.tolist()):
            counted = frames(
                recordings[row](), framing.time_steps, framing.camera, framing.binning, framing.size
            )
            found[k] = torch.from_numpy(counted)
        return found

    return made_split(make, labels, framing.shape, framing.keep, augment)


def made_split(
    make: Callable[[Tensor], Tensor],
    labels: Tensor,
    shape: tuple[int, ...],
    keep: bool,
    augment: Augment | None,
) -> Split:
    """Return a split of frames int16 that `make` gives for rows.

    Args:
        make: From rows (n,) to (n, *shape).
        labels: Of all samples.
        shape: Of one sample.
        keep: Call `make` once for each row and keep what it gave.
        augment: Of whole batches.
    """
    source = kept_once(make, len(labels), shape) if keep else make

    def read(rows: Tensor, chance: Tensor | None) -> Tensor:
        found = source(rows)
        return found if chance is None or augment is None else augment(found, chance)

    return Split(labels, read)


def kept_once(
    make: Callable[[Tensor], Tensor], count: int, shape: tuple[int, ...]
) -> Callable[[Tensor], Tensor]:
    """Return a function of rows that calls `make` once for each and keeps what it gave."""
    kept = torch.empty((count, *shape), dtype=torch.int16)  # takes memory where it is written
    known = torch.zeros(count, dtype=torch.bool)

    def read(rows: Tensor) -> Tensor:
        new = torch.unique(rows[~known[rows]])
        if len(new):
            kept[new] = make(new)
            known[new] = True
        return kept[rows]

    return read
