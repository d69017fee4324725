"""Memory of a process: pages that the C allocator keeps for the next tensor."""

from __future__ import annotations

import ctypes

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
"""Parameters of glibc's `mallopt`, from its header malloc.h."""


def keep_pages() -> bool:
    """Keep freed memory in this process, so that large tensors on the CPU reuse its pages.

    By default, glibc returns the memory of every large tensor to the system, and the system
    clears new pages for the next one. For a neuron layer this takes longer than its arithmetic.
    After this call, the memory that the process holds never falls below its peak. Other processes
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
