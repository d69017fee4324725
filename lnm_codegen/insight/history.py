"""How what the neurons learn moved in training, from history.safetensors."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from lnm_codegen.errors import ModelError
from lnm_codegen.nn import NeuronLayer
from lnm_codegen.train.runs.checkpoint import HISTORY

ABSENT = f"not known: the run has no {HISTORY}"


def read_history(folder: Path) -> dict[str, Tensor] | None:
    """Return `<layer>.<parameter>` -> (epochs + 1, *shape); None where the run kept none.

    Raises:
        ModelError: The file is damaged.
    """
    path = folder / HISTORY
    if not path.is_file():
        return None
    try:
        return load_file(path)
    except (OSError, SafetensorError, ValueError, KeyError) as error:
        said = " ".join(str(error).split()).rstrip(".")
        raise ModelError(
            f"run: {path}",
            f"not a whole safetensors file: {said}",
            remedy="Delete it to go on without.",
        ) from None


def moved(
    history: dict[str, Tensor] | None, k: int, layer: NeuronLayer
) -> dict[str, Tensor] | None:
    """Return parameter -> (epochs + 1, rows, elements) of layer k; None where it is not known."""
    if history is None:
        return None
    found = {}
    for decl in layer.neuron.params:
        value = history.get(f"{k}.{decl.name}")
        shape = tuple(getattr(layer, decl.name).shape)
        if value is not None and tuple(value.shape[1:]) == shape:
            found[decl.name] = value.reshape(len(value), -1, decl.size or 1).double()
    return found


def summary(values: Tensor) -> dict[str, list[list[float]]]:
    """Return mean and deviation over the rows, for each epoch and element."""
    spread = values.std(1) if values.shape[1] > 1 else torch.zeros_like(values[:, 0])
    return {"mean": values.mean(1).tolist(), "std": spread.tolist()}
