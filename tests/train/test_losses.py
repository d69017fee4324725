"""Losses against their formulas, accuracy against a count."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lnm_codegen.errors import ModelError, ShapeError
from lnm_codegen.train import losses
from lnm_codegen.train.losses import (
    accuracy,
    count_correct,
    is_correct,
    loss_of,
    mean_logit,
    per_step,
    tet,
)
from tests.refusals import refused

T, N, C = 3, 5, 4


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def labels_of(seed: int, *shape: int) -> Tensor:
    return torch.randint(C, shape, generator=torch.Generator().manual_seed(seed))


def entropy(logits: Tensor, label: Tensor, smoothing: float) -> Tensor:
    """Return the cross entropy of one prediction (C,) with the target (1 - s) one-hot + s / C."""
    target = torch.full((C,), smoothing / C, dtype=logits.dtype)
    target[label] += 1 - smoothing
    return -(target * (logits - logits.exp().sum().log())).sum()


@settings(max_examples=20)
@given(st.integers(0, 10_000), st.sampled_from([0.0, 0.1]))
def test_losses_against_their_formulas(seed: int, smoothing: float) -> None:
    """Mean logit: CE of the mean; TET: mean of CEs and a pull to a level; per step: own labels."""
    logits, labels, each = drawn(seed, T, N, C), labels_of(seed, N), labels_of(seed, T, N)
    mean = sum(entropy(logits[:, n].mean(0), labels[n], smoothing) for n in range(N)) / N
    torch.testing.assert_close(mean_logit(logits, labels, smoothing=smoothing), mean)
    torch.testing.assert_close(mean_logit(logits.mean(0), labels, smoothing=smoothing), mean)
    steps = [(t, n) for t in range(T) for n in range(N)]
    apart = sum(entropy(logits[t, n], labels[n], smoothing) for t, n in steps) / (T * N)
    pull = ((logits - 0.7) ** 2).sum() / logits.numel()
    found = tet(logits, labels, smoothing=smoothing, regulariser=0.2, level=0.7)
    torch.testing.assert_close(found, 0.8 * apart + 0.2 * pull)
    own = sum(entropy(logits[t, n], each[t, n], smoothing) for t, n in steps) / (T * N)
    torch.testing.assert_close(per_step(logits, each, smoothing=smoothing), own)


def test_correct_predictions_are_per_sample_or_per_step() -> None:
    """Per sample the mean logit decides; with labels per step it is the share of right steps."""
    logits = torch.zeros(2, 3, C)
    logits[0, :, 1], logits[1, :, 2] = 2.0, 1.0
    labels = torch.tensor([1, 2, 1])
    assert is_correct(logits, labels).tolist() == [1, 0, 1]
    assert is_correct(logits[1], labels).tolist() == [0, 1, 0]
    each = torch.stack([labels, torch.tensor([2, 2, 0])])
    assert is_correct(logits, each).tolist() == [1.0, 0.5, 0.5]
    assert accuracy(logits, each) == pytest.approx(2 / 3)


def test_loss_of_a_name() -> None:
    """Labels per step select the loss per step, under either name."""
    logits, labels, each = drawn(2, T, N, C), labels_of(3, N), labels_of(3, T, N)
    assert torch.equal(loss_of("mean")(logits, labels), mean_logit(logits, labels))
    assert torch.equal(loss_of("mean")(logits, each), per_step(logits, each))
    smooth = tet(logits, each, regulariser=0.3, smoothing=0.1)
    assert torch.equal(loss_of("tet", 0.3, 0.1)(logits, each), smooth)
    assert torch.equal(tet(logits, labels), tet(logits, labels.expand(T, N)))
    with refused(ModelError, "losses", "name is 'mse'", "'mean', 'tet'"):
        loss_of("mse")


def test_shapes_that_do_not_fit() -> None:
    pairs = "(T, N, C), and (N,) or (T, N)"
    for name, logits, labels, expected in (
        ("mean_logit", (N, C), (T, N), "(N, C) or (T, N, C), and (N,)"),
        ("mean_logit", (T, N, C), (T,), "(N, C) or (T, N, C), and (N,)"),
        ("tet", (N, C), (N,), pairs),
        ("per_step", (T, N, C), (N, T), pairs),
        ("is_correct", (N, C), (T, N), "(N, C) or (T, N, C), and (N,) or (T, N)"),
    ):
        problem = f"logits are {logits}, labels {labels}"
        with refused(ShapeError, f"losses: {name}", problem, expected):
            getattr(losses, name)(torch.zeros(logits), torch.zeros(labels, dtype=torch.int64))


def test_steps_without_a_label_do_not_count() -> None:
    """A step labelled -100 is no prediction, as in the loss."""
    logits = torch.eye(3).reshape(3, 1, 3)
    assert count_correct(logits, torch.tensor([[0], [-100], [1]])) == (1, 2)
    assert count_correct(logits[0].expand(2, 3), torch.tensor([0, 2])) == (1, 2)
    twice = logits.expand(3, 2, 3)
    labels = torch.tensor([[0, 1], [-100, 1], [1, 2]])
    assert count_correct(twice, labels) == (3, 5)
    assert is_correct(twice, labels).tolist() == [0.5, pytest.approx(2 / 3)]
    assert accuracy(twice, labels) == 3 / 5
    unlabelled = torch.full((3, 2), -100)
    assert bool(is_correct(twice, unlabelled).isnan().all())
    assert math.isnan(accuracy(twice, unlabelled))
