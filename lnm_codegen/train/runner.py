"""A whole run: data, network, training, and the folder that keeps what came of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from rich.console import Console

from lnm_codegen.errors import ModelError
from lnm_codegen.train.config import TrainConfig
from lnm_codegen.train.data import Dataset, load
from lnm_codegen.train.engine import Epoch, fit, network_of
from lnm_codegen.train.figure import curves_figure
from lnm_codegen.train.folder import RunFolder
from lnm_codegen.train.model import ConvNet
from lnm_codegen.train.report import Report


@dataclass(frozen=True)
class RunResult:
    """What came of a run: the trained network and its epochs."""

    config: TrainConfig
    network: ConvNet = field(repr=False)
    epochs: tuple[Epoch, ...]


def run(
    config: TrainConfig,
    out: Path | None = None,
    *,
    force: bool = False,
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
        data: The images, where they are loaded already; by default what `config` names.
        console: Where progress is shown; None for silence.
        title: Stands before each line of progress.
        lines: Print a line per epoch.

    Raises:
        ModelError: The config does not fit the data or the neuron, the folder is taken or cannot
            be written, or training diverged; a run folder then keeps the last good epoch.
        ToolError: The data are missing, or the disk is full.
    """
    folder = None if out is None else RunFolder(out)
    if folder is not None:
        folder.check(force)
    if data is None:
        data = load(config.data, config.data_dir, config.limit)
    network = network_of(config, data)
    layers = len(network.neurons)
    if folder is not None:
        folder.create(config, layers)
    epochs: list[Epoch] = []
    with _threads(config.threads), Report(console, title, config.epochs, lines) as report:
        try:
            for epoch in fit(config, network, data, report.on_batch):
                epochs.append(epoch)
                report.on_epoch(epoch)
                if folder is not None:
                    folder.save_metrics(epochs, layers)
                    folder.save_model(network)
        except ModelError as error:
            if folder is None or not epochs:
                raise
            kept = folder.path / "model.safetensors"
            raise ModelError(f"{error} Epoch {len(epochs)} is kept in {kept}.") from None
    if folder is not None:
        folder.save_figure(curves_figure({network.neurons[0].neuron.name: network}, config.v_min))
    return RunResult(config, network, tuple(epochs))


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """Give PyTorch and the kernels that many threads, and back what they had."""
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(count or before)
        yield
    finally:
        torch.set_num_threads(before)
