"""A whole run: data, network, training, and the folder that keeps what came of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from lnm_codegen.errors import ModelError
from lnm_codegen.train.data import Dataset, load
from lnm_codegen.train.distributed import joined
from lnm_codegen.train.engine import Epoch, fit, learned_of, network_of, seeded
from lnm_codegen.train.figure import curves_figure
from lnm_codegen.train.models import Network
from lnm_codegen.train.report import Report
from lnm_codegen.train.runs.checkpoint import NAME, REMEDY, read_checkpoint, under
from lnm_codegen.train.runs.config import TrainConfig
from lnm_codegen.train.runs.folder import RunFolder
from lnm_codegen.train.runs.start import begin_with
from lnm_codegen.train.tensorboard import Events
from lnm_codegen.train.trainer import Trainer


@dataclass(frozen=True)
class RunResult:
    """What came of a run: the trained network and its epochs."""

    config: TrainConfig
    network: Network = field(repr=False)
    epochs: tuple[Epoch, ...]


def run(
    config: TrainConfig,
    out: Path | str | None = None,
    *,
    force: bool = False,
    resume: bool = False,
    data: Dataset | None = None,
    console: Console | None = None,
    title: str = "",
    lines: bool = True,
) -> RunResult:
    """Train a network as `config` says.

    Args:
        config: Everything that decides the numbers.
        out: The run folder; None writes nothing.
        force: Replace the run in a folder that is not empty.
        resume: Go on with the run in `out` after its last complete epoch, with the numbers that
            it would have had; begin it where there is none.
        data: The samples, where they are loaded already; by default what `config` names.
        console: Where progress is shown; None for silence.
        title: Stands before each line of progress.
        lines: Print a line per epoch.

    Raises:
        ModelError: The config does not fit the data or the neuron, the folder is taken or cannot
            be written, or training diverged; a run folder then keeps the last good epoch.
        ToolError: The data are missing, or the disk is full.
    """
    with ExitStack() as stack:
        world = stack.enter_context(joined(config.device))
        folder = None if out is None else RunFolder(Path(out))
        with world.together():
            if folder is not None and world.leads:
                if not (resume and folder.resumable(config) is not None):
                    folder.check(force)
        if data is None:
            data = load_of(config)
        stack.enter_context(_threads(config.threads))
        stack.enter_context(seeded(config, world.device))
        network = network_of(config, data).to(world.device)
        held = None if folder is None or not resume else read_checkpoint(folder.path)
        world.check_alike(-1 if held is None else held[1]["epoch"])
        if held is None:
            begin_with(network, config.neurons_from, config.neurons_order)
        trainer = Trainer(config, network, data, world)
        kept = _Kept(folder if world.leads else None, config, trainer)
        if held is not None:
            kept.load(*held)
        else:
            _try(trainer, data)
            kept.begin()
        split = "held out" if config.validation else "test"
        shown = console if world.leads else None
        report = stack.enter_context(Report(shown, title, config.epochs, lines, split))
        report.on_begin(len(kept.epochs))
        events = stack.enter_context(
            Events(folder.path if folder and config.tensorboard and world.leads else None)
        )
        try:
            for epoch in fit(config, network, data, report.on_batch, trainer):
                kept.add(epoch)
                report.on_epoch(epoch)
                events.on_epoch(epoch)
        except ModelError as error:
            if folder is None or not kept.epochs:
                raise
            place = folder.path / "model.safetensors"
            said = f"{error} Epoch {len(kept.epochs)} is kept in {place}."
            raise type(error)(said) from None
        if folder is not None and world.leads:
            name = network.neurons[0].neuron.name
            folder.save_figure(curves_figure({name: trainer.averaged}, config.v_min))
        return RunResult(config, trainer.averaged, tuple(kept.epochs))


def load_of(config: TrainConfig) -> Dataset:
    """Return the samples that a config names, with those held out as its test split."""
    data = load(config.data, config.data_dir, config.limit, **config.data_arguments)
    return data.held_out(config.validation) if config.validation else data


def _try(trainer: Trainer, data: Dataset) -> None:
    """Run a sample of each split through, so that what cannot run is refused before a file is."""
    device = trainer.world.device
    augment = trainer.config.augment
    drawn = torch.Generator() if augment else None
    batches = (data.batches(data.train, 1, drawn, augment), data.batches(data.test, 1))
    trainer.network.eval()
    with torch.random.fork_rng(devices=[] if device.type == "cpu" else [device]), torch.no_grad():
        for x, _ in map(next, batches):
            trainer.network(x.to(device))
        trainer.penalty()


class _Kept:
    """What has come of the run so far, in memory and in its folder."""

    def __init__(self, folder: RunFolder | None, config: TrainConfig, trainer: Trainer) -> None:
        self._folder, self._config, self._trainer = folder, config, trainer
        self._history = [learned_of(trainer.averaged)]
        self.epochs: list[Epoch] = []

    def begin(self) -> None:
        """Make the folder."""
        if self._folder is not None:
            self._folder.create(self._config)
            self.save_metrics()

    def add(self, epoch: Epoch) -> None:
        """Take an epoch; the checkpoint, which all else follows from, is written first."""
        self.epochs.append(epoch)
        self._history.append(learned_of(self._trainer.averaged))
        if self._folder is None:
            return
        history = self._stacked()
        tensors = self._trainer.tensors() | {f"history.{k}": v for k, v in history.items()}
        facts = {**self._trainer.facts(), "epochs": [asdict(e) for e in self.epochs]}
        self._folder.save_checkpoint(tensors, facts)
        self.save_metrics()
        self._folder.save_model(self._trainer.averaged)
        self._folder.save_history(history)

    def load(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Go on from a checkpoint; files that the kill left behind it are written anew.

        Raises:
            ModelError: It does not hold what this run needs.
        """
        try:
            self._trainer.load(tensors, facts)
            self.epochs = [_epoch(e) for e in facts["epochs"]]
            history = under("history", tensors)
            every = range(len(self.epochs) + 1)
            self._history = [{k: v[e] for k, v in history.items()} for e in every]
        except (KeyError, IndexError, TypeError, ValueError, RuntimeError) as error:
            said = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".:")
            raise ModelError(
                "train", f"{NAME} is of another network or another version: {said}", remedy=REMEDY
            ) from None
        if self._folder is not None:
            self.save_metrics()
            self._folder.save_model(self._trainer.averaged)
            self._folder.save_history(history)

    def save_metrics(self) -> None:
        """Write metrics.csv."""
        if self._folder is not None:
            self._folder.save_metrics(self.epochs, len(self._trainer.network.neurons))

    def _stacked(self) -> dict[str, Tensor]:
        names = self._history[0]
        return {name: torch.stack([h[name] for h in self._history]) for name in names}


def _epoch(held: dict[str, Any]) -> Epoch:
    """Return an epoch as JSON holds it, lists where there were tuples."""
    return Epoch(**{**held, "rates": tuple(held["rates"]), "outside": tuple(held["outside"])})


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """Give PyTorch and the kernels that many threads, and back what they had."""
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(count or before)
        yield
    finally:
        torch.set_num_threads(before)
