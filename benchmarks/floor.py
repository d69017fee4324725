"""Copy bandwidth: the floor that a kernel's memory traffic sets, measured in the same run.

The copy is written in C++ three ways (plain loop, memcpy, streaming stores) and the fastest counts,
so that the floor is not flattered by a slow copy.
"""

from __future__ import annotations

import ctypes
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch

_SOURCE = r"""
#include <cstdint>
#include <cstring>
#if defined(__AVX__)
#include <immintrin.h>
#endif
extern "C" void copy_plain(const float *a, float *b, int64_t n, int threads) {
#pragma omp parallel for simd num_threads(threads) schedule(static)
    for (int64_t i = 0; i < n; ++i) b[i] = a[i];
}
extern "C" void copy_memcpy(const float *a, float *b, int64_t n, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int t = 0; t < threads; ++t) {
        const int64_t first = n * t / threads, last = n * (t + 1) / threads;
        memcpy(b + first, a + first, sizeof(float) * (last - first));
    }
}
extern "C" void copy_stream(const float *a, float *b, int64_t n, int threads) {
#if defined(__AVX__)
#pragma omp parallel num_threads(threads)
    {
#pragma omp for schedule(static)
        for (int64_t i = 0; i < n; i += 8) _mm256_stream_ps(b + i, _mm256_loadu_ps(a + i));
        _mm_sfence();
    }
#else
    copy_plain(a, b, n, threads);
#endif
}
"""


def copies(elements: int) -> dict[str, Callable[[], None]]:
    """Return calls that copy `elements` float32 each in one way, on torch's thread count."""
    folder = Path(tempfile.mkdtemp())
    (folder / "copy.cpp").write_text(_SOURCE)
    command = ["g++", "-O3", "-march=native", "-fopenmp", "-shared", "-fPIC", "copy.cpp"]
    subprocess.run([*command, "-o", "copy.so"], cwd=folder, check=True)
    library = ctypes.CDLL(str(folder / "copy.so"))
    source = torch.rand(elements + 16)
    target = torch.zeros(elements + 16)
    offset = (-target.data_ptr() // 4) % 16  # begin a line of 64 bytes
    a, b = source[offset:], target[offset:]

    def call(name: str) -> Callable[[], None]:
        function = getattr(library, name)

        def run() -> None:
            function(
                ctypes.c_void_p(a.data_ptr()), ctypes.c_void_p(b.data_ptr()),
                ctypes.c_int64(elements), ctypes.c_int(torch.get_num_threads()),
            )  # fmt: skip

        return run

    calls = {name: call(f"copy_{name}") for name in ("plain", "memcpy", "stream")}
    calls["torch"] = lambda: b[:elements].copy_(a[:elements])
    return calls
