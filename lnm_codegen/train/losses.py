"""Loss functions of logits (N, C) or (T, N, C), and counts of correct predictions.

A function that gets logits or labels of another shape raises ShapeError.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor
from torch.nn.functional import cross_entropy

from lnm_codegen.errors import ShapeError
from lnm_codegen.train.runs.config import LOSSES
from lnm_codegen.validation import require_one_of, wrong

IGNORED = -100
"""The label of a time step without one, as in `cross_entropy`."""


def loss_of(
    name: str, tet_weight: float = 0.05, label_smoothing: float = 0.0
) -> Callable[[Tensor, Tensor], Tensor]:
    """Return a loss function (logits, labels) -> scalar.

    Args:
        name: "mean" is `mean_logit`, or `per_step` for labels (T, N); "tet" is `tet`.
        tet_weight: lambda of `tet`.
        label_smoothing: `smoothing` of each.

    Raises:
        ModelError: The name is unknown.
    """
    require_one_of("losses", "name", name, LOSSES)

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        if name == "tet":
            return tet(logits, labels, smoothing=label_smoothing, regulariser=tet_weight)
        mean = per_step if labels.dim() == 2 else mean_logit
        return mean(logits, labels, smoothing=label_smoothing)

    return loss


def require_reduction(name: str, options: Mapping[str, Any]) -> None:
    """Raise ModelError for the loss "tet" if options of a network name a reduction but "mean".

    A network with the logits of each step does not reduce them, and predictions are of their mean.
    """
    over = options.get("over", "mean")
    if name == "tet" and over != "mean":
        remedy = "Set over to mean, or loss to mean."
        raise wrong("train", "over", over, "'mean', with the loss tet", remedy)


def mean_logit(logits: Tensor, labels: Tensor, *, smoothing: float = 0.0) -> Tensor:
    """Return the cross entropy of the mean over time, CE(mean_t logits[t], y).

    Args:
        logits: (N, C), or (T, N, C).
        labels: (N,).
        smoothing: Share of the target that is spread over all classes, 0 to 1.
    """
    _require_shapes("mean_logit", logits, labels, (1,))
    mean = logits.mean(0) if logits.dim() == 3 else logits
    return cross_entropy(mean, labels, label_smoothing=smoothing)


def per_step(logits: Tensor, labels: Tensor, *, smoothing: float = 0.0) -> Tensor:
    """Return the mean over time of the cross entropy of each step, mean_t CE(logits[t], y[t]).

    Args:
        logits: (T, N, C).
        labels: (T, N), or (N,) for every step.
        smoothing: As for `mean_logit`.
    """
    _require_shapes("per_step", logits, labels, (1, 2), steps=True)
    each = labels.expand(logits.shape[:2]).flatten()
    return cross_entropy(logits.flatten(0, 1), each, label_smoothing=smoothing)


def tet(
    logits: Tensor,
    labels: Tensor,
    *,
    smoothing: float = 0.0,
    regulariser: float = 0.05,
    level: float = 1.0,
) -> Tensor:
    """Return the loss of temporal efficient training (Deng et al. 2022, arXiv 2202.11946).

        loss = (1 - lambda) * mean_t CE(logits[t], y) + lambda * mean (logits - level)**2

    Args:
        logits: (T, N, C).
        labels: (N,), or (T, N).
        smoothing: As for `mean_logit`.
        regulariser: lambda, 0 to 1.
        level: Target of every logit in the second term; the paper takes the firing threshold.
    """
    _require_shapes("tet", logits, labels, (1, 2), steps=True)
    pull = (logits - level).square().mean()
    each = per_step(logits, labels, smoothing=smoothing)
    return (1 - regulariser) * each + regulariser * pull


def is_correct(logits: Tensor, labels: Tensor) -> Tensor:
    """Return 1 or 0 for each sample (N,); with labels per step, the share of its correct steps.

    A step labelled -100 does not count. The share of a sample without another label is NaN.

    Args:
        logits: (N, C), or (T, N, C): for labels (N,) their mean over time is the prediction.
        labels: (N,), or (T, N) with a label per step.
    """
    _require_shapes("is_correct", logits, labels, (1, 2))
    if labels.dim() == 2:
        labelled = labels != IGNORED
        correct = (logits.argmax(2) == labels).logical_and(labelled)
        return correct.sum(0).float() / labelled.sum(0)
    mean = logits.mean(0) if logits.dim() == 3 else logits
    return (mean.argmax(1) == labels).float()


def count_correct(logits: Tensor, labels: Tensor) -> tuple[int, int]:
    """Return the number of correct predictions and of all predictions.

    A step labelled -100 does not count.

    Args:
        logits: As for `is_correct`.
        labels: (N,) for one prediction per sample, or (T, N) for one per step of each sample.
    """
    if labels.dim() == 1:
        return int(is_correct(logits, labels).sum()), len(labels)
    _require_shapes("count_correct", logits, labels, (2,))
    labelled = labels != IGNORED
    correct = (logits.argmax(2) == labels).logical_and(labelled)
    return int(correct.sum()), int(labelled.sum())


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """Return the share of correct predictions, as `count_correct` counts; NaN without one."""
    correct, total = count_correct(logits, labels)
    return correct / total if total else math.nan


def _require_shapes(
    name: str, logits: Tensor, labels: Tensor, of: tuple[int, ...], steps: bool = False
) -> None:
    """Raise ShapeError unless labels have `of` axes, the last ones of logits before C."""
    axes = (3,) if steps or labels.dim() == 2 else (2, 3)
    fits = labels.shape == logits.shape[-1 - labels.dim() : -1]
    if labels.dim() in of and logits.dim() in axes and fits:
        return
    shapes = "(T, N, C)" if steps else "(N, C) or (T, N, C)"
    classes = " or ".join({1: "(N,)", 2: "(T, N)"}[n] for n in of)
    raise ShapeError(
        f"losses: {name}",
        f"logits are {tuple(logits.shape)}, labels {tuple(labels.shape)}",
        f"{shapes}, and {classes}",
    )
