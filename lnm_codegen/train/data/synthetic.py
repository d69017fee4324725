"""Synthetic tasks: each has an exact definition, depends only on its seed, and needs time.

| set | solved by | not solved by |
| --- | --- | --- |
| `delayed-xor` | a memory of the first burst until the second | any linear function: .52 |
| `randman` | spike times, to a few steps | spike counts: every unit fires once |
| `yin-yang` | the order of four spikes, by more than one layer | one linear layer: .66 |
| `first-bound` | a sum that stays at its first bound | a linear function: .86, the sum: .75 |
| `gated-memory` | a memory that large pulses replace, small ones leave | a linear function: .66 |
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lnm_codegen.train.data.dataset import LARGEST, Dataset, memory_split
from lnm_codegen.validation import require_integer, require_number

Floats = NDArray[np.float64]

RADIUS, DOT = 0.5, 0.1
"""Radii of the yin-yang disk and of its two dots."""


def delayed_xor(
    limit: int | None = None, time_steps: int = 200, channels: int = 20, noise: float = 0.01,
    train: int = 4000, test: int = 1000, seed: int = 0,
) -> Dataset:  # fmt: skip
    """Return two bursts of spikes, first and last, each at a rate of .2 or .6; the label is xor.

    After Zheng et al. 2024 (Nature Communications 15, 277). A burst lasts 10 steps; T is 20 or
    more. All channels have the same statistics. `noise`, in (0, 1], is the probability of a noise
    spike per step and channel, also in a burst. `train` and `test` are numbers of sequences.
    """
    name, burst, rates = "delayed-xor", 10, np.array([0.2, 0.6])
    _require_counts(name, train, test, seed, time_steps=(time_steps, 20), channels=(channels, 1))
    require_number(f"data: {name}", "noise", noise, above=0, high=1)
    rng = np.random.default_rng(seed)
    count = train + test
    first, second = rng.integers(0, 2, (2, count))
    spikes = rng.random((count, time_steps, channels)) < noise
    for bits, when in ((first, slice(0, burst)), (second, slice(time_steps - burst, None))):
        drawn = rng.random((count, burst, channels))
        spikes[:, when] |= drawn < rates[bits][:, None, None]
    return _sequences(name, spikes, first ^ second, train, 2, limit)


def first_bound(
    limit: int | None = None, time_steps: int = 100, bound: float = 4.0,
    train: int = 4000, test: int = 2000, seed: int = 0,
) -> Dataset:  # fmt: skip
    """Return random evidence; the label says whether its sum reaches +bound or -bound first.

    One channel: 0 until an onset, uniform in the first half of the T >= 4 steps, then independent
    numbers N(0, 1). What follows the first passage does not count. A sum that reaches no bound is
    labelled by its sign at the end. `bound` > 0; 1 is the label of the upper one. `train` and
    `test` are numbers of sequences.
    """
    name = "first-bound"
    _require_counts(name, train, test, seed, time_steps=(time_steps, 4))
    require_number(f"data: {name}", "bound", bound, above=0)
    rng = np.random.default_rng(seed)
    count = train + test
    onset = rng.integers(0, time_steps // 2, count)
    x = rng.standard_normal((count, time_steps))
    x[np.arange(time_steps) < onset[:, None]] = 0
    total = x.cumsum(1)
    passed = np.abs(total) >= bound
    first = np.where(passed.any(1), passed.argmax(1), time_steps - 1)
    labels = total[np.arange(count), first] > 0
    return _sequences(name, x[..., None], labels, train, 2, limit)


def gated_memory(
    limit: int | None = None, time_steps: int = 100, pulses: int = 3, distractor: float = 0.8,
    train: int = 4000, test: int = 2000, seed: int = 0,
) -> Dataset:  # fmt: skip
    """Return pulses of either sign; the label is the sign of the last large one.

    One channel. `pulses` >= 1 steps of the first half, at different places, have an amplitude
    uniform in [1, 1.5]; every other step has one in [0, `distractor`], which is below 1. All signs
    are independent. T is at least 2*`pulses`; `train` and `test` are numbers of sequences.
    """
    name = "gated-memory"
    _require_counts(name, train, test, seed, pulses=(pulses, 1))
    _require_counts(name, train, test, seed, time_steps=(time_steps, 2 * pulses))
    require_number(f"data: {name}", "distractor", distractor, low=0, below=1)
    rng = np.random.default_rng(seed)
    count = train + test
    x = rng.uniform(0, distractor, (count, time_steps))
    places = rng.random((count, time_steps // 2)).argsort(1)[:, :pulses]
    rows = np.arange(count)
    x[rows[:, None], places] = rng.uniform(1, 1.5, (count, pulses))
    x *= rng.choice([-1.0, 1.0], x.shape)
    labels = x[rows, places.max(1)] > 0
    return _sequences(name, x[..., None], labels, train, 2, limit)


def randman(
    limit: int | None = None, time_steps: int = 100, units: int = 20, classes: int = 10,
    dimensions: int = 1, alpha: float = 2.0, train: int = 8000, test: int = 2000, seed: int = 0,
) -> Dataset:  # fmt: skip
    """Return smooth random manifolds as spike times: each unit fires once, a class is a manifold.

    Zenke and Vogels 2021 (Neural Computation 33, 899): unit j of a class fires at the coordinate
    that `manifold` gives for a random point, scaled to [0, 1] over all samples of the class. T and
    `classes` are 2 or more. The manifolds have `dimensions`, and are the smoother the larger
    `alpha`, in (0.1, 100], is. `train`, at least `classes`, and `test` are numbers of sequences.
    """
    name = "randman"
    _require_counts(
        name, train, test, seed, time_steps=(time_steps, 2), units=(units, 1),
        dimensions=(dimensions, 1), classes=(classes, 2),
    )  # fmt: skip
    require_integer(f"data: {name}", "train", train, classes, LARGEST)
    require_number(f"data: {name}", "alpha", alpha, above=0.1, high=100)
    rng = np.random.default_rng(seed)
    count = train + test
    labels = rng.permutation(np.arange(count) % classes)
    values = np.empty((count, units))
    waves = min(math.ceil(1e-3 ** (-1 / alpha)), 1000)  # amplitudes above a thousandth
    for label in range(classes):
        shape = rng.random((units, dimensions, 3, waves))
        shape[:, :, 0, 0] = 0  # no constant term
        rows = np.flatnonzero(labels == label)
        place = manifold(rng.random((len(rows), dimensions)), shape, alpha)
        low, span = place.min(axis=0, initial=np.inf), np.ptp(place, axis=0)
        values[rows] = (place - low) / np.where(span > 0, span, 1)
    return _sequences(name, one_spike(values, time_steps), labels, train, classes, limit)


def manifold(points: Floats, shape: Floats, alpha: float) -> Floats:
    """Return the coordinates of each point on a random manifold, (count, units).

        product over d of  sum over i of  p_0i (i + 1)^-alpha sin(2 pi (i u_d p_1i + p_2i))

    Args:
        points: u in [0, 1], (count, dimensions).
        shape: p in [0, 1], (units, dimensions, 3, waves).
        alpha: Smoothness.
    """
    wave = np.arange(shape.shape[-1])
    factor = shape[:, :, 0] * (wave + 1.0) ** -alpha
    place: Floats = np.ones((len(points), len(shape)))
    for d in range(shape.shape[1]):
        phase = wave * points[:, None, d, None] * shape[:, d, 1] + shape[:, d, 2]
        place *= (factor[:, d] * np.sin(2 * np.pi * phase)).sum(-1)
    return place


def yin_yang(
    limit: int | None = None, time_steps: int = 50, train: int = 5000, test: int = 1000,
    seed: int = 0,
) -> Dataset:  # fmt: skip
    """Return points in a yin-yang sign as spike times: yin, yang, or one of the dots.

    Kriener, Göltz and Petrovici 2022 (arXiv 2102.08211). Channels x, y, 1 - x, 1 - y each spike
    once, later for larger values, and a fifth at step 0; classes are equally probable. Published
    for networks without spikes and continuous times: 97.6 with a hidden layer of 30, 63.8 without
    one. Here times are steps, so most test samples also occur in training (docs/data.md). T is 2
    or more; `train` and `test` are numbers of points.
    """
    _require_counts("yin-yang", train, test, seed, time_steps=(time_steps, 2))
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, train + test)
    points = np.empty((train + test, 2))
    left = np.arange(train + test)
    while len(left):
        tried = 2 * RADIUS * rng.random((len(left), 2))
        hit = yin_yang_class(tried) == labels[left]
        points[left[hit]] = tried[hit]
        left = left[~hit]
    values = np.hstack([points, 1 - points, np.zeros((len(points), 1))])
    return _sequences("yin-yang", one_spike(values, time_steps), labels, train, 3, limit)


def yin_yang_class(points: Floats) -> NDArray[np.int64]:
    """Return 0 (yin), 1 (yang) or 2 (a dot) for points (count, 2) in the disk; -1 outside it.

    The disk has its centre at (.5, .5) and radius .5. The dots, of radius .1, lie at (.25, .5) and
    (.75, .5), the centres of the two half-disks that extend from one side to the other.
    """
    x, y = points.T
    right = np.hypot(x - 1.5 * RADIUS, y - RADIUS)
    left = np.hypot(x - 0.5 * RADIUS, y - RADIUS)
    in_left = (left > DOT) & (left <= 0.5 * RADIUS)
    above = (y > RADIUS) & (right > 0.5 * RADIUS)
    found: NDArray[np.int64] = ((right <= DOT) | in_left | above).astype(np.int64)
    found[(right < DOT) | (left < DOT)] = 2
    found[np.hypot(x - RADIUS, y - RADIUS) > RADIUS] = -1
    return found


def one_spike(values: Floats, time_steps: int) -> NDArray[np.bool_]:
    """Return one spike per channel, at step round(value (T - 1)), for values (count, channels).

    Values lie in [0, 1]; the spikes have shape (count, T, channels).
    """
    step = np.rint(values * (time_steps - 1)).astype(np.int64)
    spikes: NDArray[np.bool_] = step[:, None, :] == np.arange(time_steps)[None, :, None]
    return spikes


def _sequences(
    name: str, values: NDArray[Any], labels: NDArray[Any], train: int, classes: int,
    limit: int | None,
) -> Dataset:  # fmt: skip
    """Return a set of spikes or numbers whose first `train` sequences are the training split."""
    inputs = torch.from_numpy(values.astype(np.uint8 if values.dtype == np.bool_ else np.float32))
    targets = torch.from_numpy(labels.astype(np.int64))
    first, second = (
        memory_split(inputs[part], targets[part]).first(limit)
        for part in (slice(None, train), slice(train, None))
    )
    return Dataset(name, first, second, classes, "sequence", tuple(inputs.shape[1:]))


def _require_counts(name: str, train: int, test: int, seed: int, **others: tuple[int, int]) -> None:
    """Refuse counts below their lower bounds; `others` are pairs of a value and its bound."""
    bounds = {**others, "train": (train, 1), "test": (test, 1), "seed": (seed, 0)}
    for word, (value, low) in bounds.items():
        require_integer(f"data: {name}", word, value, low, LARGEST)
