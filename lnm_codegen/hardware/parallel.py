"""Independent checks side by side, their results in the order they were asked for."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def workers() -> int:
    """Return how many programs run at once: one a core that this process may use."""
    return max(1, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 2)


def side_by_side(work: Callable[[T], R], items: Iterable[T]) -> list[R]:
    """Return `work` of each item; the first error is raised when the rest has ended."""
    with ThreadPoolExecutor(workers()) as pool:
        return list(pool.map(work, items))
