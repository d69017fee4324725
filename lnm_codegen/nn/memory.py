"""Memory on the CPU: blocks that the results of layers use in turn, and pages that are kept.

By default, glibc returns the memory of every large tensor to the system, and the system clears new
pages for the next one. For a neuron layer this takes longer than its arithmetic. So large outputs,
saved states and gradients of layers come from a pool. A block is used again only when no tensor,
view or graph refers to its storage: the storage holds a reference to the block, which the pool
counts.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import prod
from sys import getrefcount
from threading import Lock
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

_LEAST = 1 << 17
"""Least number of bytes of a block; glibc's `malloc` reuses the memory of smaller tensors."""
_MOST = 1 << 31
"""Greatest number of bytes of all blocks together; beyond it, PyTorch allocates."""
_LOOKS = 16
"""Number of blocks at each end of a list that are looked at, so that a call takes bounded time."""
_ALIGNMENT = 64
"""Bytes; PyTorch aligns its own tensors to as many."""
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
"""Parameters of glibc's `mallopt`, from its header malloc.h."""


def keep_pages() -> bool:
    """Keep freed memory in this process, so that large tensors on the CPU reuse its pages.

    Without it, only the results of neuron layers reuse their memory (`empty_cache`). After this
    call, the memory that the process holds never falls below its peak. Other processes
    cannot use it, and `free` counts it as used. Threads and forked processes are included.

    Call it once, before training. `lnm train` does. It affects every tensor on the CPU, also those
    of other libraries.

    Returns:
        Whether the C library has `mallopt` (glibc on Linux). Elsewhere nothing changes.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library; on Windows, no name
        return False
    return bool(mallopt(_MMAP_MAX, 0)) and bool(mallopt(_TRIM_THRESHOLD, -1))


Block: TypeAlias = npt.NDArray[np.uint8]
_PROBE = [np.empty(0, np.uint8)]
_FREE = getrefcount(_PROBE[0])
"""References to an array, counted where only a list refers to it."""


class Pool:
    """Blocks of memory for tensors, each used by one storage at a time.

    Together they have at most twice the bytes that storages have used at once, and at most `most`.
    """

    def __init__(self, most: int = _MOST) -> None:
        self.enabled = True
        self._most = most
        self._blocks: dict[int, list[Block]] = {}  # by size; the block handed out last is the last
        self._held = self._peak = 0
        self._lock = Lock()

    def empty(
        self, shape: Sequence[int], strides: Sequence[int], dtype: torch.dtype
    ) -> Tensor | None:
        """Return an uninitialised dense tensor on the CPU, or None if no block can be had.

        That is so where memory ends, and while another thread, an interrupted call or the process
        that this one was forked from is in here.
        """
        count = prod(shape)
        if not self._lock.acquire(blocking=False):
            return None
        try:
            block = self._block(_rounded(count * dtype.itemsize))
            if block is None:
                return None
            flat = torch.frombuffer(block, dtype=dtype, count=count)
        finally:
            self._lock.release()
        # A view could not be changed in place after it has left an autograd.Function.
        like = torch.empty(0, dtype=dtype, device="cpu")
        return like.set_(flat.untyped_storage(), 0, shape, strides)

    def clear(self) -> None:
        """Drop the blocks that no storage uses, unless a call of `empty` is under way."""
        if self._lock.acquire(blocking=False):
            try:
                self._drop(0)
                self._peak = 0
            finally:
                self._lock.release()

    def _block(self, size: int) -> Block | None:
        blocks = self._blocks.setdefault(size, [])
        ends = (*range(len(blocks) - 1, -1, -1)[:_LOOKS], *range(len(blocks))[:_LOOKS])
        for k in ends:
            if _is_free(blocks, k):
                blocks.append(blocks.pop(k))
                return blocks[-1]
        if self._held + size > min(2 * self._peak, self._most):
            used = self._used()
            if used + size > self._most:
                return None
            self._peak = max(self._peak, used + size)
            self._drop(min(2 * self._peak, self._most) - size)
        try:
            blocks.append(_aligned(size))
        except MemoryError:
            self._drop(0)
            return None
        self._held += size
        return blocks[-1]

    def _used(self) -> int:
        """Return the number of bytes of the blocks that storages use."""
        found = 0
        for size, blocks in self._blocks.items():
            for k in range(len(blocks)):
                found += 0 if _is_free(blocks, k) else size
        return found

    def _drop(self, limit: int) -> None:
        """Drop free blocks until all together have at most `limit` bytes."""
        for size, blocks in self._blocks.items():
            for k in reversed(range(len(blocks))):
                if self._held > limit and _is_free(blocks, k):
                    del blocks[k]
                    self._held -= size


def _is_free(blocks: list[Block], k: int) -> bool:
    return getrefcount(blocks[k]) == _FREE


def _aligned(size: int) -> Block:
    memory = np.empty(size + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    return memory[start : start + size]


def _rounded(size: int) -> int:
    """Return the size of a block: at most an eighth larger, so that similar sizes share blocks."""
    step = 1 << max(size.bit_length() - 4, 0)
    return -(-size // step) * step


_POOL = Pool()


def empty(
    like: Tensor, shape: Sequence[int], strides: Sequence[int], dtype: torch.dtype | None = None
) -> Tensor:
    """Return an uninitialised dense tensor on the device of `like`, also of its type by default.

    On the CPU, a large one takes memory of the pool, unless `like` is of a subclass (in a trace).
    """
    dtype = dtype or like.dtype
    # The type comes first: in a trace, to compare sizes, which are symbols, restricts the graph.
    if type(like) is Tensor and like.is_cpu and _POOL.enabled:
        if prod(shape) * dtype.itemsize >= _LEAST:
            if (found := _POOL.empty(shape, strides, dtype)) is not None:
                return found
    return torch.empty_strided(shape, strides, dtype=dtype, device=like.device)


def empty_like(x: Tensor) -> Tensor:
    """Return an uninitialised tensor like `x`, which is contiguous; see `empty`."""
    if type(x) is not Tensor or x.numel() < _LEAST // 8:  # of any dtype: the quick way out
        return torch.empty_like(x)
    return empty(x, x.shape, x.stride())


@contextmanager
def without_pool() -> Iterator[None]:
    """Allocate with PyTorch alone, so that its profiler sees the memory of every tensor."""
    _POOL.enabled = False
    try:
        yield
    finally:
        _POOL.enabled = True


def empty_cache() -> None:
    """Return unused memory of layers on the CPU to the system.

    Large outputs, saved states and gradients of neuron layers take their memory from a pool, which
    keeps at most twice what they have used at once, and at most 2 GiB. This drops the unused part,
    as `torch.cuda.empty_cache` does on a GPU.
    """
    _POOL.clear()
