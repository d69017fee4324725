"""Losses against their formulas; loss functions and metrics of your own."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import cross_entropy, mse_loss
from torch.utils.data import TensorDataset
from typer.testing import CliRunner

from lnm_codegen.cli import app
from lnm_codegen.errors import ModelError, ShapeError, UnsupportedError
from lnm_codegen.insight.analysis import analyze_run
from lnm_codegen.insight.energy.report import energy
from lnm_codegen.train import from_datasets, load_run, losses, run
from lnm_codegen.train.losses import (
    accuracy,
    count_correct,
    is_correct,
    loss_of,
    mean_logit,
    per_step,
    tet,
)
from lnm_codegen.train.progress import epoch_text
from tests.refusals import assert_refused, refused
from tests.train.small import ROWS, metrics

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


CONFIG = replace(ROWS, network_arguments={"hidden": [8]}, epochs=3, batch=5, limit=None)
GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(24, 6, 3, generator=GENERATOR)


def pair(y: Tensor) -> tuple[TensorDataset, TensorDataset]:
    return TensorDataset(X[:16], y[:16]), TensorDataset(X[16:], y[16:])


CLASSES = pair(torch.arange(24) % 3)
NUMBERS = pair(X.mean((1, 2)))
CURVES = pair(X.cumsum(1)[..., :2])


def squared(outputs: Tensor, targets: Tensor) -> Tensor:
    return mse_loss(outputs.squeeze(-1), targets)


def error(outputs: Tensor, targets: Tensor) -> float:
    return float((outputs.squeeze(-1) - targets).abs().mean())


def weights(network: torch.nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in network.parameters()])


def test_the_own_cross_entropy_is_the_built_in_one() -> None:
    """Weights, losses and accuracies are equal; only the loss on test samples is new."""
    want = run(CONFIG, data=CLASSES)
    found = run(CONFIG, data=CLASSES, loss=cross_entropy)
    assert torch.equal(weights(want.network), weights(found.network))
    for one, other in zip(want.epochs, found.epochs, strict=True):
        assert other.test_loss is not None
        assert replace(other, seconds=0, test_loss=None) == replace(one, seconds=0)


def test_numbers_are_learned_without_an_accuracy(tmp_path: Path) -> None:
    result = run(replace(CONFIG, epochs=20), tmp_path, data=NUMBERS, loss=squared, metric=error)
    first, last = result.epochs[0], result.epochs[-1]
    assert (last.train_accuracy, last.test_accuracy) == (None, None)
    assert last.loss < first.loss
    data = from_datasets(*NUMBERS)
    with torch.no_grad():
        batches = list(data.batches(data.test, 5))
        outputs = torch.cat([result.network(x) for x, _ in batches]).squeeze(-1)
    targets = torch.cat([y for _, y in batches])
    assert last.test_loss == pytest.approx(float(mse_loss(outputs, targets)), rel=1e-5)
    assert last.test_metric == pytest.approx(error(outputs, targets), rel=1e-5)
    text = epoch_text(last, 20)
    assert f"test loss {last.test_loss:.4f}  test metric {last.test_metric:.4f}" in text
    assert "%" not in text.split("outside")[0]
    rows = metrics(tmp_path)
    assert (rows[-1]["train_accuracy"], rows[-1]["test_accuracy"]) == ("", "")
    assert float(rows[-1]["test_loss"]) == last.test_loss
    assert float(rows[-1]["train_metric"]) == last.train_metric


def test_runs_with_functions_are_read_and_resumed(tmp_path: Path) -> None:
    run(CONFIG, tmp_path, data=NUMBERS, loss=squared)
    saved = load_run(tmp_path, data=NUMBERS)
    found = analyze_run(saved)
    assert (found.accuracy, found.samples) == (None, 8)
    assert energy(saved.network, saved.data).samples == 8
    problem = "the loss of the run is a function that was given in Python"
    with refused(ModelError, "train", problem, "", "Give loss= of run"):
        run(saved.config, tmp_path, data=NUMBERS, resume=True)
    assert len(run(CONFIG, tmp_path, data=NUMBERS, loss=squared, resume=True).epochs) == 3
    with refused(ModelError, "train", "holds a run whose loss is 'function', not 'mean'"):
        run(CONFIG, tmp_path, data=CLASSES, resume=True)


def test_forms_of_targets() -> None:
    """A built-in network has an output as long as a target, at each step where a target has one."""
    for sets, is_per_step in ((CURVES, True), (pair(X[:, 0, :2]), False)):
        data = from_datasets(*sets)
        assert (data.per_step, data.has_classes, data.classes) == (is_per_step, False, 2)
        _, targets = next(data.batches(data.train, 4))
        assert targets.shape == ((6, 4, 2) if is_per_step else (4, 2))
        assert run(CONFIG, data=data, loss=mse_loss).epochs[-1].test_loss is not None
        assert len(data.held_out(4).train) == 12


def test_a_metric_takes_the_place_of_the_accuracy() -> None:
    def share(outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs.argmax(1) == targets).float().mean()

    want, found = run(CONFIG, data=CLASSES), run(CONFIG, data=CLASSES, metric=share)
    for one, other in zip(want.epochs, found.epochs, strict=True):
        assert (other.train_accuracy, other.test_accuracy, other.test_loss) == (None, None, None)
        assert other.train_metric == pytest.approx(one.train_accuracy)
        assert other.test_metric == pytest.approx(one.test_accuracy)


FILE = """
import torch
from torch.nn.functional import mse_loss
from torch.utils.data import TensorDataset

def data():
    x = torch.linspace(-1, 1, 24 * 18).reshape(24, 6, 3)
    y = x.mean((1, 2))
    return TensorDataset(x[:16], y[:16]), TensorDataset(x[16:], y[16:])

def squared(outputs, targets):
    return mse_loss(outputs.squeeze(-1), targets)

def largest(outputs, targets):
    return (outputs.squeeze(-1) - targets).abs().max()
"""


def test_functions_of_a_file(tmp_path: Path) -> None:
    """Every verb that reads a run works, or says that it needs classes."""
    file, out = tmp_path / "mine.py", tmp_path / "run"
    file.write_text(FILE)
    command = ["train", "--family", "lif", "--network", "feedforward", "--net", "hidden=4"]
    command += ["--data", f"{file}:data", "--train", f"loss={file}:squared", "--train"]
    command += [f"metric={file}:largest", "--epochs", "2", "--out", str(out)]
    found = CliRunner().invoke(app, command)
    assert found.exit_code == 0, found.output
    assert "test loss" in found.output
    assert "test metric" in found.output
    for verb in (["train", "--resume", "--out", str(out)], ["analyze", str(out)]):
        found = CliRunner().invoke(app, verb)
        assert found.exit_code == 0, found.output
    assert "Accuracy: not reported, on 8 test samples" in found.output
    for verb in (["emit", "--network", "--backend", "c", "--out", str(tmp_path / "c"), "--run"],):
        found = CliRunner().invoke(app, [*verb, str(out)])
        assert isinstance(found.exception, UnsupportedError)
        assert "targets that are no classes" in str(found.exception)


REFUSALS = """
*
    NUMBERS >> are float32 of shape () and are no classes >> >> loss=
    NUMBERS, metric=error >> are no classes >> an integer for each sample >> loss=
    CURVES, lambda o, t: (o - t) ** 2 >> it returns torch.float32 of shape (6, 1, 2)
    NUMBERS, lambda o, t: 3.0 >> it returns a float >> one number, the mean
    NUMBERS, lambda o, t: t.mean() >> without a gradient >> >> argmax
    NUMBERS, lambda o, t: o[t] >> targets (1,) it raised IndexError
    NUMBERS, squared, lambda o, t: "good" >> it returns str >> one number
    NUMBERS, squared, lambda o, t: None >> it returns NoneType >> one number
    NUMBERS, "squared" >> loss is 'squared' >> a function (outputs, targets)
"""


def test_functions_that_fail(tmp_path: Path) -> None:
    """They fail before the run writes a file; two losses are refused."""
    out = tmp_path / "run"

    def trained(data: Any, loss: Any = None, metric: Any = None) -> None:
        run(CONFIG, out, data=data, loss=loss, metric=metric)

    names = {**globals(), "trained": trained}
    assert_refused(REFUSALS, {}, run=lambda text: eval(f"trained({text})", names))
    assert not out.exists()
    with refused(ModelError, "run", "loss is a function, and the config names 'tet'"):
        run(replace(CONFIG, loss="tet"), data=CLASSES, loss=cross_entropy)
    with refused(ModelError, "train", "label_smoothing is 0.1"):
        run(replace(CONFIG, label_smoothing=0.1), data=CLASSES, loss=cross_entropy)
