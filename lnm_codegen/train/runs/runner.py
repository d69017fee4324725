"""Training runs from data to results: load, train, and save each epoch in the run folder."""

from __future__ import annotations

import warnings
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any
from weakref import WeakSet

import torch
from rich.console import Console
from torch import Tensor, nn

from lnm_codegen.analysis.canvas import require_matplotlib
from lnm_codegen.errors import ModelError
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.nn.states import reset
from lnm_codegen.train.data.dataset import Dataset, least, warn_of_absent_classes
from lnm_codegen.train.data.own import samples_of
from lnm_codegen.train.distributed import World, joined
from lnm_codegen.train.engine import (
    fit,
    torch_settings,
)
from lnm_codegen.train.fastest import fastest, is_measured, measured_text
from lnm_codegen.train.figure import run_figure
from lnm_codegen.train.losses import Function, objective_of
from lnm_codegen.train.models.base import Network
from lnm_codegen.train.models.own import with_own_neurons
from lnm_codegen.train.names import is_reference
from lnm_codegen.train.progress import ProgressBar, TensorBoardEvents, summary_writer
from lnm_codegen.train.runs.config import (
    FUNCTION,
    TrainConfig,
    definition_text,
    neuron_of,
    with_definition,
)
from lnm_codegen.train.runs.folder import (
    CHECKPOINT,
    EVENTS,
    HISTORY,
    MODEL,
    REMEDY,
    Epoch,
    RunFolder,
    claimed,
    is_taken,
    read_checkpoint,
)
from lnm_codegen.train.runs.origin import (
    dataset_of,
    make_network,
    network_origin,
    origin_of,
    read_origin,
    require_named_data,
    require_named_network,
    require_same_data,
    require_same_network,
    require_same_neuron,
    with_scale,
)
from lnm_codegen.train.runs.saved import learned_parameters, load_neurons
from lnm_codegen.train.stability.layers import Unstable, is_counted
from lnm_codegen.train.trainer import Trainer, without_prefix
from lnm_codegen.validation import wrong


@dataclass(frozen=True)
class RunResult:
    """Result of a run: the trained network and its epochs.

    The network is a `Network` of `MODELS`, or a module of yours. Its neuron layers are
    `neurons_of(network)`.
    """

    config: TrainConfig
    network: Any = field(repr=False)
    epochs: tuple[Epoch, ...]


def run(
    config: TrainConfig,
    out: Path | str | None = None,
    *,
    force: bool = False,
    resume: bool = False,
    data: Dataset | tuple[Any, ...] | None = None,
    loss: Function | None = None,
    metric: Function | None = None,
    network: nn.Module | None = None,
    console: Console | None = None,
    title: str = "",
    lines: bool = True,
) -> RunResult:
    """Train a network as `config` says.

    Args:
        config: Options of the run.
        out: Run folder; None writes nothing.
        force: Replace the run in a folder that is not empty.
        resume: Continue the run in `out` after its last complete epoch, with the results of an
            uninterrupted run. Start it if there is none.
        data: Samples; by default those that `config` names. They are a pair (train, test) or a
            triple (train, valid, test) of PyTorch data sets or loaders, or the result of
            `from_datasets`, `from_arrays` or `load`. `limit` and `validation` of the config apply
            to them, except in a `held_out` set. The run records their name, and for samples of
            `load` its folder, limit and options.
        loss: Loss function (outputs, targets) -> scalar, the mean over a batch, in place of that
            of the config. Targets are labels, as `Dataset.batches` gives them, or any numbers. The
            run reports the loss on the test samples too.
        metric: Function (outputs, targets) -> number, the mean over a batch. It is reported in
            place of the accuracy. Targets that are no classes have no accuracy.
        network: A network of yours, any module with neuron layers; it is trained in place, so each
            run needs a new one. By default the one that `config` names. See docs/networks.md.
        console: Console for progress; None prints nothing.
        title: Text before each line of progress.
        lines: Print a line per epoch.

    Raises:
        ModelError: The config does not fit the data, the network or the neuron; a resumed run was
            trained with another definition of its neurons or on other samples; the folder is taken,
            in use by another run, or cannot be written; or training diverged, and a run folder
            keeps the last good epoch.
        ToolError: The data are missing, matplotlib is not installed (with `out`), or the disk is
            full.
    """
    if data is not None:
        data = samples_of("train", data)
        config = _of_samples(config, data)
    config = _of_functions(config, loss, metric)
    if network is not None:
        config = _of_network(config, network)
    with ExitStack() as stack:
        world = stack.enter_context(joined(config.device))
        folder = None if out is None else RunFolder(Path(out))
        if folder is not None:
            _claim(folder, config, world, stack, force=force, resume=resume)
        is_limited = data is None or not data.is_held_out
        data = _samples_of(config, data, folder if resume else None)
        if world.leads and is_limited:
            warn_of_absent_classes(data, config.limit, config.validation or 0)
        objective = objective_of(config, data, loss, metric)
        stack.enter_context(torch_settings(config, world.device))
        saved = None if folder is None or not resume else read_checkpoint(folder.path)
        made, neuron = _made(config, data, network, folder, is_resumed=saved is not None)
        config = config if neuron is not None else with_own_neurons(config)
        network = made.to(world.device)
        world.require_same_epoch(-1 if saved is None else saved[1]["epoch"])
        if saved is None and config.neurons_from is not None:
            if neuron is None:
                raise _without_neuron(config)
            load_neurons(network, neuron, Path(config.neurons_from), config.neurons_order)
        times: dict[str, float] = {}
        if is_measured(config):
            if saved is not None and folder is not None:
                config = folder.measured(config)
            else:
                config, times = fastest(config, network, data, world, objective)
        trainer = Trainer(config, network, data, world, objective)
        if saved is not None and folder is not None:
            require_same_network(read_origin(folder.path / "config.json"), config, network)
        written = folder if world.leads else None
        record = _Record(written, trainer)
        if saved is None:
            _begin(record, trainer, data, neuron, times)
        else:
            record.load(*saved)
        shown = console if world.leads else None
        if times and shown is not None:
            shown.print(f"{title}{measured_text(config, times)}", highlight=False, markup=False)
        split = "held out" if data.is_held_out else "test"
        report = stack.enter_context(ProgressBar(shown, title, config.epochs, lines, split))
        report.on_begin(len(record.epochs))
        _fit(trainer, data, record, report, folder)
        if written is not None:
            name, history = written.path.resolve().name, record.history()
            written.save_figure(
                run_figure(name, trainer.averaged, history, trainer.intervals[0][0])
            )
        return RunResult(config, trainer.averaged, tuple(record.epochs))


def _claim(
    folder: RunFolder,
    config: TrainConfig,
    world: World,
    stack: ExitStack,
    *,
    force: bool,
    resume: bool,
) -> None:
    """Claim the folder of a run until the stack is closed, if a run of `config` may write there.

    What the end of the run needs is asked for here, before an epoch is trained.
    """
    require_matplotlib("train")  # for the figure
    if config.tensorboard:
        summary_writer()
    with world.synchronised_errors():
        if world.leads:
            stack.enter_context(claimed(folder.path))
            if not (resume and folder.resumable(config) is not None):
                folder.require_free(force)


def _begin(
    record: _Record,
    trainer: Trainer,
    data: Dataset,
    neuron: Neuron | None,
    times: dict[str, float],
) -> None:
    """Make the folder of a new run, after a trial of the network with one sample."""
    config, network = trainer.config, trainer.network
    is_own = not isinstance(network, Network)
    if is_own:
        _note_training(network)
    _run_one_sample(trainer, data)
    own = network_origin(network, is_reference(config.network)) if is_own else None
    origin = origin_of(config, neuron, data, own)
    definition = None if neuron is None else definition_text(config, neuron)
    record.begin({**origin, "step_ms": times} if times else origin, definition)


def _fit(
    trainer: Trainer,
    data: Dataset,
    record: _Record,
    report: ProgressBar,
    folder: RunFolder | None,
) -> None:
    """Train the remaining epochs, and record each.

    Raises:
        ModelError: The training diverged; the message says which epoch the folder keeps.
    """
    config, leads = trainer.config, trainer.world.leads
    events = folder.path / EVENTS if folder and leads and config.tensorboard else None
    with closing(TensorBoardEvents(events)) as events_of_run:
        try:
            for epoch in fit(config, trainer.network, data, report.on_batch, trainer):
                record.add(epoch)
                report.on_epoch(epoch)
                events_of_run.on_epoch(epoch)
        except ModelError as error:
            if folder is None or not record.epochs:
                raise
            saved_at = f"Epoch {len(record.epochs)} is saved in {folder.path / MODEL}."
            remedy = f"{error.remedy} {saved_at}".lstrip()
            raise type(error)(error.where, error.problem, error.accepted, remedy) from None


def _of_samples(config: TrainConfig, data: Dataset) -> TrainConfig:
    """Return the config that names the samples: those of `load` with its arguments."""
    if data.loaded is None:
        same = data.name == config.data
        return config if same else replace(config, data=data.name, data_dir=None, data_arguments={})
    folder, limit, options = data.loaded
    limit = least(config.limit, limit)
    return replace(config, data=data.name, data_dir=folder, data_arguments=options, limit=limit)


def _of_functions(
    config: TrainConfig, loss: Function | None, metric: Function | None
) -> TrainConfig:
    """Return the config that says which functions were given in Python."""
    for word, value in (("loss", loss), ("metric", metric)):
        if value is None:
            continue
        if not callable(value):
            raise wrong("run", word, value, "a function (outputs, targets)")
        named = getattr(config, word)
        if named not in (getattr(TrainConfig, word), FUNCTION):
            problem = f"{word} is a function, and the config names {named!r}"
            raise ModelError("run", problem, remedy="Give one of them.")
        said: dict[str, Any] = {word: FUNCTION}
        config = replace(config, **said)
    return config


def _samples_of(config: TrainConfig, data: Dataset | None, resumed: RunFolder | None) -> Dataset:
    """Return the samples of a run; named ones of a resumed run have its mean and deviation."""
    if data is not None or resumed is None or not is_taken(resumed.path):
        return dataset_of(config, data)
    origin = read_origin(resumed.path / "config.json")
    require_named_data(origin)
    return with_scale(origin, dataset_of(config))


_TRAINED: WeakSet[nn.Module] = WeakSet()
"""Networks of the user that a run of this process has begun to train."""


def _note_training(network: nn.Module) -> None:
    """Warn if another run has trained a network, which a loop over seeds may not intend."""
    if network in _TRAINED:
        warnings.warn(
            f"run: an earlier run has trained this {type(network).__name__}, and this one goes on"
            " from its weights. For a run of its own, give a new module.",
            stacklevel=4,  # the caller of run
        )
    _TRAINED.add(network)


def _of_network(config: TrainConfig, network: Any) -> TrainConfig:
    """Return the config that names a network of the user by its class."""
    if not isinstance(network, nn.Module):
        accepted = "a torch.nn.Module, or None for the network that the config names"
        raise wrong("train", "network", network, accepted)
    if config.network_arguments:
        problem = f"options of a network, {config.network_arguments}, with network= a module"
        raise ModelError("train", problem, remedy="Leave out network_arguments.")
    return replace(config, network=type(network).__name__)


def _made(
    config: TrainConfig,
    data: Dataset,
    given: nn.Module | None,
    folder: RunFolder | None,
    *,
    is_resumed: bool,
) -> tuple[nn.Module, Neuron | None]:
    """Return the network of a run and the neuron with which it was made.

    A resumed run is compared with its folder: neuron and samples.
    """
    found: list[Neuron] = []

    def neuron() -> Neuron:
        if folder is None or not is_resumed:
            found.append(neuron_of(config, recorded=folder is not None))  # it must load again
        else:
            found.append(_neuron_of_run(config, folder))
        return found[0]

    if is_resumed and folder is not None:
        origin = read_origin(folder.path / "config.json")
        if given is None:
            require_named_network(origin, config)
        require_same_data(origin, data)
    made = make_network(config, data, neuron, given)
    return made.network, found[0] if made.takes_neuron else None


def _neuron_of_run(config: TrainConfig, folder: RunFolder) -> Neuron:
    """Return the neuron of a run to resume, after a comparison with that of the run."""
    defined = with_definition(config, folder.path)
    neuron = neuron_of(defined, recorded=True)
    origin = read_origin(folder.path / "config.json")
    require_same_neuron(origin, config, neuron, defined.family)
    return neuron


def _without_neuron(config: TrainConfig) -> ModelError:
    problem = "the network has neurons of its own, and neurons_from copies those of one family"
    remedy = f"Let {config.network} take neuron=, or load its state_dict yourself."
    return ModelError("train: neurons_from", problem, remedy=remedy)


def _run_one_sample(trainer: Trainer, data: Dataset) -> None:
    """Run a sample of each split, so that a run that must fail does so before it writes a file."""
    device, augment = trainer.world.device, trainer.config.augment
    generator = torch.Generator() if augment else None
    batches = (data.batches(data.train, 1, generator, augment), data.batches(data.test, 1))
    trainer.network.eval()
    objective = trainer.objective
    with (
        torch.random.fork_rng(devices=[] if device.type == "cpu" else [device]),
        torch.set_grad_enabled(objective.is_own),  # whose gradient is checked
    ):
        for x, labels in map(next, batches):
            reset(trainer.network)
            outputs = trainer.network(x[: trainer.config.tbptt].to(device))
            if objective.is_own or objective.metric is not None:
                objective.loss(outputs, labels.to(device))
                objective.score(outputs.detach(), labels.to(device))
        trainer.penalty()


class _Record:
    """Epochs and history of the run so far, in memory and in its folder, if it has one."""

    def __init__(self, folder: RunFolder | None, trainer: Trainer) -> None:
        self._folder, self._trainer = folder, trainer
        self._history = [learned_parameters(trainer.averaged)]
        self.epochs: list[Epoch] = []

    def begin(self, origin: dict[str, Any], definition: str | None) -> None:
        """Make the folder."""
        if self._folder is not None:
            self._folder.create(self._trainer.config, origin, definition)
            self._save_metrics(self._folder)

    def add(self, epoch: Epoch) -> None:
        """Add an epoch; the checkpoint, from which the other files follow, is written first."""
        self.epochs.append(epoch)
        self._history.append(learned_parameters(self._trainer.averaged))
        if self._folder is not None:
            history = {f"history.{k}": v for k, v in self.history().items()}
            facts = {**self._trainer.facts(), "epochs": [asdict(e) for e in self.epochs]}
            self._folder.save_tensors(CHECKPOINT, self._trainer.tensors() | history, facts)
            self._save()

    def load(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Continue from a checkpoint; files older than it are written again.

        Raises:
            ModelError: The checkpoint lacks something that this run needs.
        """
        try:
            self._trainer.load(tensors, facts)
            self.epochs = [_epoch(e) for e in facts["epochs"]]
            history = without_prefix("history", tensors)
            every = range(len(self.epochs) + 1)
            self._history = [{k: v[e] for k, v in history.items()} for e in every]
        except (KeyError, IndexError, TypeError, ValueError, RuntimeError) as error:
            why = str(error).partition("\n")[0].rstrip(".:") or type(error).__name__
            problem = f"{CHECKPOINT} is of another network or another version: {why}"
            raise ModelError("train", problem, remedy=REMEDY) from None
        if self._folder is not None:
            self._folder.sweep()
            self._save()

    def _save(self) -> None:
        assert self._folder is not None
        self._save_metrics(self._folder)
        self._folder.save_tensors(MODEL, self._trainer.averaged.state_dict())
        self._folder.save_tensors(HISTORY, self.history())

    def _save_metrics(self, folder: RunFolder) -> None:
        layers = self._trainer.neurons
        counted = [k for k, layer in enumerate(layers) if is_counted(layer)]
        columns = self._trainer.objective.columns
        folder.save_metrics(self.epochs, len(layers), counted, columns)

    def history(self) -> dict[str, Tensor]:
        """Return `<layer>.<parameter>` -> (epochs + 1, *shape)."""
        names = self._history[0]
        return {name: torch.stack([h[name] for h in self._history]) for name in names}


def _epoch(fields: dict[str, Any]) -> Epoch:
    """Return an epoch as JSON holds it, with lists instead of tuples."""
    rates, outside = tuple(fields["rates"]), tuple(fields["outside"])
    unstable = tuple(Unstable(**counts) for counts in fields.get("unstable", ()))
    return Epoch(**{**fields, "rates": rates, "outside": outside, "unstable": unstable})
