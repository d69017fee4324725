"""Launch sizes of the Triton forward, from a small search on the GPU at hand.

A result does not hang on them. They are searched for once for each kernel, type and GPU, when a
forward is large enough to time, and kept in the cache folder; before that, where LNM_TUNE=0, and
while a CUDA graph is captured, the module's own defaults are used.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable

import torch

from lnm_codegen.nn.load.measured import keep, recall

CANDIDATES = ((256, 2), (512, 4), (1024, 4), (1024, 8), (2048, 8))
"""(neurons of a program, warps)."""

LEAST = 1 << 20
"""Neurons times steps below which a launch is too short to time."""

Run = Callable[[int, int], None]


def launch_sizes(key: str, elements: int, run: Run, device: torch.device) -> tuple[int, int] | None:
    """Return (block, warps) for a forward, or None for the defaults.

    Args:
        key: Of the kernel and the type.
        elements: Neurons times steps of this call.
        run: Launches the forward with a block and warps; may be called many times.
        device: The GPU.
    """
    if os.environ.get("LNM_TUNE") == "0" or device.type != "cuda":
        return None
    key = f"launch {key} on {torch.cuda.get_device_name(device)}"
    known = recall(key)
    if isinstance(known, list) and tuple(known) in CANDIDATES:
        return known[0], known[1]
    if elements < LEAST or torch.cuda.is_current_stream_capturing():
        return None
    best = min(CANDIDATES, key=lambda sizes: seconds(run, *sizes))
    keep(key, list(best))
    return best


def seconds(run: Run, block: int, warps: int, rounds: int = 5) -> float:
    """Return the median time of a launch, after two that compile and warm up."""
    times: list[float] = []
    for k in range(rounds + 2):
        start = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        end = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        start.record()
        run(block, warps)
        end.record()
        end.synchronize()
        if k >= 2:
            times.append(float(start.elapsed_time(end)))
    return statistics.median(times)
