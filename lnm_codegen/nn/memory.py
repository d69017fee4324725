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

    Together they have at most twice the bytes that storages have used at once.
    """

    def __init__(self) -> None:
        self.enabled = True
        self._blocks: dict[int, list[Block]] = {}  # by size
        self._peak = 0
        self._lock = Lock()

    def empty(self, shape: Sequence[int], strides: Sequence[int], dtype: torch.dtype) -> Tensor:
        """Return an uninitialised dense tensor on the CPU."""
        count = prod(shape)
        with self._lock:
            block = self._block(_rounded(count * dtype.itemsize))
            flat = torch.frombuffer(block, dtype=dtype, count=count)
        # A view could not be changed in place after it has left an autograd.Function.
        return torch.empty(0, dtype=dtype).set_(flat.untyped_storage(), 0, shape, strides)

    def clear(self) -> None:
        """Drop the blocks that no storage uses."""
        with self._lock:
            self._drop(0)
            self._peak = 0

    def _block(self, size: int) -> Block:
        blocks = self._blocks.setdefault(size, [])
        for k in reversed(range(len(blocks))):
            if _is_free(blocks, k):
                return blocks[k]
        used = sum(n * (not _is_free(b, k)) for n, b in self._blocks.items() for k in range(len(b)))
        self._peak = max(self._peak, used + size)
        self._drop(2 * self._peak - size)
        blocks.append(_aligned(size))
        return blocks[-1]

    def _drop(self, limit: int) -> None:
        """Drop free blocks until all together have at most `limit` bytes."""
        held = sum(size * len(blocks) for size, blocks in self._blocks.items())
        for size, blocks in self._blocks.items():
            for k in reversed(range(len(blocks))):
                if held > limit and _is_free(blocks, k):
                    del blocks[k]
                    held -= size


def _is_free(blocks: list[Block], k: int) -> bool:
    """Report whether only the list refers to block k."""
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
    if type(like) is Tensor and like.is_cpu and _POOL.enabled and _is_large(shape, dtype):
        try:
            return _POOL.empty(shape, strides, dtype)
        except MemoryError:
            _POOL.clear()  # PyTorch tries again, and has its own message
    return torch.empty_strided(shape, strides, dtype=dtype, device=like.device)


def _is_large(shape: Sequence[int], dtype: torch.dtype) -> bool:
    return prod(shape) * dtype.itemsize >= _LEAST


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
    keeps at most twice what they have used at once. `torch.cuda.empty_cache` does the same on a
    GPU.
    """
    _POOL.clear()
