"""Encoders: from numbers to spikes or events over time. Each is a function of tensors alone.

| encoder | a spike means |
| --- | --- |
| `direct` | none: the numbers are shown at every step, and the first layer fires |
| `rate` | a coin that falls with probability x, at each step anew |
| `latency` | the time at which an integrator of x reaches its threshold, once |
| `level_crossing` | the input has moved by `delta` since the last one, up or down |
| `saccade_events` | the same of log brightness, with the image moved as by an eye |

snnTorch's `delta` is not `level_crossing`: it compares with the sample before, so that a slow drift
never makes a spike.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn.functional import pad

from lnm_codegen.errors import ModelError, ShapeError

DARK = 0.1
"""Added to brightness before the logarithm, so that black is finite."""


def direct(x: Tensor, time_steps: int) -> Tensor:
    """Return x (*) at each step, (T, *), without a copy: the time axis has stride 0."""
    _check_steps("direct", time_steps)
    return x.unsqueeze(0).expand(time_steps, *x.shape)


def rate(x: Tensor, time_steps: int, generator: torch.Generator | None = None) -> Tensor:
    """Return spikes (T, *) that are 1 with probability x (*), independent of each other.

    x at or below 0 never fires, at or above 1 it always does.
    """
    _check_steps("rate", time_steps)
    shape = (time_steps, *x.shape)
    return (torch.rand(shape, generator=generator, dtype=x.dtype) < x).to(x.dtype)


def latency(x: Tensor, time_steps: int, tau: float = 5.0, threshold: float = 0.01) -> Tensor:
    """Return one spike for each x (*), at the step, (T, *), at which an integrator fires.

        tau dv/dt = x - v,  v(0) = 0,  v(t) = threshold  at  t = tau ln(x / (x - threshold))

    rounded to the nearest step, and the last step where that is later. x at or below the threshold
    never fires.

    Args:
        x: Input currents.
        time_steps: T.
        tau: Time constant in steps, > 0.
        threshold: > 0, in the units of x.
    """
    _check_steps("latency", time_steps)
    _check_positive("latency", "tau", tau)
    _check_positive("latency", "threshold", threshold)
    if not bool(torch.isfinite(x).all()):
        raise ModelError("latency", "x holds values that are not finite", "numbers")
    fires = x > threshold
    safe = torch.where(fires, x, torch.full_like(x, 2 * threshold))
    step = (tau * torch.log(safe / (safe - threshold))).clamp(max=time_steps - 1).round().long()
    spikes = torch.zeros((time_steps, *x.shape), dtype=x.dtype, device=x.device)
    return spikes.scatter_(0, step.unsqueeze(0), fires.to(x.dtype).unsqueeze(0))


def level_crossing(x_seq: Tensor, delta: float) -> Tensor:
    """Return how many levels x_seq (T, N, *) crossed at each step, down and up: (T, N, 2, *).

        n[t] = trunc((x[t] - r[t-1]) / delta),  r[t] = r[t-1] + n[t] delta,  r[0] = x[0]

    Channel 0 of axis 2 counts levels downward (OFF), channel 1 upward (ON), so that x[0] + delta
    times the sum of ON - OFF is within `delta` of x. Clamp to 1 for binary spikes, which loses that
    where more than one level is crossed in a step.

    Args:
        x_seq: Samples; two axes or more, T >= 1.
        delta: Distance between levels, > 0, in the units of x.
    """
    if x_seq.dim() < 2 or not len(x_seq):
        raise ShapeError(
            "level_crossing", f"x_seq has shape {tuple(x_seq.shape)}; expected (T, N, *), T >= 1"
        )
    _check_positive("level_crossing", "delta", delta)
    level = torch.zeros_like(x_seq[0])  # in whole deltas: the reference gathers no rounding error
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
    """Return what an ideal event camera sees of images that move along a triangle.

    Down and right, up and right, back: the three saccades of N-MNIST (Orchard et al. 2015), in
    3 * moves steps at constant speed. At each, a pixel counts the levels that its log brightness
    ln(0.1 + image) has crossed (`level_crossing`; ON brighter, OFF darker). Say "simulated
    saccades" of the result, never "event camera": no noise, no refractory time, and a real eye
    does not move at constant speed. Beside 60 recordings of N-MNIST of the same digits, the counts
    summed per pixel correlate by .85, at the best shift of up to 3 pixels.

    Args:
        images: (N, H, W), brightness 0 to 1.
        time_steps: T; the moves are shared out among the steps in order.
        threshold: Contrast between levels, > 0.
        amplitude: Of the triangle in pixels, > 0. Images get a dark border as wide.
        moves: Per saccade, >= 1.

    Returns:
        Counts (T, N, 2, H + 2 b, W + 2 b), b = ceil(amplitude); OFF is channel 0, ON 1.
    """
    if images.dim() != 3:
        raise ShapeError(
            "saccade_events", f"images have shape {tuple(images.shape)}; expected (N, H, W)"
        )
    _check_steps("saccade_events", time_steps)
    _check_positive("saccade_events", "threshold", threshold)
    _check_positive("saccade_events", "amplitude", amplitude)
    if moves < 1:
        raise ModelError("saccade_events", f"moves is {moves!r}", "an integer >= 1")
    border = math.ceil(amplitude)
    dark = pad(images.to(torch.float32), (border,) * 4)
    path = _triangle(amplitude, moves)
    steps = len(path) - 1
    start = torch.log(DARK + dark)
    level = torch.zeros_like(start)
    counts = torch.zeros((time_steps, len(images), 2, *dark.shape[1:]))
    for k, (down, right) in enumerate(path[1:]):
        seen = torch.log(DARK + _shift(dark, down, right))
        moved = torch.trunc((seen - start) / threshold - level)
        level += moved
        frame = counts[k * time_steps // steps]
        frame[:, 0] += (-moved).clamp(min=0)
        frame[:, 1] += moved.clamp(min=0)
    return counts


def _triangle(amplitude: float, moves: int) -> list[tuple[float, float]]:
    """Return the (down, right) places of the image, the first and last of them 0."""
    corners = ((0.0, 0.0), (amplitude, amplitude / 2), (0.0, amplitude), (0.0, 0.0))
    path = [(0.0, 0.0)]
    for (down, right), (to_down, to_right) in pairwise(corners):
        for k in range(1, moves + 1):
            part = k / moves
            path.append((down + part * (to_down - down), right + part * (to_right - right)))
    return path


def _shift(images: Tensor, down: float, right: float) -> Tensor:
    """Move images (N, H, W) by a part of a pixel, bilinear; what leaves comes back opposite."""
    whole_down, whole_right = math.floor(down), math.floor(right)
    part_down, part_right = down - whole_down, right - whole_right
    near = images.roll((whole_down, whole_right), (1, 2))
    upper = near.lerp(near.roll(1, 2), part_right)
    return upper.lerp(upper.roll(1, 1), part_down)


def _check_steps(encoder: str, time_steps: int) -> None:
    if time_steps < 1:
        raise ModelError(encoder, f"time_steps is {time_steps!r}", "an integer >= 1")


def _check_positive(encoder: str, word: str, value: float) -> None:
    if not (value > 0 and math.isfinite(value)):
        raise ModelError(encoder, f"{word} is {value!r}", "a number > 0")
