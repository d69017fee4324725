"""Folder of a training run.

    config.json               the config, the versions, and the origin: see `origin`
    metrics.csv               a row per epoch
    model.safetensors         the network after the last epoch
    history.safetensors       the neurons' parameters after each epoch, `<layer>.<parameter>`
    checkpoint.safetensors    everything that `--resume` needs
    figure.png                the learned curves, written at the end
    neuron.toml               the definition of a neuron from a file or module: see `definition`
    events/                   for TensorBoard, if `tensorboard` is set
    .lock                     while a run writes into the folder: see `claim`

Every file is written whole and then renamed, so an interrupted run leaves the files of its last
complete epoch.
"""

from __future__ import annotations

import csv
import io
import json
import platform
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lnm_codegen import __version__
from lnm_codegen.errors import ModelError
from lnm_codegen.files import write_whole
from lnm_codegen.train.engine import Epoch
from lnm_codegen.train.models.own import require_no_family, with_own_neurons
from lnm_codegen.train.runs import checkpoint
from lnm_codegen.train.runs.claim import FILES, is_taken, require_free, unfinished, unusable
from lnm_codegen.train.runs.config import OWN, TrainConfig
from lnm_codegen.train.runs.config_file import DEFINITION, read_json

if TYPE_CHECKING:
    from matplotlib.figure import Figure

EVENTS = "events"


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run.

    Under `claimed`, call `require_free` or `resumable`, then `create`, then `save_*`.
    """

    path: Path

    def require_free(self, force: bool = False) -> None:
        """Raise ModelError unless the folder is empty or absent; with `force` it may hold files."""
        require_free(self.path, force)

    def resumable(self, config: TrainConfig | None) -> TrainConfig | None:
        """Return the config of the run in the folder, or None if the folder is empty.

        `config` may have the default family where the network of the run has neurons of its own.

        Raises:
            ModelError: The folder holds something else, or a run of another config than `config`.
        """
        if not is_taken(self.path):
            return None
        found = read_json(self.path / "config.json", checkpoint.REMEDY)
        files = (self.path / checkpoint.MODEL, self.path / checkpoint.NAME)
        if files[0].exists() and not files[1].exists():
            problem = f"{self.path} holds a trained network, but no {checkpoint.NAME}"
            raise ModelError("train", problem, remedy=checkpoint.REMEDY)
        if config is None:
            return found
        if found.family == OWN:
            require_no_family(config, f"network: {config.network}")
            config = with_own_neurons(config)
        want, have = (json.loads(_json(c.as_json())) for c in (config, found))
        for name, value in want.items():
            if have[name] != value:
                raise ModelError(
                    "train",
                    f"{self.path} holds a run whose {name} is {have[name]!r}, not {value!r}",
                    remedy="Resume it with its own config, or choose another folder with --out.",
                )
        return config

    def create(
        self, config: TrainConfig, origin: Mapping[str, Any], definition: str | None = None
    ) -> None:
        """Make the folder, delete the files of an earlier run, and write config.json.

        A text `definition` becomes neuron.toml.
        """
        versions = {
            "lnm_codegen": __version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        }
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            for name in (*FILES, "analysis.html"):
                (self.path / name).unlink(missing_ok=True)
            for file in (self.path / EVENTS).glob("events.out.tfevents.*"):
                file.unlink()
            with suppress(OSError):  # it is absent, or holds other files
                (self.path / EVENTS).rmdir()
        except OSError as error:
            raise unusable(self.path, error) from None
        self.sweep()
        content = {"config": config.as_json(), "versions": versions, "origin": origin}
        self._write("config.json", _json(content) + "\n")
        if definition is not None:
            self._write(DEFINITION, definition)

    def sweep(self) -> None:
        """Delete the temporary files of killed writes."""
        try:
            for file in unfinished(self.path):
                file.unlink(missing_ok=True)
        except OSError as error:
            raise unusable(self.path, error) from None

    def save_metrics(
        self,
        epochs: Sequence[Epoch],
        layers: int,
        counted: Sequence[int] = (),
        further: Sequence[str] = (),
    ) -> None:
        """Write metrics.csv: a row per epoch, numbers as the shortest text that reads back.

        Args:
            epochs: The epochs so far.
            layers: Number of neuron layers.
            counted: Indices of the layers with a column of diverging rows.
            further: Further fields of an epoch, each a column at the end.
        """
        text = io.StringIO()
        rows = csv.writer(text, lineterminator="\n")
        rates = [f"firing_rate_{k + 1}" for k in range(layers)]
        outside = [f"outside_{k + 1}" for k in range(layers)]
        names = ("epoch", "loss", "train_accuracy", "test_accuracy", *rates, *outside, "seconds")
        rows.writerow([*names, *(f"diverging_{k + 1}" for k in counted), *further])
        for e in epochs:
            tested = (*e.rates, *e.outside) or ("",) * (2 * layers)
            found = [e.unstable[k].diverging if e.unstable else "" for k in counted]
            found += [getattr(e, name) for name in further]
            accuracies = (e.train_accuracy, e.test_accuracy)
            rows.writerow([e.number, e.loss, *accuracies, *tested, round(e.seconds, 3), *found])
        self._write("metrics.csv", text.getvalue())

    def save_tensors(
        self, name: str, tensors: Mapping[str, Tensor], facts: Mapping[str, object] | None = None
    ) -> None:
        """Write a safetensors file: the checkpoint, the model or the history."""
        self._write(name, checkpoint.packed(tensors, facts))

    def save_figure(self, figure: Figure) -> None:
        """Write figure.png."""
        data = io.BytesIO()
        figure.savefig(data, format="png", dpi=120)
        self._write("figure.png", data.getvalue())

    def _write(self, name: str, data: str | bytes) -> None:
        try:
            write_whole(self.path / name, data)
        except OSError as error:
            raise unusable(self.path, error) from None


def _json(value: object) -> str:
    return json.dumps(value, indent=2, default=str)
