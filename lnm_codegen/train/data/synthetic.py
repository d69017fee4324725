"""Synthetic tasks: each has an exact definition, depends only on its seed, and needs time.

| set | solved by | not solved by |
| --- | --- | --- |
| `delayed-xor` | a memory of the first burst until the second | any linear function: .52 |
| `first-bound` | a sum that stays at its first bound | a linear function: .86, the sum: .75 |
| `gated-memory` | a memory that large pulses replace, small ones leave | a linear function: .66 |
"""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
import torch
from numpy.typing import NDArray

from lnm_codegen.train.data.dataset import LARGEST, Dataset, Seed, Size, memory_split
from lnm_codegen.validation import Accepted, require_integer


def delayed_xor(
    limit: int | None = None,
    time_steps: Annotated[int, Accepted(low=20, high=LARGEST)] = 200, channels: Size = 20,
    noise: Annotated[float, Accepted(above=0, high=1)] = 0.01,
    train: Size = 4000, test: Size = 1000, seed: Seed = 0,
) -> Dataset:  # fmt: skip
    """Return two bursts of spikes, first and last, each at a rate of .2 or .6; the label is xor.

    After Zheng et al. 2024 (Nature Communications 15, 277). A burst lasts 10 steps; T is 20 or
    more. All channels have the same statistics. `noise`, in (0, 1], is the probability of a noise
    spike per step and channel, also in a burst. `train` and `test` are numbers of sequences.
    """
    burst, rates = 10, np.array([0.2, 0.6])
    rng = np.random.default_rng(seed)
    count = train + test
    first, second = rng.integers(0, 2, (2, count))
    spikes = rng.random((count, time_steps, channels)) < noise
    for bits, when in ((first, slice(0, burst)), (second, slice(time_steps - burst, None))):
        drawn = rng.random((count, burst, channels))
        spikes[:, when] |= drawn < rates[bits][:, None, None]
    return _sequences("delayed-xor", spikes, first ^ second, train, 2, limit)


def first_bound(
    limit: int | None = None, time_steps: Annotated[int, Accepted(low=4, high=LARGEST)] = 100,
    bound: Annotated[float, Accepted(above=0)] = 4.0,
    train: Size = 4000, test: Size = 2000, seed: Seed = 0,
) -> Dataset:  # fmt: skip
    """Return random evidence; the label says whether its sum reaches +bound or -bound first.

    One channel: 0 until an onset, uniform in the first half of the T >= 4 steps, then independent
    numbers N(0, 1). What follows the first passage does not count. A sum that reaches no bound is
    labelled by its sign at the end. `bound` > 0; 1 is the label of the upper one. `train` and
    `test` are numbers of sequences.
    """
    rng = np.random.default_rng(seed)
    count = train + test
    onset = rng.integers(0, time_steps // 2, count)
    x = rng.standard_normal((count, time_steps))
    x[np.arange(time_steps) < onset[:, None]] = 0
    total = x.cumsum(1)
    passed = np.abs(total) >= bound
    first = np.where(passed.any(1), passed.argmax(1), time_steps - 1)
    labels = total[np.arange(count), first] > 0
    return _sequences("first-bound", x[..., None], labels, train, 2, limit)


def gated_memory(
    limit: int | None = None, time_steps: Size = 100, pulses: Size = 3,
    distractor: Annotated[float, Accepted(low=0, below=1)] = 0.8,
    train: Size = 4000, test: Size = 2000, seed: Seed = 0,
) -> Dataset:  # fmt: skip
    """Return pulses of either sign; the label is the sign of the last large one.

    One channel. `pulses` >= 1 steps of the first half, at different places, have an amplitude
    uniform in [1, 1.5]; every other step has one in [0, `distractor`], which is below 1. All signs
    are independent. T is at least 2*`pulses`; `train` and `test` are numbers of sequences.
    """
    name = "gated-memory"
    require_integer(f"data: {name}", "time_steps", time_steps, 2 * pulses, LARGEST)
    rng = np.random.default_rng(seed)
    count = train + test
    x = rng.uniform(0, distractor, (count, time_steps))
    places = rng.random((count, time_steps // 2)).argsort(1)[:, :pulses]
    rows = np.arange(count)
    x[rows[:, None], places] = rng.uniform(1, 1.5, (count, pulses))
    x *= rng.choice([-1.0, 1.0], x.shape)
    labels = x[rows, places.max(1)] > 0
    return _sequences(name, x[..., None], labels, train, 2, limit)


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
