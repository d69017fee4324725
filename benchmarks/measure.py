"""Round-robin medians: what every benchmark of this folder measures with."""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

KEEP_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(1 << 40)}


def keep_memory() -> None:
    """Run this process again with an allocator that keeps its pages.

    Fresh pages are dear on a virtual machine: without this, allocation is what is measured.
    """
    if any(os.environ.get(k) != v for k, v in KEEP_MEMORY.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **KEEP_MEMORY})


@dataclass(frozen=True)
class Timing:
    """Seconds of one call."""

    median: float
    low: float
    high: float


def round_robin(
    calls: dict[str, Callable[[], object]], rounds: int, warmup: int = 2, limit: float = 60.0
) -> dict[str, Timing]:
    """Time every call once a round, so that a drift of the machine meets all of them alike."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    began = time.perf_counter()
    for k in range(warmup + rounds):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if k >= warmup:
                times[name].append(time.perf_counter() - start)
        if k > warmup + 2 and time.perf_counter() - began > limit:
            break
    return {n: Timing(statistics.median(t), min(t), max(t)) for n, t in times.items()}
