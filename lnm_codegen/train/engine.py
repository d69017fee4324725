"""Training loop: `fit` yields one `Epoch` after another and writes no file."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call

from lnm_codegen.analysis.charge import emits_spikes, lower_clamp
from lnm_codegen.nn.call import Received
from lnm_codegen.nn.hooks import watching
from lnm_codegen.nn.layer import NeuronLayer
from lnm_codegen.nn.parameters import needed_sizes, values_of
from lnm_codegen.nn.states import reset
from lnm_codegen.train.chunks import RunningReadout, carrying, chunks
from lnm_codegen.train.data.dataset import Dataset, Split, unpadded
from lnm_codegen.train.distributed import World
from lnm_codegen.train.fastest import fastest, is_measured
from lnm_codegen.train.losses import Objective, count_correct, objective_of
from lnm_codegen.train.models.base import Network, neurons_of
from lnm_codegen.train.runs.config import TrainConfig, clamp_of
from lnm_codegen.train.runs.folder import Epoch
from lnm_codegen.train.stability.layers import count_unstable
from lnm_codegen.train.trainer import Trainer

OnBatch = Callable[[int, int, float], object]


@dataclass(frozen=True, slots=True)
class Tested:
    """Results of a network on a split: see `Epoch`. `accuracy` is None if there is a metric."""

    accuracy: float | None
    rates: tuple[float, ...]
    outside: tuple[float, ...]
    loss: float | None = None
    metric: float | None = None


def fit(
    config: TrainConfig,
    network: nn.Module,
    data: Dataset,
    on_batch: OnBatch | None = None,
    trainer: Trainer | None = None,
) -> Iterator[Epoch]:
    """Train `network` in place, yielding after each epoch.

    Args:
        config: The config of the run. Its values "auto" are measured, unless there is a trainer.
        network: `network_of(config, data)`, or any module with neuron layers; see `models.own`.
        data: Samples.
        on_batch: Function of the number of finished steps, their total, and the last loss.
        trainer: A trainer to continue with; by default a new one.

    Raises:
        ModelError: A loss or gradient is not finite. The network keeps its state before that step.
    """
    if trainer is None:
        config = fastest(config, network, data)[0] if is_measured(config) else config
        trainer = Trainer(config, network, data)
    world, objective = trainer.world, trainer.objective
    for number in range(trainer.epoch + 1, config.epochs + 1):
        began, sums = time.perf_counter(), [0.0, 0.0, 0.0]
        network.train()
        batches = data.batches(
            data.train, config.batch, trainer.shuffle, config.augment, world.rank, world.size
        )
        for x, labels in batches:
            loss, score, predictions = trainer.step(x, labels)
            added = (loss * predictions, score, predictions)
            sums = [a + b for a, b in zip(sums, added, strict=True)]
            if on_batch is not None:
                on_batch(trainer.done, trainer.total, loss)
        seconds = time.perf_counter() - began
        loss_sum, all_scores, all_predictions = world.summed(sums)
        trainer.end_epoch()
        tested, every = None, config.evaluate_every
        if number == config.epochs or (every and number % every == 0):
            clamps = clamps_of(config, trainer.averaged)
            tested = evaluate(
                trainer.averaged, data, data.test, config.batch, clamps, world, objective,
                config.tbptt,
            )  # fmt: skip
        loss_mean, mean_score = (s / max(all_predictions, 1.0) for s in (loss_sum, all_scores))
        accuracy, metric = _reported(objective, mean_score)
        if tested is None:
            yield Epoch(number, loss_mean, accuracy, None, (), (), seconds, train_metric=metric)
        else:
            layers = neurons_of(trainer.averaged) if number == config.epochs else ()
            yield Epoch(
                number, loss_mean, accuracy, tested.accuracy, tested.rates, tested.outside,
                seconds, tuple(count_unstable(layer) for layer in layers),
                test_loss=tested.loss, train_metric=metric, test_metric=tested.metric,
            )  # fmt: skip


def _reported(objective: Objective, score: float) -> tuple[float | None, float | None]:
    """Return a mean score as accuracy and as metric; what it is not is None."""
    metric = None if objective.metric is None else score
    return (score if objective.has_accuracy else None), metric


def clamps_of(config: TrainConfig, network: nn.Module) -> list[float | None]:
    """Return the lower clamp of the potential of each neuron layer, or None without one.

    That of the config applies to a built-in network. A layer of the user's own has its own.
    """
    layers = neurons_of(network)
    if isinstance(network, Network):
        return [clamp_of(config)] * len(layers)
    return [lower_clamp(layer.neuron) if layer.neuron.states else None for layer in layers]


def evaluate(
    network: nn.Module,
    data: Dataset,
    split: Split,
    batch: int = 256,
    clamps: Sequence[float | None] = (),
    world: World | None = None,
    objective: Objective | None = None,
    tbptt: int | None = None,
) -> Tested:
    """Return score, firing rates and shares outside the interval on a split.

    Args:
        network: Any network; it is put into eval mode. States that its layers keep are reset
            before each batch.
        data: The data set of the split.
        split: The samples to test on.
        batch: Number of samples per forward pass.
        clamps: Lower clamp of the potential of each neuron layer; None counts only diverged
            potentials as outside, which is the default for every layer.
        world: The processes that share the work.
        objective: Loss and score; by default the accuracy.
        tbptt: Steps of a chunk, whose memory a test then needs, with equal results; None for the
            whole sequence at once.
    """
    world = World() if world is None else world
    objective = objective_of(TrainConfig(), data) if objective is None else objective
    network.eval()
    losses, scores, predictions = 0.0, 0.0, 0
    layers = neurons_of(network)
    with torch.no_grad(), counting(layers, clamps or [None] * len(layers)) as counts:
        for x, labels in data.batches(split, batch, rank=world.rank, world=world.size):
            if labels.numel():
                x, labels = x.to(world.device), labels.to(world.device)
                if tbptt is not None and tbptt < len(x):
                    score, number = _count_in_chunks(network, x, labels, tbptt)
                    scores, predictions = scores + score, predictions + number
                    continue
                reset(network)
                logits = network(x)
                lengths = unpadded(x)[1] if data.padded else None
                score, number = objective.score(logits, labels, lengths)
                scores, predictions = scores + score, predictions + number
                if objective.is_own:
                    losses += float(objective.loss(logits, labels, lengths)) * number
    reset(network)
    counted = [n for c in counts for n in (c.fired, c.outside, c.seen)]
    all_losses, all_scores, total, *sums = world.summed([losses, scores, predictions, *counted])
    total = max(total, 1.0)
    accuracy, metric = _reported(objective, all_scores / total)
    fired, outside, each = sums[0::3], sums[1::3], [max(s, 1.0) for s in sums[2::3]]
    return Tested(
        accuracy,
        tuple(f / s for f, s in zip(fired, each, strict=True)),
        tuple(o / s for o, s in zip(outside, each, strict=True)),
        all_losses / total if objective.is_own else None,
        metric,
    )


def _count_in_chunks(
    network: nn.Module, x: Tensor, labels: Tensor, tbptt: int
) -> tuple[float, int]:
    """Return `count_correct` of a batch of sequences, in chunks of `tbptt` steps."""
    readout, correct, predictions, so_far = RunningReadout(network), 0, 0, x
    with carrying(network):
        for part, own in chunks(x, labels, tbptt):
            logits = network(part)
            so_far = readout.add(logits, len(part))
            if labels.dim() > 1:
                found = count_correct(logits, own)
                correct, predictions = correct + found[0], predictions + found[1]
    return (correct, predictions) if labels.dim() > 1 else count_correct(so_far, labels)


@contextmanager
def torch_settings(config: TrainConfig, device: torch.device) -> Iterator[None]:
    """Apply the config's threads, seed and algorithms to PyTorch; restore the previous ones."""
    threads = torch.get_num_threads()
    cudnn = torch.backends.cudnn.benchmark
    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    with torch.random.fork_rng(devices=[] if device.type == "cpu" else [device]):
        try:
            torch.set_num_threads(config.threads or threads)
            torch.manual_seed(config.seed)
            if config.deterministic:
                if device.type == "cuda":  # without it cuBLAS, and so PyTorch, refuses
                    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
                torch.use_deterministic_algorithms(True)
                torch.backends.cudnn.benchmark = False
            yield
        finally:
            torch.set_num_threads(threads)
            torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
            torch.backends.cudnn.benchmark = cudnn


# Counts in the neuron layers of a running network: spikes, and potentials outside an interval.


HIGH = 1e30
"""A potential of greater magnitude has diverged."""


@dataclass(slots=True)
class Counts:
    """Sums over neurons and steps of one layer.

    Attributes:
        fired: Outputs other than 0: spikes, of either sign. 0 for a layer whose output reads no
            spike, such as a potential.
        outside: Charged potentials at or below the clamp, diverged, or NaN.
        seen: Neurons times time steps.
    """

    fired: float = 0.0
    outside: float = 0.0
    seen: int = 0


@contextmanager
def counting(
    layers: Sequence[NeuronLayer], clamps: Sequence[float | None]
) -> Iterator[list[Counts]]:
    """Count in each of `layers` while the context is open.

    The kernels of a second layer with the same parameters and input count the potentials, so a
    pass runs each neuron layer twice.

    Args:
        layers: Layers of a network that runs in eval mode without gradients.
        clamps: Lower clamp of each layer, which holds potentials; None counts only those that
            diverged.
    """
    counts = [Counts() for _ in layers]
    pairs = zip(layers, counts, clamps, strict=True)
    with watching([(layer, _Counter(one, clamp)) for layer, one, clamp in pairs]):
        yield counts


class _Counter:
    """Counts what one layer received."""

    def __init__(self, counts: Counts, clamp: float | None) -> None:
        self._counts = counts
        self._twin: NeuronLayer | None = None
        low = -HIGH if clamp is None else clamp
        self._interval = (float(torch.nextafter(torch.tensor(low), torch.tensor(HIGH))), HIGH)

    def __call__(self, layer: NeuronLayer, received: Received) -> None:
        inputs, lengths, spikes = received.inputs, received.lengths, received.outputs[0]
        if emits_spikes(layer.neuron):
            self._counts.fired += float((spikes != 0).sum())
        steps = spikes[0, 0].numel() * int(lengths.sum()) if lengths is not None else 0
        self._counts.seen += steps or spikes.numel()
        if not layer.neuron.states:
            return
        if self._twin is None:
            self._twin = NeuronLayer(
                layer.neuron, **needed_sizes(layer.neuron, tuple(inputs[0].shape[2:])),
                backend=layer.backend, record=("stats",), interval=self._interval,
            )  # fmt: skip
        named = {"state": received.state, "lengths": lengths}
        *_, recorded = functional_call(self._twin, values_of(layer), inputs, named)
        self._counts.outside += recorded["stats"]["outside"]
