"""Encoders from numbers to spikes or events over time: functions of tensors alone.

| encoder | meaning of a spike |
| --- | --- |
| `direct` | no spikes: every step repeats the numbers, and the first layer fires |
| `rate` | a random event with probability x, independent at each step |
| `latency` | the time at which an integrator of x reaches its threshold, once |
| `level_crossing` | a change of the input by `delta` since the last spike, up or down |

snnTorch's `delta` is not `level_crossing`: it compares with the previous sample, so a slow drift
causes no spike.
"""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import Tensor

from lnm_codegen.errors import ModelError, ShapeError
from lnm_codegen.validation import require_integer, require_number


def direct(x: Tensor, time_steps: int) -> Tensor:
    """Return x (*) at each step, (T, *), without a copy: the time axis has stride 0."""
    _require_count("direct", "time_steps", time_steps)
    return x.unsqueeze(0).expand(time_steps, *x.shape)


def rate(x: Tensor, time_steps: int, generator: torch.Generator | None = None) -> Tensor:
    """Return spikes (T, *) that are 1 with probability x (*), independent of each other.

    x is of floating point. x at or below 0 never fires; x at or above 1 always fires. A generator
    must be on the device of x.
    """
    _require_count("rate", "time_steps", time_steps)
    if not x.is_floating_point():  # such as the bytes of a pixel set, which are not 0 to 1
        remedy = "Divide bytes by 255."
        raise ModelError("rate", f"x of {x.dtype}", "floating point, 0 to 1", remedy)
    shape = (time_steps, *x.shape)
    wide = torch.promote_types(x.dtype, torch.float32)  # uniform numbers of 16 bits are too coarse
    chance = torch.rand(shape, generator=generator, dtype=wide, device=x.device)
    return (chance < x).to(x.dtype)


def latency(x: Tensor, time_steps: int, tau: float = 5.0, threshold: float = 0.01) -> Tensor:
    """Return spikes (T, *), one for each x (*), at the step at which an integrator fires.

        tau dv/dt = x - v,  v(0) = 0,  v(t) = threshold  at  t = tau ln(x / (x - threshold))

    The time is rounded to the nearest step, at most the last one. x at or below the threshold never
    fires.

    Args:
        x: Input currents. Integers become float32.
        time_steps: T.
        tau: Time constant in steps, > 0.
        threshold: > 0, in the units of x.
    """
    _require_count("latency", "time_steps", time_steps)
    require_number("latency", "tau", float(tau), above=0)
    require_number("latency", "threshold", float(threshold), above=0)
    x = _as_floats(x)
    if not bool(torch.isfinite(x).all()):
        raise ModelError("latency", "x holds values that are not finite", "finite numbers")
    fires = x > threshold
    safe = torch.where(fires, x, torch.full_like(x, 2 * threshold))
    step = (tau * torch.log(safe / (safe - threshold))).clamp(max=time_steps - 1).round().long()
    spikes = torch.zeros((time_steps, *x.shape), dtype=x.dtype, device=x.device)
    return spikes.scatter_(0, step.unsqueeze(0), fires.to(x.dtype).unsqueeze(0))


def level_crossing(x_seq: Tensor, delta: float) -> Tensor:
    """Return the number of levels that x_seq (T, N, *) crosses at each step: (T, N, 2, *).

        n[t] = trunc((x[t] - r[t-1]) / delta),  r[t] = r[t-1] + n[t] delta,  r[0] = x[0]

    Channel 0 of axis 2 counts levels downward (OFF), channel 1 upward (ON), so that x[0] + delta
    times the sum of ON - OFF is within `delta` of x. Binary spikes are these counts clamped to 1;
    this bound fails for them once a step crosses more than one level.

    Args:
        x_seq: Samples; two axes or more, T >= 1. Integers become float32.
        delta: Distance between levels, > 0, in the units of x.
    """
    if x_seq.dim() < 2 or not len(x_seq):
        shape = tuple(x_seq.shape)
        raise ShapeError("level_crossing", f"x_seq has shape {shape}", "(T, N, *), T >= 1")
    require_number("level_crossing", "delta", float(delta), above=0)
    x_seq = _as_floats(x_seq)
    level = torch.zeros_like(x_seq[0])  # in whole deltas, so no rounding error accumulates
    counts = []
    for x in x_seq:
        moved = torch.trunc((x - x_seq[0]) / delta - level)
        level = level + moved
        counts.append(moved)
    crossed = torch.stack(counts).unsqueeze(2)
    return torch.cat([(-crossed).clamp(min=0), crossed.clamp(min=0)], dim=2)


def _require_count(where: str, word: str, value: Any) -> None:
    """Raise ModelError unless a value, also one of NumPy or a tensor, is an integer >= 1."""
    try:
        whole = operator.index(value)
    except TypeError:
        whole = value
    require_integer(where, word, whole)


def _as_floats(x: Tensor) -> Tensor:
    """Return x, integers as float32: differences of bytes wrap around."""
    return x if x.is_floating_point() else x.to(torch.float32)
