"""The folder of a run: what it was told, what came of it, and what it needs to go on.

    config.json               the config and the versions
    metrics.csv               a row per epoch
    model.safetensors         the network that was tested last: weights, what the neurons learned
    history.safetensors       what the neurons had learned after each epoch, `<layer>.<parameter>`
    checkpoint.safetensors    everything that `--resume` needs
    figure.png                the learned curves, at the end
    events/                   for TensorBoard, where asked for

Every file is written beside its place and renamed into it, so that a run that is stopped leaves
whole files: those of its last complete epoch.
"""

from __future__ import annotations

import csv
import io
import json
import platform
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from matplotlib.figure import Figure
from safetensors.torch import save
from torch import Tensor, nn

from lnm_codegen import __version__
from lnm_codegen.errors import LnmError, ModelError
from lnm_codegen.files import unwritable, write_whole
from lnm_codegen.train.engine import Epoch
from lnm_codegen.train.runs import checkpoint
from lnm_codegen.train.runs.config import TrainConfig
from lnm_codegen.train.runs.config_file import read_json

FILES = (
    "config.json", "metrics.csv", "model.safetensors", checkpoint.HISTORY, checkpoint.NAME,
    "figure.png",
)  # fmt: skip
EVENTS = "events"
_REMEDY = "Replace it with --force in place of --resume, or choose another folder with --out."


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run. `check` or `resumable` before the work, `create` when it begins."""

    path: Path

    def check(self, force: bool = False) -> None:
        """Refuse a folder that is none, that cannot be read, or is not empty."""
        if self._is_taken() and not force:
            raise ModelError(
                "train",
                f"{self.path} is not empty",
                remedy=(
                    "Choose another folder with --out, go on with the run in it with --resume, or "
                    "replace it with --force."
                ),
            )

    def resumable(self, config: TrainConfig | None) -> TrainConfig | None:
        """Return the config of the run in the folder; None where there is none yet.

        Raises:
            ModelError: The folder holds something else, or a run of another config.
        """
        if not self._is_taken():
            return None
        held = read_json(self.path / "config.json", _REMEDY)
        if (self.path / "model.safetensors").exists() and not (
            self.path / checkpoint.NAME
        ).exists():
            raise ModelError(
                "train",
                f"{self.path} holds a trained network, but no {checkpoint.NAME} to go on from",
                remedy=_REMEDY,
            )
        if config is None:
            return held
        want, have = config.as_json(), held.as_json()
        told = json.loads(json.dumps(want, default=str))
        for word in want:
            if told[word] != json.loads(json.dumps(have[word], default=str)):
                raise ModelError(
                    "train",
                    f"{self.path} holds a run whose {word} is {have[word]!r}, not {want[word]!r}",
                    remedy="Resume it with the config it began with, or choose another folder with --out.",
                )
        return config

    def create(self, config: TrainConfig) -> None:
        """Make the folder, without the files of a run before, and write config.json."""
        versions = {
            "lnm_codegen": __version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        }
        text = json.dumps({"config": config.as_json(), "versions": versions}, indent=2, default=str)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            for name in (*FILES, "analysis.html"):
                (self.path / name).unlink(missing_ok=True)
            if (self.path / EVENTS).is_dir():
                shutil.rmtree(self.path / EVENTS)
        except OSError as error:
            raise self._unusable(error) from None
        self._write("config.json", f"{text}\n".encode())

    def save_checkpoint(self, tensors: Mapping[str, Tensor], facts: Mapping[str, object]) -> None:
        """Write checkpoint.safetensors."""
        try:
            checkpoint.write_checkpoint(self.path, tensors, facts)
        except OSError as error:
            raise self._unusable(error) from None

    def save_metrics(self, epochs: Sequence[Epoch], layers: int) -> None:
        """Write metrics.csv: a row per epoch, numbers as the shortest text that reads back."""
        text = io.StringIO()
        rows = csv.writer(text, lineterminator="\n")
        rates = [f"firing_rate_{k + 1}" for k in range(layers)]
        outside = [f"outside_{k + 1}" for k in range(layers)]
        rows.writerow(
            ["epoch", "loss", "train_accuracy", "test_accuracy", *rates, *outside, "seconds"]
        )
        for e in epochs:
            tested = (*e.rates, *e.outside) or ("",) * (2 * layers)
            accuracy = "" if e.test_accuracy is None else e.test_accuracy
            rows.writerow(
                [e.number, e.loss, e.train_accuracy, accuracy, *tested, round(e.seconds, 3)]
            )
        self._write("metrics.csv", text.getvalue().encode())

    def save_model(self, network: nn.Module) -> None:
        """Write model.safetensors: the state dict."""
        self._save("model.safetensors", network.state_dict())

    def save_history(self, history: Mapping[str, Tensor]) -> None:
        """Write history.safetensors: (epochs + 1, *shape) for each, before training first."""
        self._save(checkpoint.HISTORY, history)

    def save_figure(self, figure: Figure) -> None:
        """Write figure.png."""
        data = io.BytesIO()
        figure.savefig(data, format="png", dpi=120)
        self._write("figure.png", data.getvalue())

    def _is_taken(self) -> bool:
        try:
            if self.path.exists() and not self.path.is_dir():
                raise ModelError(
                    "train", f"{self.path} is not a folder", remedy="Choose another with --out."
                )
            return self.path.is_dir() and any(self.path.iterdir())
        except OSError as error:
            raise self._unusable(error) from None

    def _save(self, name: str, tensors: Mapping[str, Tensor]) -> None:
        held = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
        self._write(name, save(held))

    def _write(self, name: str, data: bytes) -> None:
        try:
            write_whole(self.path / name, data)
        except OSError as error:
            raise self._unusable(error) from None

    def _unusable(self, error: OSError) -> LnmError:
        remedy = "Choose another folder with --out."
        return unwritable("train", self.path, error, remedy)
