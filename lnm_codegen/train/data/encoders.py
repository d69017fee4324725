"""Encoders from numbers to spikes or events over time: functions of tensors alone.

| encoder | meaning of a spike |
| --- | --- |
| `direct` | no spikes: every step repeats the numbers, and the first layer fires |
| `rate` | a random event with probability x, independent at each step |
| `latency` | the time at which an integrator of x reaches its threshold, once |
| `level_crossing` | a change of the input by `delta` since the last spike, up or down |
| `saccade_events` | the same for log brightness of an image moved by simulated saccades |

snnTorch's `delta` is not `level_crossing`: it compares with the previous sample, so a slow drift
causes no spike.
"""

from __future__ import annotations

import math
import operator
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from lnm_codegen.errors import ModelError, ShapeError
from lnm_codegen.validation import require_integer, require_number

DARK = 0.1
"""Offset of the brightness, so that the logarithm of black is finite."""


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
    _require_floats("rate", "x", x)
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


def saccade_events(
    images: Tensor,
    time_steps: int,
    threshold: float = 0.25,
    amplitude: float = 3.0,
    moves: int = 30,
) -> Tensor:
    """Return the events of an ideal event camera for images that move along a triangle.

    The three saccades of N-MNIST (Orchard et al. 2015) go down and right, up and right, and back,
    in 3 * moves steps at constant speed. At each step a pixel counts the levels that its log
    brightness ln(0.1 + image) crosses (`level_crossing`; ON brighter, OFF darker). Call the result
    "simulated saccades", never "event camera": it has no noise and no refractory time, and a real
    eye does not move at constant speed. The counts per pixel correlate with 60 N-MNIST recordings
    of the same digits: r = 0.85 at the best shift of up to 3 pixels.

    Args:
        images: (N, H, W), brightness 0 to 1, of floating point.
        time_steps: T; the moves are distributed over the steps in order.
        threshold: Contrast between levels, > 0.
        amplitude: Amplitude of the triangle in pixels, > 0, and width of a dark border.
        moves: Moves per saccade, >= 1.

    Returns:
        Counts (T, N, 2, H + 2 b, W + 2 b), b = ceil(amplitude); OFF is channel 0, ON 1.
    """
    if images.dim() != 3:
        shape = tuple(images.shape)
        raise ShapeError("saccade_events", f"images have shape {shape}", "(N, H, W)")
    _require_floats("saccade_events", "images", images)
    _require_count("saccade_events", "time_steps", time_steps)
    require_number("saccade_events", "threshold", float(threshold), above=0)
    require_number("saccade_events", "amplitude", float(amplitude), above=0)
    _require_count("saccade_events", "moves", moves)
    border = math.ceil(amplitude)
    dark = pad(images.to(torch.float32), (border,) * 4)
    path = _triangle(amplitude, moves)
    steps = len(path) - 1
    start = torch.log(DARK + dark)
    level = torch.zeros_like(start)
    counts = dark.new_zeros((time_steps, len(images), 2, *dark.shape[1:]))
    for k, (down, right) in enumerate(path[1:]):
        seen = torch.log(DARK + _shift(dark, down, right))
        moved = torch.trunc((seen - start) / threshold - level)
        level += moved
        frame = counts[k * time_steps // steps]
        frame[:, 0] += (-moved).clamp(min=0)
        frame[:, 1] += moved.clamp(min=0)
    return counts


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


def _require_floats(where: str, word: str, x: Tensor) -> None:
    """Raise ModelError for integers, such as the bytes of a pixel set, which are not 0 to 1."""
    if not x.is_floating_point():
        problem, remedy = f"{word} of {x.dtype}", "Divide bytes by 255."
        raise ModelError(where, problem, "floating point, 0 to 1", remedy)


def _triangle(amplitude: float, moves: int) -> list[tuple[float, float]]:
    """Return the (down, right) offsets of the image, the first and last of them 0."""
    corners = ((0.0, 0.0), (amplitude, amplitude / 2), (0.0, amplitude), (0.0, 0.0))
    path = [(0.0, 0.0)]
    for (down, right), (to_down, to_right) in pairwise(corners):
        for k in range(1, moves + 1):
            part = k / moves
            path.append((down + part * (to_down - down), right + part * (to_right - right)))
    return path


def _shift(images: Tensor, down: float, right: float) -> Tensor:
    """Move images (N, H, W) by fractions of a pixel, bilinear, with periodic borders."""
    whole_down, whole_right = math.floor(down), math.floor(right)
    part_down, part_right = down - whole_down, right - whole_right
    near = images.roll((whole_down, whole_right), (1, 2))
    upper = near.lerp(near.roll(1, 2), part_right)
    return upper.lerp(upper.roll(1, 1), part_down)
