"""The training loop: `fit` yields one `Epoch` after another and writes nothing."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from lnm_codegen.errors import ModelError
from lnm_codegen.neuron import Neuron
from lnm_codegen.train.config import TrainConfig, neuron_of
from lnm_codegen.train.curve import LOWEST, slope_penalty
from lnm_codegen.train.data import Dataset, Split
from lnm_codegen.train.model import ConvNet, parameter_groups

OnBatch = Callable[[int, int], object]


@dataclass(frozen=True, slots=True)
class Epoch:
    """What one pass over the training images came to.

    Attributes:
        number: 1 for the first.
        loss: Mean cross-entropy over the training images, as they were met.
        train_accuracy: Share of the training images that were right when they were met.
        test_accuracy: Share of the test images that are right after the epoch.
        rates: Spikes per neuron and step in each neuron layer, on the test images.
        seconds: Of training, without the test.
    """

    number: int
    loss: float
    train_accuracy: float
    test_accuracy: float
    rates: tuple[float, ...]
    seconds: float


def network_of(config: TrainConfig, data: Dataset, neuron: Neuron | None = None) -> ConvNet:
    """Return a network whose weights depend on the config alone; PyTorch's own seed stays.

    Args:
        config: How.
        data: Its images have the size that the network takes.
        neuron: That of the config, where it is made already.
    """
    channels, height, width = data.train.images.shape[1:]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return ConvNet(
            neuron_of(config) if neuron is None else neuron,
            data.classes,
            (channels, height, width),
            config.channels,
            config.time_steps,
            config.backend,
        )


def fit(
    config: TrainConfig, network: ConvNet, data: Dataset, on_batch: OnBatch | None = None
) -> Iterator[Epoch]:
    """Train `network` in place, yielding after each epoch.

    Args:
        config: How.
        network: Of `network_of(config, data)`.
        data: Images.
        on_batch: Called with the number of steps done and their total.

    Raises:
        ModelError: A loss or gradient is not finite. The network is left as it was before that
            step.
    """
    weights, learned = parameter_groups(network)
    optimizer = torch.optim.Adam(
        [
            {"params": weights, "lr": config.lr, "weight_decay": config.weight_decay},
            {"params": learned, "lr": config.lr_neuron, "weight_decay": 0.0},
        ]
    )
    per_epoch = math.ceil(len(data.train) / config.batch)
    total = per_epoch * config.epochs
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: 0.5 * (1 + math.cos(math.pi * step / total))
    )
    shuffle = torch.Generator().manual_seed(config.seed)
    done = 0
    for number in range(1, config.epochs + 1):
        began, loss_sum, right = time.perf_counter(), 0.0, 0
        network.train()
        for images, labels in data.batches(data.train, config.batch, shuffle):
            logits = network(images)
            loss = cross_entropy(logits, labels)
            optimizer.zero_grad()
            torch.autograd.backward(loss + _penalty(config, network))
            _check_finite(network, loss, number, done + 1)
            for group in (weights, learned):
                nn.utils.clip_grad_norm_(group, config.clip)
            optimizer.step()
            schedule.step()
            loss_sum += loss.item() * len(labels)
            right += int((logits.argmax(1) == labels).sum())
            done += 1
            if on_batch is not None:
                on_batch(done, total)
        seconds, count = time.perf_counter() - began, len(data.train)
        accuracy, rates = evaluate(network, data, data.test)
        yield Epoch(number, loss_sum / count, right / count, accuracy, rates, seconds)


def evaluate(
    network: ConvNet, data: Dataset, split: Split, batch: int = 256
) -> tuple[float, tuple[float, ...]]:
    """Return the accuracy on a split, and the firing rate of each neuron layer on it."""
    network.eval()
    right = 0
    with torch.no_grad(), _firing_rates(network) as rates:
        for images, labels in data.batches(split, batch):
            right += int((network(images).argmax(1) == labels).sum())
    return right / len(split), tuple(fired / seen for fired, seen in rates.values())


@contextmanager
def _firing_rates(network: ConvNet) -> Iterator[dict[nn.Module, tuple[float, int]]]:
    """Count what each neuron layer puts out and how many numbers that is, while it is open."""
    counts: dict[nn.Module, tuple[float, int]] = {layer: (0.0, 0) for layer in network.neurons}

    def count(layer: nn.Module, inputs: Any, out: Tensor) -> None:
        fired, seen = counts[layer]
        counts[layer] = fired + float(out.sum()), seen + out.numel()

    handles = [layer.register_forward_hook(count) for layer in network.neurons]
    try:
        yield counts
    finally:
        for handle in handles:
            handle.remove()


def _penalty(config: TrainConfig, network: ConvNet) -> Tensor | float:
    if not config.penalty:
        return 0.0
    low = LOWEST if config.v_min is None else config.v_min
    terms = [slope_penalty(layer, low) for layer in network.neurons]
    return config.penalty * torch.stack(terms).sum()


def _check_finite(network: ConvNet, loss: Tensor, epoch: int, step: int) -> None:
    """Raise ModelError for a loss or gradient that is not finite, naming the last such layer.

    Gradients run from the last layer to the first, so the last one that is not finite is where it
    began.
    """
    where = ""
    for name, parameter in network.named_parameters():
        grad = parameter.grad
        if grad is not None and not bool(torch.isfinite(grad.sum())):
            where = name
    if not where and bool(torch.isfinite(loss)):
        return
    what = f"the gradient of {where}" if where else "the loss"
    raise ModelError(
        f"train: {what} is not finite at step {step}, epoch {epoch}. The network is as it was"
        " before this step. Lower lr_neuron, or give v_min, such as -2."
    )
