"""Training loop: `fit` yields one `Epoch` after another and writes no file."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call

from lnm_codegen.analysis.charge import emits_spikes, lower_clamp
from lnm_codegen.errors import LnmError, ModelError, reason
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.nn.call import first_output
from lnm_codegen.nn.hooks import hooked
from lnm_codegen.nn.layer import NeuronLayer
from lnm_codegen.nn.norm.layer import neuron_inputs
from lnm_codegen.nn.parameters import needed_sizes, values_of
from lnm_codegen.nn.states import reset
from lnm_codegen.options import BackendName
from lnm_codegen.train.chunks import RunningReadout, carrying, chunks
from lnm_codegen.train.data.dataset import Dataset, Split
from lnm_codegen.train.data.load import load, require_set_options
from lnm_codegen.train.distributed import World
from lnm_codegen.train.losses import Objective, count_correct, objective_of
from lnm_codegen.train.models import build, require_network_options
from lnm_codegen.train.models.base import Network, neurons_of
from lnm_codegen.train.models.own import Made, make, require_no_family
from lnm_codegen.train.names import is_reference
from lnm_codegen.train.runs.config import TrainConfig, clamp_of, neuron_of
from lnm_codegen.train.stability.layers import Unstable, count_unstable
from lnm_codegen.train.trainer import Trainer
from lnm_codegen.validation import wrong

LARGEST_IN_HISTORY = 1 << 16
OnBatch = Callable[[int, int, float], object]


@dataclass(frozen=True, slots=True)
class Epoch:
    """Results of one pass over the training samples.

    Attributes:
        number: 1 for the first.
        loss: Mean loss over the predictions that `train_accuracy` counts, without the penalty.
        train_accuracy: Share of correct predictions on the training samples during the pass; one
            prediction per sample, or per time step if each step has a label. None where a `metric`
            takes its place, and for targets that are no classes.
        test_accuracy: Share of correct predictions on the test samples after the epoch; None also
            if the epoch was not tested. With `validation` it is the validation accuracy.
        rates: Spikes per neuron and time step in each neuron layer, on the test samples.
        outside: Share of the charged potentials of each neuron layer that a clamp v_min holds,
            diverged or NaN, on the test samples.
        seconds: Duration of the training, without the test.
        unstable: Unstable rows of each neuron layer, after the last epoch of a run; else empty.
        test_loss: Mean loss on the test samples, of a loss function of your own; else None.
        train_metric: Mean of the `metric` over the batches, weighted by their samples; None
            without a metric.
        test_metric: The same on the test samples.
    """

    number: int
    loss: float
    train_accuracy: float | None
    test_accuracy: float | None
    rates: tuple[float, ...]
    outside: tuple[float, ...]
    seconds: float
    unstable: tuple[Unstable, ...] = ()
    test_loss: float | None = None
    train_metric: float | None = None
    test_metric: float | None = None

    @property
    def is_tested(self) -> bool:
        """The network was tested after the epoch."""
        return any(v is not None for v in (self.test_accuracy, self.test_loss, self.test_metric))


@dataclass(frozen=True, slots=True)
class Tested:
    """Results of a network on a split: see `Epoch`. `accuracy` is None if there is a metric."""

    accuracy: float | None
    rates: tuple[float, ...]
    outside: tuple[float, ...]
    loss: float | None = None
    metric: float | None = None


def dataset_of(config: TrainConfig, data: Dataset | None = None) -> Dataset:
    """Return the samples of a run; the held-out ones, if any, are its test split.

    Args:
        config: `limit` and `validation` apply to the samples, unless `data` is a held-out set.
        data: Samples; None loads those that the config names.

    Raises:
        ModelError: No such data, or a limit, validation or batch that does not fit them.
    """
    if data is None:
        require_set_options(config.data, config.data_arguments)
        data = load(config.data, config.data_dir, config.limit, **config.data_arguments)
    elif not data.is_held_out or data.unread_test is not None:
        data = data.first(config.limit)
    if config.validation and data.unread_test is not None:
        accepted = "0 for data=(train, valid, test), which has held-out samples"
        raise wrong("train", "validation", config.validation, accepted)
    own = data.train.batch
    if own not in (None, config.batch):
        problem = f"batch is {config.batch}, and the loader's batch_size {own}"
        raise ModelError("train", problem, remedy=f"Set batch to {own}.")
    return data.held_out(config.validation) if config.validation and not data.is_held_out else data


def make_network(
    config: TrainConfig,
    data: Dataset,
    neuron: Callable[[], Neuron],
    given: nn.Module | None = None,
) -> Made:
    """Return the network of a run: a built-in one, one of a file or module, or `given`.

    Args:
        config: See `network_of`.
        data: See `network_of`.
        neuron: Function that returns the neuron of the config. It is called if the network takes
            a neuron.
        given: A network of the user, with its weights.

    Raises:
        ModelError: As of `network_of` and `models.own.make`.
    """
    if given is not None:
        require_no_family(config, f"network: {config.network}")
        return Made(given, takes_neuron=False)
    if is_reference(config.network):
        with torch.random.fork_rng(devices=_gpus()):
            torch.manual_seed(config.seed)
            return make(config, data, neuron)
    return Made(network_of(config, data, neuron()), takes_neuron=True)


def network_of(config: TrainConfig, data: Dataset, neuron: Neuron | None = None) -> Network:
    """Return a built-in network whose weights depend only on the config; PyTorch's seed stays.

    Args:
        config: Its network, neuron, seed and backend.
        data: Samples of the size that the network takes.
        neuron: The neuron of the config, if it already exists.

    Raises:
        ModelError: The network does not fit the neuron, the samples, or the memory.
    """
    require_network_options(config.network, config.network_arguments)
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
                backend=cast("BackendName", config.backend),
                **config.network_arguments,
            )
        except LnmError:
            raise
        except (RuntimeError, MemoryError) as error:  # no memory for its weights
            problem = f"the network {config.network!r} cannot be built: {reason(error)[:120]}"
            raise ModelError("train", problem, remedy="Give it smaller layers.") from None


def _gpus() -> list[int]:
    """Return the GPUs whose random numbers `torch.manual_seed` would change."""
    ready = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    return list(range(torch.cuda.device_count())) if ready else []


def fit(
    config: TrainConfig,
    network: nn.Module,
    data: Dataset,
    on_batch: OnBatch | None = None,
    trainer: Trainer | None = None,
) -> Iterator[Epoch]:
    """Train `network` in place, yielding after each epoch.

    Args:
        config: The config of the run.
        network: `network_of(config, data)`, or any module with neuron layers; see `models.own`.
        data: Samples.
        on_batch: Function of the number of finished steps, their total, and the last loss.
        trainer: A trainer to continue with; by default a new one.

    Raises:
        ModelError: A loss or gradient is not finite. The network keeps its state before that step.
    """
    trainer = Trainer(config, network, data) if trainer is None else trainer
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
                score, number = objective.score(logits, labels)
                scores, predictions = scores + score, predictions + number
                if objective.is_own:
                    losses += float(objective.loss(logits, labels)) * number
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


def learned_parameters(network: nn.Module) -> dict[str, torch.Tensor]:
    """Return a copy of the neurons' learned parameters, `<layer>.<parameter>`.

    A parameter of more than `LARGEST_IN_HISTORY` elements, per neuron of a large layer, is left
    out: a history of it would outgrow the weights.
    """
    return {
        f"{k}.{name}": value.detach().cpu().clone()
        for k, layer in enumerate(neurons_of(network))
        for name, value in layer.named_parameters()
        if value.numel() <= LARGEST_IN_HISTORY
    }


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
    hooks = [
        (layer, _Counter(one, clamp))
        for layer, one, clamp in zip(layers, counts, clamps, strict=True)
    ]
    with ExitStack() as stack:
        stack.enter_context(hooked(hooks, with_kwargs=True))
        for layer, hook in hooks:
            stack.callback(layer.register_forward_pre_hook(hook.before).remove)
        yield counts


class _Counter:
    """The forward hook of one layer."""

    def __init__(self, counts: Counts, clamp: float | None) -> None:
        self._counts = counts
        self._twin: NeuronLayer | None = None
        self._before: dict[str, Tensor] = {}
        low = -HIGH if clamp is None else clamp
        self._interval = (float(torch.nextafter(torch.tensor(low), torch.tensor(HIGH))), HIGH)

    def before(self, layer: NeuronLayer, _: Any) -> None:
        """Note the states with which a call begins."""
        self._before = layer.state

    def __call__(self, layer: NeuronLayer, inputs: Any, named: dict[str, Any], out: Any) -> None:
        spikes = first_output(out)
        if emits_spikes(layer.neuron):
            self._counts.fired += float((spikes != 0).sum())
        self._counts.seen += spikes.numel()
        if not layer.neuron.states:
            return
        inputs = neuron_inputs(layer, inputs)
        if self._twin is None:
            skipped = 2 if layer.step_mode == "m" else 1
            shape = tuple(inputs[0].shape[skipped:])
            self._twin = NeuronLayer(
                layer.neuron, **needed_sizes(layer.neuron, shape), backend=layer.backend,
                step_mode=layer.step_mode, record=("stats",), interval=self._interval,
            )  # fmt: skip
        if layer.step_mode == "s" or layer.carry_state:
            named = {"state": self._before, **named}
        *_, recorded = functional_call(self._twin, values_of(layer), inputs, named)
        self._counts.outside += recorded["stats"]["outside"]
