"""Loss functions of logits (N, C) or (T, N, C), and counts of correct predictions.

A function that gets logits or labels of another shape raises ShapeError. `objective_of` gives the
loss and the score of a run, which may be functions of your own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from lnm_codegen.errors import LnmError, ModelError, ShapeError, reason
from lnm_codegen.families.library import function_of
from lnm_codegen.nn.chain import IGNORED, over_time
from lnm_codegen.train.data.dataset import Dataset
from lnm_codegen.train.runs.config import FUNCTION, LOSSES, TrainConfig
from lnm_codegen.validation import require_one_of, wrong

Function = Callable[[Tensor, Tensor], Any]
"""(outputs, targets) -> a number of the whole batch."""
LEVEL = 1.0
"""The default target of every logit in the second term of `tet`."""


@dataclass(frozen=True)
class Objective:
    """The loss that a run minimises, and the score that it reports.

    Attributes:
        function: Loss function (outputs, targets) -> scalar, the mean over the batch.
        is_own: The loss function is the user's, so that its values on test samples are reported.
        metric: Function that is reported in place of the accuracy, or None.
        has_classes: Targets are classes.
        per_step: Targets have a first axis of time steps.
    """

    function: Callable[..., Any]
    is_own: bool = False
    metric: Function | None = None
    has_classes: bool = True
    per_step: bool = False

    @property
    def has_accuracy(self) -> bool:
        """The score is the share of correct predictions."""
        return self.has_classes and self.metric is None

    @property
    def columns(self) -> tuple[str, ...]:
        """Fields of an epoch that only this objective gives."""
        metrics = ("train_metric", "test_metric") if self.metric is not None else ()
        return (*(("test_loss",) if self.is_own else ()), *metrics)

    def loss(self, outputs: Tensor, targets: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return the mean loss of a batch; a function of the user takes no lengths.

        Raises:
            ModelError: The user's function fails, or returns anything but a number with a gradient.
        """
        if not self.is_own:
            more = () if lengths is None else (lengths,)
            found: Tensor = self.function(outputs, targets, *more)
            return found
        value = _called("loss", self.function, outputs, targets)
        accepted, remedy = "a tensor of one number, the mean over the batch", ""
        if isinstance(value, Tensor) and value.numel() == 1 and value.is_floating_point():
            if value.requires_grad or not (torch.is_grad_enabled() and outputs.requires_grad):
                return value.reshape(())
            problem = "it returns a tensor without a gradient"
            remedy = "Compute it from the outputs with PyTorch, without .item(), .detach(), argmax."
        elif isinstance(value, Tensor):
            problem = f"it returns {value.dtype} of shape {tuple(value.shape)}"
            remedy = "Take the mean of it."
        else:
            problem = f"it returns a {type(value).__name__}"
        raise ModelError("train: loss", problem, accepted, remedy)

    def count(self, targets: Tensor) -> int:
        """Return the number of terms of the mean loss: samples, or labelled steps of samples."""
        if self.has_classes and targets.dim() > 1:
            return int((targets != IGNORED).sum())
        return targets.shape[1 if self.per_step else 0]

    def score(
        self, outputs: Tensor, targets: Tensor, lengths: Tensor | None = None
    ) -> tuple[float, int]:
        """Return the sum of the scores of a batch, and `count`. Without a score the sum is 0."""
        if self.has_accuracy:
            return count_correct(outputs, targets, lengths)
        number = self.count(targets)
        if self.metric is None:
            return 0.0, number
        value = _called("metric", self.metric, outputs, targets)
        try:
            return float(value) * number, number
        except (TypeError, ValueError, RuntimeError):
            have = f"it returns {type(value).__name__}"
            shape = f" of shape {tuple(value.shape)}" if isinstance(value, Tensor) else ""
            accepted = "one number, the mean over the batch"
            raise ModelError("train: metric", have + shape, accepted) from None


def objective_of(
    config: TrainConfig, data: Dataset, loss: Function | None = None, metric: Function | None = None
) -> Objective:
    """Return the objective of a run.

    Args:
        config: Its `loss` and `metric` name functions.
        data: The samples.
        loss: Function of `run(loss=...)`, which the loss "function" of a config stands for.
        metric: The same for the metric.

    Raises:
        ModelError: A function is missing, or targets are no classes and the loss takes classes.
    """
    is_own = config.loss not in LOSSES
    if is_own and config.label_smoothing:
        accepted = "0 with a loss function of your own"
        raise wrong("train", "label_smoothing", config.label_smoothing, accepted)
    if not is_own and not data.has_classes:
        found = data.train.few(0)
        shape = "" if found is None else f" are {found[1].dtype} of shape {found[1].shape[1:]} and"
        problem = f"the labels of {data.name}{shape} are no classes".replace("torch.", "")
        problem = problem.replace("Size(", "(").replace("([", "(").replace("])", ")")
        accepted = "an integer for each sample, or for each time step"
        remedy = "Give a loss function: loss= of run, or loss = file.py:function in [train]."
        raise ModelError("train", problem, accepted, remedy)
    own = _own_function("loss", config.loss, loss) if is_own else None
    return Objective(
        own or loss_of(config.loss, config.tet_weight, config.label_smoothing),
        own is not None,
        None if config.metric is None else _own_function("metric", config.metric, metric),
        data.has_classes,
        data.per_step,
    )


def _own_function(word: str, name: str, given: Function | None) -> Function:
    """Return a function of the user, given or named."""
    if name != FUNCTION:
        try:
            return function_of(name)
        except LnmError as error:
            raise error.within(f"train: {word}") from error.__cause__
    if given is None:
        problem = f"the {word} of the run is a function that was given in Python"
        remedy = f"Give {word}= of run, or name it in [train]: {word} = file.py:function."
        raise ModelError("train", problem, remedy=remedy)
    return given


def _called(word: str, function: Function, outputs: Tensor, targets: Tensor) -> Any:
    try:
        return function(outputs, targets)
    except LnmError:
        raise
    except Exception as error:
        shapes = f"outputs {tuple(outputs.shape)} and targets {tuple(targets.shape)}"
        problem = f"with {shapes} it raised {type(error).__name__}: {reason(error)}"
        raise ModelError(f"train: {word}", problem) from error


def loss_of(
    name: str, tet_weight: float = 0.05, label_smoothing: float = 0.0
) -> Callable[..., Tensor]:
    """Return a loss function (logits, labels, lengths=None) -> scalar.

    Args:
        name: "mean" is `mean_logit`, or `per_step` for labels (T, N); "tet" is `tet`.
        tet_weight: lambda of `tet`.
        label_smoothing: `smoothing` of each.

    Raises:
        ModelError: The name is unknown.
    """
    require_one_of("losses", "name", name, LOSSES)

    def loss(logits: Tensor, labels: Tensor, lengths: Tensor | None = None) -> Tensor:
        own: dict[str, Any] = {"smoothing": label_smoothing, "lengths": lengths}
        if name == "tet":
            return tet(logits, labels, **own, regulariser=tet_weight)
        return (per_step if labels.dim() == 2 else mean_logit)(logits, labels, **own)

    return loss


def chunk_loss(
    name: str,
    logits: Tensor,
    so_far: Tensor,
    labels: Tensor,
    shares: tuple[float, float],
    tet_weight: float = 0.05,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Return the part of a sequence's loss that a chunk of its time steps adds.

    With labels per step, and for "tet", the parts of all chunks sum to the loss of the sequence.
    Otherwise a part is the loss of the readout so far, times the chunk's share of the steps.

    Args:
        name: As for `loss_of`.
        logits: Logits of the chunk, (T, N, C), or (N, C) of a network that reduces them.
        so_far: Logits (N, C), reduced over time until the end of the chunk.
        labels: (N,), or (T, N) of the chunk.
        shares: Shares of the chunk in the time steps, and in the labels.
        tet_weight: As for `loss_of`.
        label_smoothing: As for `loss_of`.
    """
    steps, labelled = shares
    if name == "mean" and labels.dim() == 1:
        return mean_logit(so_far, labels, smoothing=label_smoothing) * steps
    found = 0.0 * logits.sum()
    if labelled:
        found = per_step(logits, labels, smoothing=label_smoothing) * labelled
    if name == "mean":
        return found
    pull = (logits - LEVEL).square().mean()
    return (1 - tet_weight) * found + tet_weight * pull * steps


def require_reduction(name: str, options: Mapping[str, Any]) -> None:
    """Raise ModelError for the loss "tet" if options of a network name a reduction but "mean".

    A network with the logits of each step does not reduce them, and predictions are of their mean.
    """
    over = options.get("over", "mean")
    if name == "tet" and over != "mean":
        remedy = "Set over to mean, or loss to mean."
        raise wrong("train", "over", over, "'mean', with the loss tet", remedy)


def mean_logit(
    logits: Tensor, labels: Tensor, *, smoothing: float = 0.0, lengths: Tensor | None = None
) -> Tensor:
    """Return the cross entropy of the mean over time, CE(mean_t logits[t], y).

    Args:
        logits: (N, C), or (T, N, C).
        labels: (N,).
        smoothing: Share of the target that is spread over all classes, 0 to 1.
        lengths: Time steps of each sample that count, (N,); None for T.
    """
    _require_shapes("mean_logit", logits, labels, (1,))
    mean = over_time("mean", logits, lengths) if logits.dim() == 3 else logits
    return cross_entropy(mean, labels, label_smoothing=smoothing)


def per_step(
    logits: Tensor, labels: Tensor, *, smoothing: float = 0.0, lengths: Tensor | None = None
) -> Tensor:
    """Return the mean over time of the cross entropy of each step, mean_t CE(logits[t], y[t]).

    Args:
        logits: (T, N, C).
        labels: (T, N), or (N,) for every step.
        smoothing: As for `mean_logit`.
        lengths: As for `mean_logit`. The mean is over all steps that count, of all samples.
    """
    _require_shapes("per_step", logits, labels, (1, 2), steps=True)
    each = labels.expand(logits.shape[:2])
    if lengths is not None:
        each = each.masked_fill(~_counted(logits, lengths), IGNORED)
    return cross_entropy(logits.flatten(0, 1), each.flatten(), label_smoothing=smoothing)


def _counted(logits: Tensor, lengths: Tensor) -> Tensor:
    """Return which steps of which samples count, (T, N)."""
    return torch.arange(len(logits), device=logits.device)[:, None] < lengths


def tet(
    logits: Tensor,
    labels: Tensor,
    *,
    smoothing: float = 0.0,
    regulariser: float = 0.05,
    level: float = LEVEL,
    lengths: Tensor | None = None,
) -> Tensor:
    """Return the loss of temporal efficient training (Deng et al. 2022, arXiv 2202.11946).

        loss = (1 - lambda) * mean_t CE(logits[t], y) + lambda * mean (logits - level)**2

    Args:
        logits: (T, N, C).
        labels: (N,), or (T, N).
        smoothing: As for `mean_logit`.
        regulariser: lambda, 0 to 1.
        level: Target of every logit in the second term; the paper takes the firing threshold.
        lengths: As for `per_step`.
    """
    _require_shapes("tet", logits, labels, (1, 2), steps=True)
    pull = (logits - level).square()
    pull = pull.mean() if lengths is None else pull[_counted(logits, lengths)].mean()
    each = per_step(logits, labels, smoothing=smoothing, lengths=lengths)
    return (1 - regulariser) * each + regulariser * pull


def is_correct(logits: Tensor, labels: Tensor, lengths: Tensor | None = None) -> Tensor:
    """Return 1 or 0 for each sample (N,); with labels per step, the share of its correct steps.

    A step labelled -100 does not count. The share of a sample without another label is NaN.

    Args:
        logits: (N, C), or (T, N, C): for labels (N,) their mean over time is the prediction.
        labels: (N,), or (T, N) with a label per step.
        lengths: Time steps of each sample that the mean counts, (N,); None for T.
    """
    _require_shapes("is_correct", logits, labels, (1, 2))
    if labels.dim() == 2:
        labelled = labels != IGNORED
        correct = (logits.argmax(2) == labels).logical_and(labelled)
        return correct.sum(0).float() / labelled.sum(0)
    mean = over_time("mean", logits, lengths) if logits.dim() == 3 else logits
    return (mean.argmax(1) == labels).float()


def count_correct(logits: Tensor, labels: Tensor, lengths: Tensor | None = None) -> tuple[int, int]:
    """Return the number of correct predictions and of all predictions.

    A step labelled -100 does not count.

    Args:
        logits: As for `is_correct`.
        labels: (N,) for one prediction per sample, or (T, N) for one per step of each sample.
        lengths: As for `is_correct`.
    """
    if labels.dim() == 1:
        return int(is_correct(logits, labels, lengths).sum()), len(labels)
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
