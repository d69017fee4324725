"""`checkpoint.safetensors`: everything a run needs to go on as if it had never been stopped.

One file, renamed into its place when it is whole, so that a process killed at any moment leaves the
checkpoint of its last complete epoch. Tensors are tensors; the rest is JSON in the file's header.
Nothing is pickled.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from lnm_codegen.errors import ModelError
from lnm_codegen.files import write_whole

NAME = "checkpoint.safetensors"
REMEDY = "Replace the run with --force in place of --resume, or choose another folder with --out."
HISTORY = "history.safetensors"
"""What the neurons had learned after each epoch, beside it."""


def write_checkpoint(folder: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Write the checkpoint of a folder.

    Args:
        folder: Of the run.
        tensors: By name; a scalar is one too.
        facts: What JSON can write; floats come back to the last bit.
    """
    held = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
    write_whole(folder / NAME, save(held, metadata={"facts": json.dumps(facts)}))


def read_checkpoint(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Return tensors and facts, or None where the folder has no checkpoint.

    Raises:
        ModelError: The file is damaged or another's.
    """
    path = folder / NAME
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            facts = json.loads((file.metadata() or {})["facts"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}
        if not isinstance(facts, dict) or type(facts.get("epoch")) is not int:
            raise ValueError("it does not say after which epoch it was written")
    except (OSError, SafetensorError, ValueError, KeyError) as error:
        said = " ".join(str(error).split()).rstrip(".")
        raise ModelError(f"train: {path}", f"no whole checkpoint: {said}", remedy=REMEDY) from None
    return tensors, facts


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the moments of an optimiser, `optimizer.<number of the parameter>.<name>`."""
    state = optimizer.state_dict()["state"]
    return {
        f"optimizer.{k}.{name}": torch.as_tensor(value)
        for k, held in state.items()
        for name, value in held.items()
        if value is not None
    }


def load_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put moments back; its groups and rates stay."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith("optimizer."):
            _, number, word = name.split(".", 2)
            state.setdefault(int(number), {})[word] = value
    optimizer.load_state_dict(
        {"state": state, "param_groups": optimizer.state_dict()["param_groups"]}
    )


def under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors whose name begins with `prefix.`, without it."""
    return {k[len(prefix) + 1 :]: v for k, v in tensors.items() if k.startswith(f"{prefix}.")}
