"""Frames of events over time: counted when a batch first needs them, and then kept."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lnm_codegen.train.data.dataset import LARGEST, Augment, Source, Split, source_split
from lnm_codegen.train.data.events import Events
from lnm_codegen.validation import require_bool, require_integer, require_one_of

MAX_COUNT = 32767
Recording = Callable[[], Events]


def frames(
    events: Events, time_steps: int, size: int, binning: str, side: int | None = None
) -> NDArray[np.int16]:
    """Count events per slice, polarity and pixel: (T, 2, side, side), 32,767 at most.

    Args:
        events: Events in the order of time.
        time_steps: T.
        size: Pixels along a side of the camera.
        binning: "count" gives each slice the same number of events and the last one the remainder
            too, as SpikingJelly does; "time" gives each the same number of microseconds.
        side: Pixels along a side of a frame, `size` by default; a smaller frame sums pixels.
    """
    side = size if side is None else side
    shape = (time_steps, 2, side, side)
    if not len(events):
        return np.zeros(shape, np.int16)
    if binning == "count":
        share = max(len(events) // time_steps, 1)
        slices = np.minimum(np.arange(len(events)) // share, time_steps - 1)
    else:
        since = events.t - events.t.min()
        slices = since * time_steps // (since.max() + 1)
    place = (slices, events.p, events.y * side // size, events.x * side // size)
    counts = np.bincount(np.ravel_multi_index(place, shape), minlength=math.prod(shape))
    return counts.clip(max=MAX_COUNT).astype(np.int16).reshape(shape)


@dataclass(frozen=True)
class Framing:
    """Conversion of the recordings of a set to frames.

    Attributes:
        name: Name of the set.
        time_steps: T.
        camera: Pixels along a side of the camera.
        size: Pixels along a side of a frame, at most `camera`.
        binning: "count" or "time", see `frames`.
        keep: Keep the frames in memory.

    Raises:
        ModelError: A value out of range.
    """

    name: str
    time_steps: int
    camera: int
    size: int
    binning: str
    keep: bool

    def __post_init__(self) -> None:
        where = f"data: {self.name}"
        require_integer(where, "time_steps", self.time_steps, 1, LARGEST)
        require_integer(where, "size", self.size, 1, self.camera)
        require_one_of(where, "binning", self.binning, ("count", "time"))
        require_bool(where, "keep", self.keep)

    @property
    def shape(self) -> tuple[int, ...]:
        """(T, 2, H, W)."""
        return (self.time_steps, 2, self.size, self.size)

    def split(
        self, recordings: Sequence[Recording], labels: Tensor, augment: Augment | None
    ) -> Split:
        """Return a split that reads recordings and counts their events when a batch needs them."""

        def count(rows: Tensor) -> Tensor:
            counts = torch.empty((len(rows), *self.shape), dtype=torch.int16)
            for k, row in enumerate(rows.tolist()):
                events = recordings[row]()
                found = frames(events, self.time_steps, self.camera, self.binning, self.size)
                counts[k] = torch.from_numpy(found)
            return counts

        source = cached(count, len(labels), self.shape) if self.keep else count
        return source_split(source, labels, augment)


def cached(source: Source, count: int, shape: tuple[int, ...]) -> Source:
    """Return a source that calls `source` once for each row and keeps its int16 frames."""
    cache = torch.empty((count, *shape), dtype=torch.int16)  # takes memory where it is written
    known = torch.zeros(count, dtype=torch.bool)

    def read(rows: Tensor) -> Tensor:
        new = torch.unique(rows[~known[rows]])
        if len(new):
            cache[new] = source(new)
            known[new] = True
        return cache[rows]

    return read
