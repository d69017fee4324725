"""Tasks that are made, not recorded: each is known exactly, hangs on its seed, and needs time.

| set | what solves it | what does not |
| --- | --- | --- |
| `delayed-xor` | a memory of the first burst until the second | any linear function: .52 |
| `randman` | spike times, to a few steps | spike counts: every unit fires once |
| `yin-yang` | the order of four spikes, by more than one layer | one linear layer: .66 |
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lnm_codegen.train.data.dataset import Dataset
from lnm_codegen.train.data.options import check_count, check_number
from lnm_codegen.train.data.split import Split, held

Floats = NDArray[np.float64]

RADIUS, DOT = 0.5, 0.1
"""Of the yin-yang disk, and of its two dots."""


def delayed_xor(
    limit: int | None = None, time_steps: int = 200, channels: int = 20, noise: float = 0.01,
    train: int = 4000, test: int = 1000, seed: int = 0,
) -> Dataset:  # fmt: skip
    """Return two bursts of spikes, first and last, each at a rate of .2 or .6; the label is xor.

    After Zheng et al. 2024 (Nature Communications 15, 277). A burst lasts 10 steps; noise between.

    Args:
        limit: Keep only so many of each split.
        time_steps: T, 20 or more.
        channels: All alike.
        noise: Probability of a spike that means nothing, per step and channel, in (0, 1].
        train: Sequences to train on.
        test: Sequences to test on.
        seed: Of everything.
    """
    name, burst, rates = "delayed-xor", 10, np.array([0.2, 0.6])
    check_count(name, "time_steps", time_steps, 2 * burst)
    check_count(name, "channels", channels)
    check_number(name, "noise", noise, 0, 1)
    _check_sizes(name, train, test, seed)
    rng = np.random.default_rng(seed)
    count = train + test
    first, second = rng.integers(0, 2, (2, count))
    spikes = rng.random((count, time_steps, channels)) < noise
    for bits, when in ((first, slice(0, burst)), (second, slice(time_steps - burst, None))):
        drawn = rng.random((count, burst, channels))
        spikes[:, when] |= drawn < rates[bits][:, None, None]
    return _sequences(name, spikes, first ^ second, train, 2, limit)


def randman(
    limit: int | None = None, time_steps: int = 100, units: int = 20, classes: int = 10,
    dimensions: int = 1, alpha: float = 2.0, train: int = 8000, test: int = 2000, seed: int = 0,
) -> Dataset:  # fmt: skip
    """Return smooth random manifolds as spike times: each unit fires once, a class is a manifold.

    Zenke and Vogels 2021 (Neural Computation 33, 899): unit j of a class fires at the place, scaled
    to [0, 1] over all samples of the class, that `manifold` gives for a random point.

    Args:
        limit: Keep only so many of each split.
        time_steps: T, 2 or more.
        units: Channels.
        classes: How many.
        dimensions: Of the manifolds.
        alpha: Smoothness, above 0.1: the larger, the smoother.
        train: Sequences to train on.
        test: Sequences to test on.
        seed: Of the manifolds and the points on them.
    """
    name = "randman"
    check_count(name, "time_steps", time_steps, 2)
    for word, value in (("units", units), ("dimensions", dimensions)):
        check_count(name, word, value)
    check_count(name, "classes", classes, 2)
    check_number(name, "alpha", alpha, 0.1, 100)
    _check_sizes(name, train, test, seed)
    check_count(name, "train", train, classes)
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
    """Return the place of each point on a random manifold, (count, units).

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
    once, larger values later, and a fifth at step 0 always; classes are equally probable.
    Published for networks without spikes: 97.6 with a hidden layer of 30, 63.8 with none.

    Args:
        limit: Keep only so many of each split.
        time_steps: T, 2 or more.
        train: Points to train on.
        test: Points to test on.
        seed: Of the points.
    """
    check_count("yin-yang", "time_steps", time_steps, 2)
    _check_sizes("yin-yang", train, test, seed)
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

    The disk has its middle at (.5, .5) and radius .5; the dots, of radius .1, lie at (.25, .5) and
    (.75, .5), in the middle of the two half-disks that bulge from one side to the other.
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
    """Return one spike per channel at step round(value (T - 1)): (count, T, channels).

    Args:
        values: In [0, 1], (count, channels).
        time_steps: T.
    """
    step = np.rint(values * (time_steps - 1)).astype(np.int64)
    spikes: NDArray[np.bool_] = step[:, None, :] == np.arange(time_steps)[None, :, None]
    return spikes


def _sequences(
    name: str, spikes: NDArray[np.bool_], labels: NDArray[Any], train: int, classes: int,
    limit: int | None,
) -> Dataset:  # fmt: skip
    """Return a set whose first `train` sequences are to train on."""
    inputs = torch.from_numpy(spikes.view(np.uint8))
    targets = torch.from_numpy(labels.astype(np.int64))
    splits: list[Split] = [
        held(inputs[part], targets[part]).first(limit)
        for part in (slice(None, train), slice(train, None))
    ]
    return Dataset(name, splits[0], splits[1], classes, "sequence", tuple(inputs.shape[1:]))


def _check_sizes(name: str, train: int, test: int, seed: int) -> None:
    check_count(name, "train", train)
    check_count(name, "test", test)
    check_count(name, "seed", seed, 0)
