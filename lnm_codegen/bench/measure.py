"""Measurements of every benchmark: round-robin medians, memory, cold starts, copy bandwidth."""

from __future__ import annotations

import ctypes
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, TypeVar

import torch

from lnm_codegen.errors import ToolError
from lnm_codegen.nn.memory import keep_pages, without_pool
from lnm_codegen.validation import require_one_of

Result = TypeVar("Result")


def require_device(device: str) -> None:
    """Raise ModelError for an unknown device, ToolError for a GPU that PyTorch does not find."""
    require_one_of("bench", "device", device, ("cpu", "cuda"))
    if device == "cuda" and not torch.cuda.is_available():
        raise ToolError("bench", "PyTorch finds no GPU", remedy="Use --device cpu.")


def by_allocator(device: str, run: Callable[[bool], Result]) -> tuple[Result, Result | None]:
    """Return `run(False)`, under default allocation, and then `run(True)`, with pages kept.

    The process keeps its pages from then on (`lnm.nn.keep_pages`). The second result is None on a
    GPU, and where the C library cannot keep pages.
    """
    plain = run(False)
    return plain, run(True) if device == "cpu" and keep_pages() else None


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds of a workload.

    Attributes:
        forward, backward, median: Medians of the two parts and of the whole.
        low, high: Least and largest time of the whole.
    """

    forward: float
    backward: float
    median: float
    low: float
    high: float


LIMIT = 60.0
"""Seconds after which `round_robin` begins no round."""


@dataclass(frozen=True, slots=True)
class Workload:
    """Functions that are timed: `forward`, then `backward` on its result unless that is None."""

    forward: Callable[[], Any]
    backward: Callable[[Any], object] | None = None


def round_robin(
    workloads: Mapping[str, Workload], rounds: int, device: str = "cpu"
) -> dict[str, Timing]:
    """Time every workload once a round, so that a drift of the machine affects all equally.

    Two rounds warm up. After `LIMIT` seconds and at least three rounds, no round begins.
    """
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in workloads}
    began = time.perf_counter()
    for k in range(2 + rounds):
        for name, workload in workloads.items():
            start = _now(device)
            out = workload.forward()
            middle = _now(device)
            if workload.backward is not None:
                workload.backward(out)
            end = _now(device)
            del out
            if k >= 2:
                times[name].append((middle - start, end - middle))
        if k >= 4 and time.perf_counter() - began > LIMIT:
            break
    return {name: _timing(found) for name, found in times.items()}


def _timing(found: list[tuple[float, float]]) -> Timing:
    whole = [a + b for a, b in found]
    forward, backward = (statistics.median(part) for part in zip(*found, strict=True))
    return Timing(forward, backward, statistics.median(whole), min(whole), max(whole))


def _now(device: str) -> float:
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter()


def peak_bytes(workload: Workload, device: str = "cpu") -> int:
    """Return the largest rise of PyTorch's allocations during a workload."""
    if device != "cpu":
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        _run(workload)
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    with without_pool(), torch.profiler.profile(profile_memory=True) as profile:
        _run(workload)
    level = peak = 0
    for event in profile.profiler.kineto_results.events():
        if event.name() == "[memory]":
            level += event.nbytes()
            peak = max(peak, level)
    return peak


def _run(workload: Workload) -> None:
    out = workload.forward()
    if workload.backward is not None:
        workload.backward(out)


_COLD = """
import time, torch, lnm_codegen as lnm, lnm_codegen.nn
start = time.perf_counter()
neuron = lnm.get({family!r}, **{arguments!r})
layer = lnm.nn.NeuronLayer(neuron, backend={backend!r}, channels=8).to({device!r})
x = torch.rand({steps}, 16, 8, 8, device={device!r}, dtype=torch.{dtype}, requires_grad=True)
layer(x).sum().backward()
print(time.perf_counter() - start)
"""


def start_seconds(code: Mapping[str, Any]) -> tuple[float, float]:
    """Return seconds from a definition to its first gradient, with empty and with filled cache.

    Each start has its own process. Imports do not count.
    """
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "LNM_CACHE": folder, "TRITON_CACHE_DIR": folder}
        command = [sys.executable, "-c", _COLD.format(**code)]
        seconds = []
        for _ in range(2):
            done = subprocess.run(
                command, capture_output=True, text=True, check=True, env=environment
            )
            seconds.append(float(done.stdout))
    return seconds[0], seconds[1]


# The floor of a kernel's time by its memory traffic is the fastest of several copies: on a CPU with
# g++ a plain OpenMP loop, memcpy in each thread, streaming stores, and PyTorch's copy.
_COPY = r"""
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
    """Return workloads that copy `elements` elements of `itemsize` bytes."""
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
        Path(folder, "copy.cpp").write_text(_COPY, encoding="utf-8")
        command = ["g++", "-O3", "-march=native", "-fopenmp", "-shared", "-fPIC", "copy.cpp"]
        subprocess.run([*command, "-o", "copy.so"], cwd=folder, check=True)
        return ctypes.CDLL(str(Path(folder, "copy.so")))
