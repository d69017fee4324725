"""Loss functions on logits (N, C) or (T, N, C), and how many of the answers are right."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torch.nn.functional import cross_entropy

from lnm_codegen.errors import ModelError, ShapeError

NAMES = ("mean", "tet")
"""What `loss_of` takes."""
IGNORED = -100
"""The label of a step that has none, as `cross_entropy` has it."""


def loss_of(
    name: str, tet_weight: float = 0.05, label_smoothing: float = 0.0
) -> Callable[[Tensor, Tensor], Tensor]:
    """Return a loss function (logits, labels) -> number by its name.

    Args:
        name: "mean" is `mean_logit`, or `per_step` where the labels are (T, N); "tet" is `tet`.
        tet_weight: lambda of `tet`.
        label_smoothing: Of either.

    Raises:
        ModelError: Another name.
    """
    if name not in NAMES:
        choices = ", ".join(repr(n) for n in NAMES)
        raise ModelError("losses", f"name is {name!r}", choices)

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        if name == "tet":
            return tet(logits, labels, smoothing=label_smoothing, regulariser=tet_weight)
        mean = per_step if labels.dim() == 2 else mean_logit
        return mean(logits, labels, smoothing=label_smoothing)

    return loss


def mean_logit(logits: Tensor, labels: Tensor, *, smoothing: float = 0.0) -> Tensor:
    """Return the cross entropy of the mean over time, CE(mean_t logits[t], y).

    Args:
        logits: (N, C), or (T, N, C).
        labels: (N,).
        smoothing: Share of the target that is spread over all classes, 0 to 1.

    Raises:
        ShapeError: Labels or logits of another shape.
    """
    _check("mean_logit", logits, labels, (1,))
    mean = logits.mean(0) if logits.dim() == 3 else logits
    return cross_entropy(mean, labels, label_smoothing=smoothing)


def per_step(logits: Tensor, labels: Tensor, *, smoothing: float = 0.0) -> Tensor:
    """Return the mean over time of the cross entropy of each step, mean_t CE(logits[t], y[t]).

    Args:
        logits: (T, N, C).
        labels: (T, N), or (N,) for every step.
        smoothing: As for `mean_logit`.

    Raises:
        ShapeError: Labels or logits of another shape.
    """
    _check("per_step", logits, labels, (1, 2), steps=True)
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
        level: What the second term draws every logit to; the paper takes the firing threshold.

    Raises:
        ShapeError: Labels or logits of another shape.
    """
    _check("tet", logits, labels, (1, 2), steps=True)
    pull = (logits - level).square().mean()
    each = per_step(logits, labels, smoothing=smoothing)
    return (1 - regulariser) * each + regulariser * pull


def hits(logits: Tensor, labels: Tensor) -> Tensor:
    """Return for each sample (N,) whether it is right, 1 or 0; the share of its steps per step.

    Args:
        logits: (N, C), or (T, N, C), whose mean over time decides if the labels are (N,).
        labels: (N,), or (T, N) where each step has its own.

    Raises:
        ShapeError: Labels or logits of another shape.
    """
    _check("hits", logits, labels, (1, 2))
    if labels.dim() == 2:
        return (logits.argmax(2) == labels).float().mean(0)
    mean = logits.mean(0) if logits.dim() == 3 else logits
    return (mean.argmax(1) == labels).float()


def answers(logits: Tensor, labels: Tensor) -> tuple[int, int]:
    """Return how many answers are right and how many there are, steps labelled -100 left out.

    Args:
        logits: As for `hits`.
        labels: (N,), an answer each; or (T, N), one for each step of each sample.
    """
    if labels.dim() == 1:
        return int(hits(logits, labels).sum()), len(labels)
    _check("answers", logits, labels, (2,))
    asked = labels != IGNORED
    return int((logits.argmax(2) == labels).logical_and(asked).sum()), int(asked.sum())


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """Return the share of right answers, the mean of `hits`."""
    return hits(logits, labels).mean().item()


def _check(
    where: str, logits: Tensor, labels: Tensor, of: tuple[int, ...], steps: bool = False
) -> None:
    """Raise ShapeError unless labels have `of` axes, and are the last ones of logits before C."""
    axes = (3,) if steps or labels.dim() == 2 else (2, 3)
    fits = labels.shape == logits.shape[-1 - labels.dim() : -1]
    if labels.dim() in of and logits.dim() in axes and fits:
        return
    expected = "(T, N, C)" if steps else "(N, C) or (T, N, C)"
    classes = " or ".join({1: "(N,)", 2: "(T, N)"}[n] for n in of)
    raise ShapeError(
        f"losses: {where}",
        (
            f"logits are {tuple(logits.shape)}, labels {tuple(labels.shape)}; expected "
            f"{expected}, and {classes}"
        ),
    )
