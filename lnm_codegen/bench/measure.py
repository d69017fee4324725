"""Measurements of every benchmark: round-robin, blocks of calls, memory, cold starts."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch

from lnm_codegen.errors import ToolError
from lnm_codegen.nn.memory import keep_pages, without_pool
from lnm_codegen.validation import require_one_of

# PyTorch's profiler otherwise prints lines to stderr when it begins and ends.
os.environ.setdefault("KINETO_LOG_LEVEL", "99")

Result = TypeVar("Result")
Key = TypeVar("Key", bound=Hashable)


def require_device(device: str) -> None:
    """Raise ModelError for an unknown device, ToolError for a GPU that PyTorch does not find."""
    require_one_of("bench", "device", device, ("cpu", "cuda"))
    if device == "cuda" and not torch.cuda.is_available():
        raise ToolError("bench", "PyTorch finds no GPU", remedy="Use --device cpu.")


def device_name(device: str) -> str:
    """Return the name of the GPU, or "cpu"."""
    return "cpu" if device == "cpu" else torch.cuda.get_device_name()


def first_line(error: Exception) -> str:
    """Return the type of an error and the first line of its message."""
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"


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
    workloads: Mapping[Key, Workload], rounds: int, device: str = "cpu"
) -> dict[Key, Timing]:
    """Time every workload once a round, so that a drift of the machine affects all equally.

    Two rounds warm up. After `LIMIT` seconds and at least three rounds, no round begins.
    """
    times: dict[Key, list[tuple[float, float]]] = {name: [] for name in workloads}
    began = time.perf_counter()
    for k in range(2 + rounds):
        for name, workload in workloads.items():
            taken = _seconds(workload, device)
            if k >= 2:
                times[name].append(taken)
        if k >= 4 and time.perf_counter() - began > LIMIT:
            break
    return {name: _timing(found) for name, found in times.items()}


BLOCK, FEWEST, MOST = 0.1, 3, 200
"""Seconds of a block of calls, the fewest calls in it, and the most that a GPU queues."""


def in_blocks(
    workloads: Mapping[str, Workload], blocks: int, device: str = "cpu"
) -> dict[str, Timing]:
    """Time every workload in blocks of consecutive calls: its steady state.

    In a block the caches have what the workload itself left there. Before a block, one call warms
    up. On a GPU the calls of a block are queued, as in training: no call waits for the one before
    it, and events on the GPU measure. The blocks of all workloads alternate. Other work on the
    machine only adds time, so the result is the block with the least median; `high` is the greatest
    median of a block. After `LIMIT` seconds, no workload begins its second block or a later one.
    """
    times: dict[str, list[Timing]] = {name: [] for name in workloads}
    began = time.perf_counter()
    for k in range(blocks):
        if k and time.perf_counter() - began > LIMIT:
            break
        for name, workload in workloads.items():
            times[name].append(_block(workload, device))
    least = {name: min(found, key=lambda t: t.median) for name, found in times.items()}
    return {n: replace(t, high=max(b.median for b in times[n])) for n, t in least.items()}


def _block(workload: Workload, device: str) -> Timing:
    _run(workload)
    if device != "cpu":
        return _timing(_queued(workload, sum(_seconds(workload, device))))
    found: list[tuple[float, float]] = []
    began = time.perf_counter()
    while len(found) < FEWEST or time.perf_counter() - began < BLOCK:
        found.append(_seconds(workload, device))
    return _timing(found)


def _seconds(workload: Workload, device: str) -> tuple[float, float]:
    """Return the seconds of a forward and of a backward."""
    start = _now(device)
    out = workload.forward()
    middle = _now(device)
    if workload.backward is not None:
        workload.backward(out)
    return middle - start, _now(device) - middle


def _queued(workload: Workload, once: float) -> list[tuple[float, float]]:
    """Return the seconds of calls that a GPU runs without a pause, if the host is fast enough.

    A call that is waited for takes `once` seconds.
    """
    marks = []
    for _ in range(max(FEWEST, min(MOST, round(BLOCK / max(once, 1e-9))))):
        start = _mark()
        out = workload.forward()
        middle = _mark()
        if workload.backward is not None:
            workload.backward(out)
        marks.append((start, middle, _mark()))
    torch.cuda.synchronize()
    return [(a.elapsed_time(b) / 1e3, b.elapsed_time(c) / 1e3) for a, b, c in marks]


def _mark() -> torch.cuda.Event:
    """Return an event that the current stream records at this place in its queue."""
    event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    event.record()
    return event


def _timing(found: list[tuple[float, float]]) -> Timing:
    whole = [a + b for a, b in found]
    forward, backward = (statistics.median(part) for part in zip(*found, strict=True))
    return Timing(forward, backward, statistics.median(whole), min(whole), max(whole))


def _now(device: str) -> float:
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter()


def peak_bytes(
    workload: Workload, device: str = "cpu", prepare: Callable[[], None] | None = None
) -> int:
    """Return the largest rise of PyTorch's allocations during a workload.

    `prepare` first drops what an earlier run left and this one replaces.
    """
    if prepare is not None:
        prepare()
    if device != "cpu":
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        _run(workload)
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    with without_pool(), torch.profiler.profile(profile_memory=True) as profile:
        _run(workload)
    return max(_levels(profile), default=0)


def kept_bytes(
    workload: Workload, device: str = "cpu", prepare: Callable[[], None] | None = None
) -> int:
    """Return the rise of PyTorch's allocations from before a forward to before its backward.

    `prepare` is that of `peak_bytes`.
    """
    if prepare is not None:
        prepare()
    if device != "cpu":
        before = torch.cuda.memory_allocated()
        out = workload.forward()
        kept = torch.cuda.memory_allocated() - before
        del out
        return kept
    with without_pool(), torch.profiler.profile(profile_memory=True) as profile:
        out = workload.forward()
    *_, kept = (0, *_levels(profile))
    del out
    return kept


def _levels(profile: Any) -> Iterator[int]:
    """Yield the bytes allocated since the beginning of a profile, after each change."""
    level = 0
    for event in profile.profiler.kineto_results.events():
        if event.name() == "[memory]":
            level += event.nbytes()
            yield level


def _run(workload: Workload) -> None:
    out = workload.forward()
    if workload.backward is not None:
        workload.backward(out)


_COLD = """
import time, torch, lnm_codegen as lnm, lnm_codegen.nn
torch.zeros(1, device={device!r})  # a GPU's context takes longer than the rest
start = time.perf_counter()
neuron = lnm.get({family!r}, **{arguments!r})
layer = lnm.nn.NeuronLayer(neuron, backend={backend!r}, channels=8).to({device!r})
x = torch.rand({steps}, 16, 8, 8, device={device!r}, dtype=torch.{dtype}, requires_grad=True)
layer(x).sum().backward()
if x.is_cuda:
    torch.cuda.synchronize()
print(time.perf_counter() - start)
"""


def start_seconds(code: Mapping[str, Any]) -> tuple[float, float]:
    """Return seconds from a definition to its first gradient, with empty and with filled cache.

    Each start has its own process. Imports and the context of a GPU do not count.
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
