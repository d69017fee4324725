"""Round-robin medians, peak memory, cold starts: what every benchmark measures with."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from lnm_codegen.errors import ModelError, ToolError
from lnm_codegen.nn.arguments import TYPES

KEEP_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(1 << 40)}


def check(dtype: str, device: str) -> None:
    """Raise ModelError for a type or a device that there is not."""
    if dtype not in TYPES.values():
        raise ModelError("bench", f"dtype is {dtype!r}", TYPES.values())
    if device not in ("cpu", "cuda"):
        raise ModelError("bench", f"device is {device!r}", "cpu, cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise ToolError("bench", "PyTorch finds no GPU here", remedy="Use --device cpu.")


def dtype_of(word: str) -> torch.dtype:
    """Return the type of that name."""
    return next(kind for kind, name in TYPES.items() if name == word)


def keep_memory() -> None:
    """Run this process again with an allocator that keeps its pages.

    Fresh pages are dear on a virtual machine: without this, allocation is what is measured.
    """
    if any(os.environ.get(k) != v for k, v in KEEP_MEMORY.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **KEEP_MEMORY})


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds of one call: the medians of its two halves, and of the whole with its spread."""

    forward: float
    backward: float
    median: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Call:
    """What is timed: `forward`, then `backward` on what it gave, or None."""

    forward: Callable[[], Any]
    backward: Callable[[Any], object] | None = None


def round_robin(
    calls: Mapping[str, Call], rounds: int, device: str = "cpu", limit: float = 60.0
) -> dict[str, Timing]:
    """Time every call once a round, so that a drift of the machine meets all of them alike.

    Two rounds warm up; after `limit` seconds no round begins, three at least being done.
    """
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    began = time.perf_counter()
    for k in range(2 + rounds):
        for name, call in calls.items():
            start = _now(device)
            out = call.forward()
            middle = _now(device)
            if call.backward is not None:
                call.backward(out)
            end = _now(device)
            del out
            if k >= 2:
                times[name].append((middle - start, end - middle))
        if k >= 4 and time.perf_counter() - began > limit:
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


def peak_bytes(call: Call, device: str = "cpu") -> int:
    """Return how far PyTorch's allocations rise during a call."""
    if device != "cpu":
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        _whole(call)
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    with torch.profiler.profile(profile_memory=True) as profile:
        _whole(call)
    level = peak = 0
    for event in profile.profiler.kineto_results.events():
        if event.name() == "[memory]":
            level += event.nbytes()
            peak = max(peak, level)
    return peak


def _whole(call: Call) -> None:
    out = call.forward()
    if call.backward is not None:
        call.backward(out)


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
    """Return seconds from a definition to its first gradient, cache empty and cache filled.

    Imports are done before the clock starts; each start has a process of its own.
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
