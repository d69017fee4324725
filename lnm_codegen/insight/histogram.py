"""Histogram of a stream of numbers with an unknown range."""

from __future__ import annotations

import torch
from torch import Tensor

BINS = 256
_FIRST, _LAST = 2.0**-4, 2.0**20


class Histogram:
    """Counts in `BINS` equal bins over [-width, width), which doubles if a number lies outside.

    Doubling adds neighbouring bins in pairs, so counts stay exact.

    Attributes:
        counts: Count of each bin, (BINS,) int64.
        width: Half of the interval.
        lost: Number of values that are not finite, or 2**20 or more in magnitude.
    """

    def __init__(self) -> None:
        self.counts = torch.zeros(BINS, dtype=torch.int64)
        self.width = _FIRST
        self.lost = 0

    def add(self, values: Tensor) -> None:
        """Count the numbers of a tensor."""
        flat = values.detach().flatten().to(torch.float32).cpu()
        kept = flat[flat.abs() < _LAST]  # false for a NaN
        self.lost += flat.numel() - kept.numel()
        if not kept.numel():
            return
        farthest = float(kept.abs().max())
        while farthest >= self.width:
            self._double()
        scaled = kept * (BINS / (2 * self.width))  # exact: a power of 2
        place = scaled.floor().long() + BINS // 2
        self.counts += torch.bincount(place, minlength=BINS)

    def _double(self) -> None:
        pairs = self.counts.reshape(-1, 2).sum(1)
        quarter = BINS // 4
        self.counts = torch.cat([pairs.new_zeros(quarter), pairs, pairs.new_zeros(quarter)])
        self.width *= 2

    @property
    def edges(self) -> list[float]:
        """Edges of the bins, BINS + 1 of them."""
        return [-self.width + 2 * self.width * k / BINS for k in range(BINS + 1)]

    def trimmed(self) -> tuple[list[float], list[int]]:
        """Return the edges and counts from the first to the last bin that is not empty."""
        held = self.counts.nonzero().flatten().tolist()
        if not held:
            return [], []
        low, high = held[0], held[-1] + 1
        return self.edges[low : high + 1], self.counts[low:high].tolist()
