"""Synthetic tasks against their definitions, and their need of time."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from lnm_codegen.train.data import load


def test_a_set_depends_on_its_seed_alone() -> None:
    for name in ("delayed-xor", "first-bound", "gated-memory"):
        torch.manual_seed(3)
        np.random.seed(3)  # noqa: NPY002
        first, second, other = (
            load(name, train=40, test=10, **k) for k in ({}, {"seed": 0}, {"seed": 1})
        )
        assert torch.equal(first.train.images, second.train.images)
        assert torch.equal(first.test.labels, second.test.labels)
        assert not torch.equal(first.train.images, other.train.images)
        assert (len(first.train), len(first.test)) == (40, 10)
        assert (set(first.train.images.unique().tolist()) == {0, 1}) == (name == "delayed-xor")


def test_delayed_xor_is_the_xor_of_two_bursts() -> None:
    """An oracle that counts both bursts is always right; no linear function of all spikes is."""
    data = load("delayed-xor", train=600, test=200)
    x, labels = data.train.images.numpy().astype(float), data.train.labels.numpy()
    rate = x[:, :10].mean((1, 2)), x[:, -10:].mean((1, 2))
    assert np.array_equal((rate[0] > 0.4) ^ (rate[1] > 0.4), labels.astype(bool))
    assert abs(labels.mean() - 0.5) < 0.1
    assert 0.005 < x[:, 10:-10].mean() < 0.015
    flat = np.stack([*rate], 1)
    linear = LogisticRegression().fit(flat, labels).score(flat, labels)
    assert linear < 0.62
    product = ((flat - 0.4).prod(1) < 0)[:, None]
    assert LogisticRegression().fit(product, labels).score(product, labels) == 1


def linear_score(x: np.ndarray, labels: np.ndarray) -> float:
    """Return the accuracy of a linear function of all steps on the second half of the samples."""
    half = len(x) // 2
    model = LogisticRegression(C=0.01, max_iter=500).fit(x[:half], labels[:half])
    return float(model.score(x[half:], labels[half:]))


def numbers(name: str, **options: float) -> tuple[np.ndarray, np.ndarray]:
    data = load(name, test=10, **options)
    assert data.sample[1:] == (1,)
    return data.train.images[..., 0].double().numpy(), data.train.labels.numpy()


@settings(max_examples=30)
@given(time_steps=st.integers(4, 30), bound=st.floats(0.1, 9), seed=st.integers(0, 99))
def test_first_bound_is_where_a_sum_first_leaves(time_steps: int, bound: float, seed: int) -> None:
    """A loop over the steps gives every label whose sum is clear of the bounds' rounding."""
    x, labels = numbers("first-bound", time_steps=time_steps, bound=bound, seed=seed, train=20)
    for row, label in zip(x, labels, strict=True):
        total, sure = 0.0, True
        for value in row:
            total += value
            sure &= abs(abs(total) - bound) > 1e-4
            if abs(total) >= bound:
                break
        if sure and abs(total) > 1e-4:
            assert label == (total > 0)


def test_no_linear_function_knows_the_first_bound() -> None:
    x, labels = numbers("first-bound", train=6000)
    assert abs(labels.mean() - 0.5) < 0.03
    assert linear_score(x, labels) < 0.89
    assert 0.72 < ((x.sum(1) > 0) == labels).mean() < 0.78
    onset = (x != 0).argmax(1)
    assert (onset.min(), onset.max()) == (0, 49)


@settings(max_examples=30)
@given(
    pulses=st.integers(1, 5), more=st.integers(0, 20), distractor=st.floats(0, 0.95),
    seed=st.integers(0, 99),
)  # fmt: skip
def test_gated_memory_is_the_sign_of_the_last_large_pulse(
    pulses: int, more: int, distractor: float, seed: int
) -> None:
    x, labels = numbers(
        "gated-memory", time_steps=2 * pulses + more, pulses=pulses, distractor=distractor,
        seed=seed, train=20,
    )  # fmt: skip
    large = np.abs(x) >= 1
    assert np.abs(x[~large]).max(initial=0) <= distractor + 1e-6
    assert np.abs(x).max() <= 1.5
    assert (large.sum(1) == pulses).all()
    assert not large[:, x.shape[1] // 2 :].any()
    last = x.shape[1] - 1 - large[:, ::-1].argmax(1)
    assert np.array_equal(x[np.arange(len(x)), last] > 0, labels.astype(bool))


def test_no_linear_function_has_a_gated_memory() -> None:
    """A leak over the large pulses alone is right for most; over all pulses none is."""
    x, labels = numbers("gated-memory", train=6000)
    assert abs(labels.mean() - 0.5) < 0.03
    assert linear_score(x, labels) < 0.7
    leak = 0.9 ** np.arange(x.shape[1])[::-1]
    assert ((np.where(np.abs(x) >= 1, x, 0) @ leak > 0) == labels).mean() > 0.95
    assert ((x @ leak > 0) == labels).mean() < 0.6
