"""Fine-tuning in integers: the forward is the network in integers, and its loss falls."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from lnm_codegen.deploy.integers.convert import (
    default_formats,
    integer_network,
    integer_samples,
    real_network,
)
from lnm_codegen.deploy.integers.real import WeightFormat
from lnm_codegen.deploy.integers.search import is_correct_in_integers
from lnm_codegen.deploy.integers.tune import IntegerTwin, fine_tune
from lnm_codegen.ir.network.exchange import network_files
from lnm_codegen.ir.network.interpret import interpret_network
from lnm_codegen.ir.network.nodes import IntegerNetwork
from lnm_codegen.nn.chain import IGNORED
from lnm_codegen.nn.norm.deferred import DeferredNorm
from tests.deploy.integers.runs import built, chained, images, real

ONE, TWO = WeightFormat(8), WeightFormat(4, "channel", True)


@pytest.mark.parametrize(
    ("over", "form"),
    [
        ("mean", TWO),
        ("last", ONE),
        ("max", ONE),
        *(pytest.param(*given, marks=pytest.mark.slow)
          for given in (("mean", ONE), ("last", TWO), ("max", TWO))),
    ],
)  # fmt: skip
def test_the_twin_is_the_network(over: str, form: WeightFormat) -> None:
    """Scores are equal where sums are exact in float32; a multiplier is rounded to 15 bits."""
    network, x = real(chained(over)), images()
    formats = default_formats(network, x, form)
    twin = IntegerTwin(network, formats)
    made = integer_network(network, formats)
    scores = interpret_network(made, integer_samples(made, x.numpy())).scores
    found = twin(x).detach().numpy() * 2.0**made.scores.frac
    found = found * (made.time_steps if over == "mean" else 1)
    if form.multiplier:
        off = np.abs(found - scores)  # a sum that rounding moves may change a spike
        assert (np.mean(off < 0.5, axis=0) > 0.8).all()
        assert (off.max(axis=0) < np.ptp(scores, axis=0) / 4).all()
    else:
        np.testing.assert_allclose(found, scores, atol=0.01)
    assert network_files(twin.tuned()) == network_files(made)


def test_the_twin_of_small_samples_is_the_network() -> None:
    """Their fraction is longer than their width."""
    network, x = chained(), images() / 4096
    with torch.no_grad():
        network.conv.weight *= 4096
    formats = default_formats(real(network), x)
    assert formats.input is not None
    assert formats.input.frac > formats.input.width
    twin, made = IntegerTwin(real(network), formats), integer_network(real(network), formats)
    scores = interpret_network(made, integer_samples(made, x.numpy())).scores
    found = twin(x).detach().numpy() * 2.0**made.scores.frac * made.time_steps
    np.testing.assert_allclose(found, scores, atol=0.01)


def test_the_twin_of_a_recurrent_network_is_the_network() -> None:
    """Scores of each step, with feedback in both layers; one label in five is absent."""
    network = built("recurrent", "sequence", (6, 3), hidden=(7, 5), per_step=True)
    x = torch.randn(6, 12, 3, generator=torch.Generator().manual_seed(3))
    whole = real_network("net", network, network.chain(), (6, 3))
    formats = default_formats(whole, x)
    twin, made = IntegerTwin(whole, formats), integer_network(whole, formats)
    found = interpret_network(made, integer_samples(made, x.numpy()))
    np.testing.assert_allclose(twin(x).detach().numpy() * 2.0**made.scores.frac, found.scores)
    labels = torch.from_numpy((found.labels + 1) % 3)
    labels.view(-1)[::5] = IGNORED

    def score(one: IntegerNetwork) -> int:
        return int(is_correct_in_integers(one, [(x, labels)]).sum())

    tuned = fine_tune(twin, 8, lambda: [(x, labels)], score, 0.05)
    assert score(tuned.network) > score(made)
    u = made.stages[0].weight[:, 3:]
    assert (tuned.network.stages[0].weight[:, 3:] != u).any(), "U learns too"


@pytest.mark.parametrize("shortcut", ["tdbn", "ms", "sew"])
def test_the_twin_of_a_residual_network_is_the_network(shortcut: str) -> None:
    """Sums of currents are rounded to the input of the neurons after them."""
    network = built("resnet20", "image", (2, 4, 4), width=2, time_steps=3, shortcut=shortcut)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d | DeferredNorm):
            nn.init.constant_(module.weight, 2.0)
    x = torch.randn(24, 2, 4, 4, generator=torch.Generator().manual_seed(3))
    whole = real_network("net", network, network.chain(), (2, 4, 4))
    formats = default_formats(whole, x, ONE)
    twin, made = IntegerTwin(whole, formats), integer_network(whole, formats)
    scores = interpret_network(made, integer_samples(made, x.numpy())).scores
    found = twin(x).detach().numpy() * 2.0**made.scores.frac * made.time_steps
    np.testing.assert_allclose(found, scores, atol=0.01)
    assert np.ptp(scores, axis=0).max() > 0
    twin(x).square().sum().backward()
    assert all(p.grad is not None for p in twin.parameters() if p.requires_grad)


def test_tuning_wins_accuracy_back() -> None:
    """With two bits of weights; neurons, scales and formats stay."""
    network, x = real(chained("mean", nn.MaxPool2d(2))), images(96)
    with torch.no_grad():
        labels = network.network(x).argmax(1)
    formats = default_formats(network, x, WeightFormat(2))
    twin = IntegerTwin(network, formats)
    before = twin.integers

    def score(made) -> int:
        return int(is_correct_in_integers(made, [(x, labels)]).sum())

    seen: list[int] = []
    found = fine_tune(
        twin, 12, lambda: [(x, labels)] * 4, score, 2e-2, lambda epoch, found: seen.append(found)
    )
    assert len(seen) == 12
    assert found.epoch == 1 + seen.index(max(seen))
    tuned = found.network
    assert score(tuned) == max(score(before), *seen)
    assert score(tuned) > score(before)
    for a, b in zip(before.stages, tuned.stages, strict=True):
        if hasattr(a, "weight"):
            same = replace(b, weight=a.weight, bias=a.bias, accumulator=a.accumulator)
            assert vars(same).keys() == vars(a).keys()
            assert np.array_equal(same.shift, a.shift)
            assert np.array_equal(same.multiplier, a.multiplier)


def test_a_worse_network_is_not_returned() -> None:
    """A learning rate that destroys the network keeps the first one."""
    network, x = real(chained()), images()
    with torch.no_grad():
        labels = network.network(x).argmax(1)
    twin = IntegerTwin(network, default_formats(network, x))
    first = network_files(twin.integers)
    scores = iter([30, 3])
    tuned = fine_tune(twin, 1, lambda: [(x, labels)], lambda made: next(scores), 10.0)
    assert network_files(tuned.network) == first
    assert tuned.epoch == 0
