"""Files of tensors in a run folder: the training checkpoint, weights and histories.

The checkpoint holds everything that a run needs to resume: tensors, and JSON ("facts") in the
header. A reader never unpickles anything.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from lnm_codegen.errors import ModelError, reason
from lnm_codegen.files import unreadable

NAME = "checkpoint.safetensors"
MODEL = "model.safetensors"
HISTORY = "history.safetensors"
"""The neurons' parameters before training and after each epoch, `<layer>.<parameter>`."""
REMEDY = "Replace the run with --force in place of --resume, or choose another folder with --out."


def packed(tensors: Mapping[str, Tensor], facts: Mapping[str, Any] | None = None) -> bytes:
    """Return the bytes of a safetensors file; facts are JSON, which keeps floats exactly."""
    copies = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
    return save(copies, metadata=None if facts is None else {"facts": json.dumps(facts)})


def read_tensors(task: str, path: Path, remedy: str) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file; errors name the task and the path.

    Raises:
        ModelError: The file cannot be read, or is damaged.
    """
    try:
        with path.open("rb"):  # the error of safetensors would not name the path
            pass
        return load_file(path)
    except OSError as error:
        raise unreadable(f"{task}: {path}", error, remedy) from None
    except (SafetensorError, ValueError, KeyError) as error:
        problem = f"not a complete safetensors file: {reason(error)}"
        raise ModelError(f"{task}: {path}", problem, remedy=remedy) from None


def read_checkpoint(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Return tensors and facts, or None if the folder has no checkpoint.

    Raises:
        ModelError: The file is damaged, or not a checkpoint.
    """
    path = folder / NAME
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            facts = json.loads((file.metadata() or {})["facts"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}
        if not isinstance(facts, dict) or type(facts.get("epoch")) is not int:
            raise ValueError("the number of its last epoch is missing")
    except (OSError, SafetensorError, ValueError, KeyError) as error:
        problem = f"incomplete checkpoint: {reason(error)}"
        raise ModelError(f"train: {path}", problem, remedy=REMEDY) from None
    return tensors, facts


def without_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors whose names begin with `prefix.`, under the rest of their names."""
    return {k[len(prefix) + 1 :]: v for k, v in tensors.items() if k.startswith(f"{prefix}.")}
