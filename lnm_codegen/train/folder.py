"""The folder of a run: config.json, metrics.csv, model.safetensors, figure.png.

Every file is written beside its place and renamed into it, so that a run that is stopped leaves
whole files: those of its last complete epoch.
"""

from __future__ import annotations

import csv
import io
import json
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from matplotlib.figure import Figure
from safetensors.torch import save
from torch import nn

from lnm_codegen import __version__
from lnm_codegen.backends.base import unwritable, write_whole
from lnm_codegen.errors import LnmError, ModelError
from lnm_codegen.train.config import TrainConfig
from lnm_codegen.train.engine import Epoch

FILES = ("config.json", "metrics.csv", "model.safetensors", "figure.png")


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run. `check` before the work, `create` when it begins."""

    path: Path

    def check(self, force: bool = False) -> None:
        """Refuse a folder that is none, that cannot be read, or is not empty."""
        try:
            if self.path.exists() and not self.path.is_dir():
                raise ModelError(f"train: {self.path} is not a folder. Choose another with --out.")
            taken = self.path.is_dir() and any(self.path.iterdir())
        except OSError as error:
            raise self._unusable(error) from None
        if taken and not force:
            raise ModelError(
                f"train: {self.path} is not empty. Choose another folder with --out, or replace"
                " the run in it with --force."
            )

    def create(self, config: TrainConfig, layers: int) -> None:
        """Make the folder, without the files of a run before, and write config.json."""
        versions = {
            "lnm_codegen": __version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        }
        text = json.dumps({"config": config.as_json(), "versions": versions}, indent=2, default=str)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            for name in FILES:
                (self.path / name).unlink(missing_ok=True)
        except OSError as error:
            raise self._unusable(error) from None
        self._write("config.json", f"{text}\n".encode())
        self.save_metrics((), layers)

    def save_metrics(self, epochs: Sequence[Epoch], layers: int) -> None:
        """Write metrics.csv: a row per epoch, numbers as the shortest text that reads back."""
        text = io.StringIO()
        rows = csv.writer(text, lineterminator="\n")
        rates = [f"firing_rate_{k + 1}" for k in range(layers)]
        rows.writerow(["epoch", "loss", "train_accuracy", "test_accuracy", *rates, "seconds"])
        for e in epochs:
            rows.writerow(
                [e.number, e.loss, e.train_accuracy, e.test_accuracy, *e.rates, round(e.seconds, 3)]
            )
        self._write("metrics.csv", text.getvalue().encode())

    def save_model(self, network: nn.Module) -> None:
        """Write model.safetensors: the state dict, weights and what the neurons learned."""
        tensors = {k: v.detach().contiguous() for k, v in network.state_dict().items()}
        self._write("model.safetensors", save(tensors))

    def save_figure(self, figure: Figure) -> None:
        """Write figure.png."""
        data = io.BytesIO()
        figure.savefig(data, format="png", dpi=120)
        self._write("figure.png", data.getvalue())

    def _write(self, name: str, data: bytes) -> None:
        try:
            write_whole(self.path / name, data)
        except OSError as error:
            raise self._unusable(error) from None

    def _unusable(self, error: OSError) -> LnmError:
        remedy = "Choose another folder with --out."
        return unwritable(f"train: cannot write to {self.path}", error, remedy)
