"""History of the learned parameters during training, from history.safetensors."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from lnm_codegen.train.runs.checkpoint import HISTORY, read_tensors

ABSENT = f"unavailable: the run has no {HISTORY}"


def read_history(folder: Path) -> dict[str, Tensor] | None:
    """Return `<layer>.<parameter>` -> (epochs + 1, *shape), or None without a history file.

    Raises:
        ModelError: The file is damaged.
    """
    path = folder / HISTORY
    if not path.is_file():
        return None
    return read_tensors("run", path, "Delete it to continue without a history.")


def mean_and_deviation(values: Tensor) -> dict[str, list[list[float]]]:
    """Return mean and standard deviation over the rows, for each epoch and element."""
    spread = values.std(1) if values.shape[1] > 1 else torch.zeros_like(values[:, 0])
    return {"mean": values.mean(1).tolist(), "std": spread.tolist()}
