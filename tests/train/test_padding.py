"""Samples of different lengths: a padded batch gives what each sample gives alone."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import lnm_codegen as lnm
from lnm_codegen import insight, train
from lnm_codegen.insight.energy.report import energy
from lnm_codegen.nn.chain import IGNORED
from lnm_codegen.train import losses
from lnm_codegen.train.data.dataset import padded_to, unpadded
from lnm_codegen.train.engine import evaluate
from lnm_codegen.train.models import build
from tests.refusals import assert_refused, refused

T, LENGTHS, FEATURES, CLASSES = 9, (4, 9, 1, 7), 3, 2
CONFIG = train.TrainConfig(
    family="lif", network="feedforward", network_arguments={"hidden": (6,)}, epochs=1, batch=3,
    backend="torch",
)  # fmt: skip


def samples(seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [3 * torch.randn(n, FEATURES, generator=generator) for n in LENGTHS]


def padded() -> Tensor:
    return torch.stack([padded_to(T, x) for x in samples()], 1)


def data_of(labels: list[Any], **options: Any) -> train.Dataset:
    pairs = list(zip(samples(), labels, strict=True))
    return train.from_datasets(pairs, pairs, longest=T, classes=CLASSES, **options)


def test_padding_is_taken_off() -> None:
    """NaN within a sample stays, so that it is found."""
    x, lengths = unpadded(padded())
    assert tuple(lengths.tolist()) == LENGTHS
    for k, own in enumerate(samples()):
        assert torch.equal(x[: len(own), k], own)
        assert not x[len(own) :, k].any()
    inner = padded()
    inner[2, 1] = torch.nan
    assert unpadded(inner)[0][2, 1].isnan().all()
    assert unpadded(inner)[1][1] == T


OPTIONS = [
    {"network": "feedforward", "readout": "li", "over": "last", "norm": "layer"},
    {"network": "feedforward", "readout": "linear", "over": "max"},
    {"network": "feedforward", "readout": "linear", "over": "mean"},
    {"network": "recurrent", "readout": "li", "over": "mean", "carry_limit": 50.0},
    {"network": "recurrent", "readout": "li", "per_step": True},
]


@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: "-".join(map(str, o.values())))
@pytest.mark.parametrize("backend", ["torch", pytest.param("c", marks=pytest.mark.needs_cc)])
def test_a_batch_gives_what_each_sample_gives_alone(options: Any, backend: str) -> None:
    """Logits, and gradients of the weights."""
    torch.manual_seed(0)
    own = dict(options)
    name, per_step = own.pop("network"), own.pop("per_step", False)
    neuron = lnm.get("lif", v_threshold=0.5)

    def made(is_padded: bool) -> Any:
        return build(
            name, neuron, (T, FEATURES), CLASSES, kind="sequence", per_step=per_step,
            padded=is_padded, backend=backend, hidden=(6, 5), **own,
        )  # fmt: skip

    network, alone = made(True), made(False)
    alone.load_state_dict(network.state_dict())
    together = network(padded())
    weight = torch.randn(together.shape)
    if per_step:
        weight *= (torch.arange(T)[:, None] < torch.tensor(LENGTHS))[..., None]
    (together * weight).sum().backward()
    for k, x in enumerate(samples()):
        out = alone(x[:, None])
        found = together[: len(x), k] if per_step else together[k]
        torch.testing.assert_close(found, out[:, 0] if per_step else out[0])
        (out * (weight[: len(x), k : k + 1] if per_step else weight[k])).sum().backward()
    for mine, theirs in zip(network.parameters(), alone.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-4, atol=1e-5)


def test_losses_count_the_steps_of_each_sample() -> None:
    logits, lengths = torch.randn(T, 4, CLASSES), torch.tensor(LENGTHS)
    labels = torch.tensor([0, 1, 1, 0])
    alone = [logits[:n, k : k + 1] for k, n in enumerate(LENGTHS)]
    pairs = list(zip(alone, labels.split(1), strict=True))
    mean = torch.stack([losses.mean_logit(a, y) for a, y in pairs]).mean()
    torch.testing.assert_close(losses.mean_logit(logits, labels, lengths=lengths), mean)
    share = lengths / lengths.sum()
    for function in (losses.per_step, losses.tet):
        each = torch.stack([function(a, y) for a, y in pairs])
        found = function(logits, labels, lengths=lengths)
        torch.testing.assert_close(found, (each * share).sum())
    correct = [float(losses.is_correct(a, y)) for a, y in pairs]
    assert losses.is_correct(logits, labels, lengths).tolist() == correct
    assert losses.count_correct(logits, labels, lengths) == (sum(correct), 4)


@pytest.mark.parametrize("loss", ["mean", "tet"])
def test_rates_and_scores_count_no_padding(loss: str) -> None:
    """Those of a test are the means over the samples alone."""
    data, config = data_of([0, 1, 1, 0]), replace(CONFIG, loss=loss)
    network = train.runs.origin.network_of(config, data)
    list(train.fit(config, network, data))
    found = evaluate(network, data, data.test, 4, [None])
    fired = correct = 0.0
    for x, label in zip(samples(), [0, 1, 1, 0], strict=True):
        spikes = network.layers[0](x[:, None]).detach()
        fired += float(spikes.sum())
        out = network.readout(spikes)
        correct += float(losses.is_correct(out, torch.tensor([label])))
    assert found.rates == pytest.approx([fired / (6 * sum(LENGTHS))])
    assert found.accuracy == correct / 4


@pytest.mark.parametrize("loss", ["mean", "tet"])
def test_analysis_and_energy_count_no_padding(loss: str, tmp_path: Path) -> None:
    """Rates, extremes, accuracy and operations are those of the samples alone."""
    data, config = data_of([0, 1, 1, 0]), replace(CONFIG, loss=loss)
    result = train.run(config, tmp_path / "run", data=data)
    run = train.load_run(tmp_path / "run", data=data)
    found = insight.analyze_run(run)
    tested = result.epochs[-1]
    assert found.correct / found.predictions == tested.test_accuracy
    (layer,) = found.layers
    assert float(layer.activity.fired.mean()) == pytest.approx(tested.rates[0])
    label = torch.zeros(1, dtype=torch.long)
    each = [energy(run.network, [(x[:, None], label)]).total().total for x in samples()]
    assert found.energy.total().total == pytest.approx(sum(each) / len(each))
    assert energy(run.network, data).total().total == found.energy.total().total


def test_labels_of_each_step_are_padded() -> None:
    data = data_of([[k % 2] * n for k, n in enumerate(LENGTHS)])
    x, labels = next(data.batches(data.train, 4))
    assert data.per_step
    assert (labels == IGNORED).equal(x[..., 0].isnan())
    config = replace(CONFIG, epochs=2)
    *_, last = train.fit(config, train.runs.origin.network_of(config, data), data)
    assert last.loss < 1


class Own(nn.Module):
    """A network of the user, which takes the padding off, or does not."""

    def __init__(self, function: Callable[[Tensor], tuple[Tensor, Any]]) -> None:
        super().__init__()
        self.function, self.linear = function, nn.Linear(FEATURES, CLASSES)
        self.neuron = lnm.nn.RecurrentLayer(lnm.get("lif"), CLASSES, backend="torch")

    def forward(self, x: Tensor) -> Tensor:
        x, lengths = self.function(x)
        return self.neuron(self.linear(x), lengths=lengths)


def test_a_network_of_the_user() -> None:
    data = data_of([0, 1, 1, 0])
    list(train.fit(CONFIG, Own(train.unpadded), data))
    names = {
        "train": train,
        "data": data,
        "config": CONFIG,
        "Own": Own,
        "whole": lambda x: (x, None),
    }
    assert_refused(
        """
network: feedforward
    list(train.fit(config, Own(whole), data)) >> a neuron layer receives NaN >>  >> unpadded(x)
""",
        names,
    )


def test_what_padding_does_not_go_with() -> None:
    data, pairs = data_of([0, 1, 1, 0]), list(zip(samples(), [0, 1, 1, 0], strict=True))
    down = {"hidden": (4, 4), "feedback": "down"}
    names = {
        "train": train, "data": data, "pairs": pairs, "made": train.runs.origin.network_of,
        "config": CONFIG, "conv": replace(CONFIG, network="conv", network_arguments={}),
        "down": replace(CONFIG, network="recurrent", network_arguments=down),
        "norm": replace(CONFIG, network_arguments={"norm": "batch"}),
        "cut": replace(CONFIG, tbptt=3), "images": [(torch.zeros(1, 2, 2), 0)],
        "loader": torch.utils.data.DataLoader(pairs),
        "numbers": [(torch.zeros(3, 2), torch.zeros(3, 2))], "torch": torch,
        "short": train.from_datasets(pairs, pairs, longest=7, classes=2).train,
    }  # fmt: skip
    assert_refused(
        """
models
    made(conv, data) >> network is 'conv' >> feedforward or recurrent, for samples of different
recurrent
    made(down, data) >> feedback is 'down' >> 'layer', for samples of different lengths
feedforward
    made(norm, data) >> norm is 'batch' >> 'none' or 'layer'
train
    list(train.fit(cut, made(config, data), data)) >> tbptt is 3 >> samples of one length
data: list
    train.from_datasets(images, images, longest=3) >> longest is 3 >> sequences
    train.from_datasets(loader, pairs, longest=9, name="list") >> those of a DataLoader
    train.from_datasets(numbers, numbers, longest=9) >> that are no classes >> labels of classes
    train.from_datasets(pairs, pairs, longest=0) >> longest is 0
data: list: train: sample 1
    short.pairs(torch.arange(4)) >> the shape (9, 3) >> 1 to 7 steps of (3,) >> Raise longest
""",
        names,
    )
    with refused(
        lnm.UnsupportedError, "network: feedforward", "its samples have different lengths"
    ):
        names["made"](CONFIG, data).chain()


def test_series_aligned_at_the_start() -> None:
    pytest.importorskip("aeon", reason="aeon is not installed")
    data, other = (train.load("time-series", align=word) for word in ("start", "end"))
    assert (data.padded, other.padded) == (True, False)
    x, ours = next(data.batches(data.test, 8)), next(other.batches(other.test, 8))
    lengths = unpadded(x[0])[1]
    assert 7 <= int(lengths.min()) < int(lengths.max()) <= 29
    for k, n in enumerate(lengths.tolist()):
        assert torch.equal(x[0][:n, k], ours[0][-n:, k])
    assert torch.equal(x[1], ours[1])
    assert len(set(itertools.chain(lengths.tolist()))) > 2
