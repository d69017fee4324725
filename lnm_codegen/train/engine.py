"""The training loop: `fit` yields one `Epoch` after another and writes nothing."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from lnm_codegen.errors import LnmError, ModelError
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.train.data import Dataset, Split
from lnm_codegen.train.distributed import World
from lnm_codegen.train.losses import answers
from lnm_codegen.train.metrics import counting
from lnm_codegen.train.models import Network, build
from lnm_codegen.train.runs.config import TrainConfig, neuron_of
from lnm_codegen.train.stability.curve import LOWEST
from lnm_codegen.train.trainer import Trainer

REMEMBERED = 1 << 16
OnBatch = Callable[[int, int, float], object]


@dataclass(frozen=True, slots=True)
class Epoch:
    """What one pass over the training samples came to.

    Attributes:
        number: 1 for the first.
        loss: Mean loss over the training samples, as they were met, without penalty.
        train_accuracy: Share of the training samples (of their steps, where each has a label)
            that were right when they were met.
        test_accuracy: Share of the test samples that are right after the epoch; None where it was
            not tested. With `validation` they are the samples held out.
        rates: Spikes per neuron and step in each neuron layer, on the test samples.
        outside: Share of the charged potentials of each neuron layer at or below v_min, run away
            or NaN, on the test samples.
        seconds: Of training, without the test.
    """

    number: int
    loss: float
    train_accuracy: float
    test_accuracy: float | None
    rates: tuple[float, ...]
    outside: tuple[float, ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class Tested:
    """What a network came to on a split: see `Epoch`."""

    accuracy: float
    rates: tuple[float, ...]
    outside: tuple[float, ...]


def network_of(config: TrainConfig, data: Dataset, neuron: Neuron | None = None) -> Network:
    """Return a network whose weights depend on the config alone; PyTorch's own seed stays.

    Args:
        config: How.
        data: Its samples have the size that the network takes.
        neuron: That of the config, where it is made already.

    Raises:
        ModelError: The network does not fit neuron or samples, or not into memory.
    """
    with torch.random.fork_rng(devices=_gpus()):
        torch.manual_seed(config.seed)
        try:
            return build(
                config.network,
                neuron_of(config) if neuron is None else neuron,
                data.sample,
                data.classes,
                kind=data.kind,
                per_step=data.per_step or config.loss == "tet",
                backend=config.backend,
                **config.network_arguments,
            )
        except LnmError:
            raise
        except (RuntimeError, MemoryError) as error:  # no memory for its weights
            said = " ".join(str(error).split())[:120]
            raise ModelError(
                "train",
                f"the network {config.network!r} cannot be made: {said}",
                remedy="Give it smaller layers.",
            ) from None


def fit(
    config: TrainConfig,
    network: Network,
    data: Dataset,
    on_batch: OnBatch | None = None,
    trainer: Trainer | None = None,
) -> Iterator[Epoch]:
    """Train `network` in place, yielding after each epoch.

    Args:
        config: How.
        network: Of `network_of(config, data)`.
        data: Samples.
        on_batch: Called with the number of steps done, their total, and the last loss.
        trainer: One to go on with; by default a new one.

    Raises:
        ModelError: A loss or gradient is not finite. The network is left as it was before that
            step.
    """
    trainer = Trainer(config, network, data) if trainer is None else trainer
    world = trainer.world
    for number in range(trainer.epoch + 1, config.epochs + 1):
        began, sums = time.perf_counter(), [0.0, 0.0, 0.0]
        network.train()
        batches = data.batches(
            data.train, config.batch, trainer.shuffle, config.augment, world.rank, world.size
        )
        for x, labels in batches:
            loss, right, asked = trainer.step(x, labels)
            sums = [sums[0] + loss * labels.shape[-1], sums[1] + right, sums[2] + asked]
            if on_batch is not None:
                on_batch(trainer.done, trainer.total, loss)
        seconds = time.perf_counter() - began
        loss_sum, hits, seen = world.summed(sums)
        trainer.end_epoch()
        tested = None
        every = config.evaluate_every
        if number == config.epochs or (every and number % every == 0):
            low = LOWEST if config.v_min is None else config.v_min
            tested = evaluate(trainer.averaged, data, data.test, config.batch, low, world)
        yield Epoch(
            number,
            loss_sum / len(data.train),
            hits / max(seen, 1.0),
            None if tested is None else tested.accuracy,
            () if tested is None else tested.rates,
            () if tested is None else tested.outside,
            seconds,
        )


def evaluate(
    network: Network,
    data: Dataset,
    split: Split,
    batch: int = 256,
    low: float = LOWEST,
    world: World | None = None,
) -> Tested:
    """Return accuracy, firing rates and shares outside the interval on a split.

    Args:
        network: Any; it is put into eval mode.
        data: Of the split.
        split: What to test on.
        batch: Samples at once.
        low: Lower end of the interval.
        world: The processes that share the work.
    """
    world = World() if world is None else world
    network.eval()
    right, seen = 0, 0
    with torch.no_grad(), counting(network.neurons, low) as counts:
        for x, labels in data.batches(split, batch, rank=world.rank, world=world.size):
            if labels.numel():
                logits = network(x.to(world.device))
                found, asked = answers(logits, labels.to(world.device))
                right, seen = right + found, seen + asked
    layers = [n for c in counts for n in (c.fired, c.outside, c.seen)]
    hits, total, *sums = world.summed([right, seen, *layers])
    fired, outside, each = sums[0::3], sums[1::3], [max(s, 1.0) for s in sums[2::3]]
    return Tested(
        hits / max(total, 1.0),
        tuple(f / s for f, s in zip(fired, each, strict=True)),
        tuple(o / s for o, s in zip(outside, each, strict=True)),
    )


def _gpus() -> list[int]:
    """Return the GPUs whose random numbers `torch.manual_seed` would change."""
    ready = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    return list(range(torch.cuda.device_count())) if ready else []


@contextmanager
def seeded(config: TrainConfig, device: torch.device) -> Iterator[None]:
    """Give PyTorch the run's seed and its choice of algorithms, and back what it had."""
    cudnn = torch.backends.cudnn.benchmark
    before = torch.are_deterministic_algorithms_enabled()
    warned = torch.is_deterministic_algorithms_warn_only_enabled()
    with torch.random.fork_rng(devices=[] if device.type == "cpu" else [device]):
        torch.manual_seed(config.seed)
        try:
            if config.deterministic:
                if device.type == "cuda":  # without it cuBLAS, and so PyTorch, refuses
                    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
                torch.use_deterministic_algorithms(True)
                torch.backends.cudnn.benchmark = False
            yield
        finally:
            torch.use_deterministic_algorithms(before, warn_only=warned)
            torch.backends.cudnn.benchmark = cudnn


def learned_of(network: nn.Module) -> dict[str, torch.Tensor]:
    """Return a copy of what the neurons have learned, `<layer>.<parameter>`.

    A parameter of more than `REMEMBERED` numbers, one for each neuron of a large layer, is left
    out: kept after every epoch it would outgrow the weights.
    """
    assert isinstance(network, Network)
    return {
        f"{k}.{name}": value.detach().cpu().clone()
        for k, layer in enumerate(network.neurons)
        for name, value in layer.named_parameters()
        if value.numel() <= REMEMBERED
    }
