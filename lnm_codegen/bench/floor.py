"""Copy bandwidth, measured in the same run: the floor of a kernel's time by its memory traffic.

The floor is the fastest of several copies. On a CPU with g++ those are a plain OpenMP loop, memcpy
in each thread, streaming stores, and PyTorch's copy.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import tempfile
from functools import cache, partial
from pathlib import Path

import torch

from lnm_codegen.bench.measure import Workload

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


def copies(elements: int, itemsize: int, device: str = "cpu") -> dict[str, Workload]:
    """Return workloads that copy `elements` numbers of `itemsize` bytes."""
    count = elements * itemsize // 4
    source, target = torch.rand(count + 16, device=device), torch.zeros(count + 16, device=device)
    offset = (-target.data_ptr() // 4) % 16  # to a line of 64 bytes
    a, b = source[offset : offset + count], target[offset : offset + count]
    workloads = {"torch": Workload(lambda: b.copy_(a))}
    if device != "cpu" or shutil.which("g++") is None:
        return workloads
    library = _library()
    for name in ("plain", "memcpy", "stream"):
        function = getattr(library, f"copy_{name}")
        function.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int]
        whole = count - count % 8  # a streamed store takes 8 numbers
        arguments = (a.data_ptr(), b.data_ptr(), whole, torch.get_num_threads())
        workloads[name] = Workload(partial(function, *arguments))
    return workloads


@cache
def _library() -> ctypes.CDLL:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "copy.cpp").write_text(_SOURCE, encoding="utf-8")
        command = ["g++", "-O3", "-march=native", "-fopenmp", "-shared", "-fPIC", "copy.cpp"]
        subprocess.run([*command, "-o", "copy.so"], cwd=folder, check=True)
        return ctypes.CDLL(str(Path(folder, "copy.so")))
