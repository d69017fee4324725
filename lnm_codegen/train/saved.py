"""`load_run`: a trained network from its run folder.

Nothing is unpickled and no text of the folder is executed: config.json is data, and the weights
are a safetensors file, which holds numbers alone. Where the config names its family as
file.py:function or module:function, loading the run imports that file, as training did: whoever
names such a run runs that file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from lnm_codegen.errors import ModelError
from lnm_codegen.functions import did_you_mean
from lnm_codegen.train.config import TrainConfig, neuron_of
from lnm_codegen.train.data import Dataset, load
from lnm_codegen.train.engine import network_of
from lnm_codegen.train.model import ConvNet

_REMEDY = "Train again with lnm train, or name another run."

_NUMBER, _NONE = (int, float), type(None)
_KINDS: dict[str, tuple[type, ...]] = {
    "family": (str,), "arguments": (dict,), "v_min": (*_NUMBER, _NONE), "data": (str,),
    "data_dir": (str, _NONE), "limit": (int, _NONE), "channels": (list,), "time_steps": (int,),
    "epochs": (int,), "batch": (int,), "lr": _NUMBER, "lr_neuron": _NUMBER,
    "weight_decay": _NUMBER, "clip": _NUMBER, "penalty": _NUMBER, "seed": (int,),
    "backend": (str,), "threads": (int, _NONE),
}  # fmt: skip
"""What JSON may hold for each field of a TrainConfig."""


@dataclass(frozen=True)
class Run:
    """A trained network and what it was trained on.

    Attributes:
        folder: Where it was read.
        config: How it was trained. A surrogate in the family's arguments is left out: it is no part
            of what the network computes.
        network: With its weights, in eval mode.
        data: The images that the config names.
    """

    folder: Path
    config: TrainConfig
    network: ConvNet = field(repr=False)
    data: Dataset = field(repr=False)


def load_run(folder: str | Path, data: Dataset | None = None) -> Run:
    """Return the run of a folder that `lnm train` wrote.

    Args:
        folder: It holds config.json and model.safetensors.
        data: The images, where they are loaded already; by default what the config names.

    Raises:
        ModelError: No such folder, a file that is missing, damaged or does not fit the other, a
            family that is not there.
        ToolError: The images are missing or malformed.
    """
    place = Path(folder)
    if not place.is_dir():
        what = "not a folder" if place.exists() else "no such folder"
        raise ModelError(f"run: {place}: {what}. Name the folder that lnm train wrote.")
    config = read_config(place / "config.json")
    weights = _weights(place / "model.safetensors")
    _check_channels(place / "model.safetensors", config, weights)
    if data is None:
        data = load(config.data, config.data_dir, config.limit)
    network = network_of(config, data, neuron_of(config, recorded=True))
    _check_weights(place / "model.safetensors", network.state_dict(), weights)
    network.load_state_dict(weights)
    network.eval()
    return Run(place, config, network, data)


def read_config(path: Path) -> TrainConfig:
    """Return the config of a config.json.

    Raises:
        ModelError: The file is missing, no JSON, or says something that is no TrainConfig.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise _unreadable(path, error) from None
    except (ValueError, RecursionError) as error:
        said = " ".join(str(error).split())
        raise ModelError(f"run: {path}: not JSON: {said}. {_REMEDY}") from None
    table = content.get("config") if isinstance(content, dict) else None
    if not isinstance(table, dict):
        raise ModelError(f"run: {path}: no table 'config' in it. {_REMEDY}")
    names = [f.name for f in fields(TrainConfig)]
    for key, value in table.items():
        if key not in names:
            raise ModelError(
                f"run: {path}: unknown key {key!r} in 'config'. Accepted: {', '.join(names)}."
                f"{did_you_mean(key, names)}"
            )
        whole = type(value) in _KINDS[key]
        if key == "channels" and whole:
            whole = all(type(item) is int for item in value)
        if not whole:
            raise ModelError(
                f"run: {path}: {key!r} is {_shown(value)}, of the wrong type. {_REMEDY}"
            )
    arguments = {k: _argument(v) for k, v in table.get("arguments", {}).items()}
    known = {**table, "arguments": {k: v for k, v in arguments.items() if not _is_surrogate(v)}}
    if known.get("data_dir") is not None:
        known["data_dir"] = Path(known["data_dir"])
    if "channels" in known:
        known["channels"] = tuple(known["channels"])
    try:
        return TrainConfig(**known)
    except ModelError as error:
        raise ModelError(f"run: {path}: {error}") from None


def _argument(value: Any) -> Any:
    """Return an argument of a family as it was: JSON has lists where Python had tuples."""
    return tuple(_argument(v) for v in value) if isinstance(value, list) else value


def _is_surrogate(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() == {"name", "slope", "primitive"}


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _unreadable(path: Path, error: OSError) -> ModelError:
    if isinstance(error, FileNotFoundError):
        what = "no complete epoch" if path.suffix == ".safetensors" else "no run"
        return ModelError(f"run: {path.parent} holds {what}: no {path.name} in it. {_REMEDY}")
    return ModelError(f"run: {path}: cannot be read: {error.strerror or error}. {_REMEDY}")


def _weights(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file."""
    try:
        with path.open("rb"):
            pass
        return load_file(path)
    except OSError as error:
        raise _unreadable(path, error) from None
    except (SafetensorError, ValueError, KeyError) as error:
        said = " ".join(str(error).split()).rstrip(".")
        raise ModelError(f"run: {path}: not a whole safetensors file: {said}. {_REMEDY}") from None


def _check_channels(path: Path, config: TrainConfig, weights: Mapping[str, Tensor]) -> None:
    """Refuse a config of other blocks before a network of that size is made."""
    for k, channels in enumerate(config.channels):
        found = weights.get(f"blocks.{k}.conv.weight")
        held = None if found is None or found.dim() != 4 else found.shape[0]
        if held != channels:
            said = "none" if held is None else f"{held} channels"
            raise ModelError(
                f"run: {path}: does not fit config.json, which has {channels} channels in block"
                f" {k + 1}; here {said}. {_REMEDY}"
            )


def _check_weights(path: Path, want: Mapping[str, Tensor], have: Mapping[str, Tensor]) -> None:
    """Refuse weights that are not those of the network that the config describes."""
    for name in (*want, *have):
        if name not in have or name not in want:
            where = "the file has no" if name not in have else "the network has no"
            raise ModelError(
                f"run: {path}: does not fit config.json: {where} tensor {name!r}. {_REMEDY}"
            )
        a, b = want[name], have[name]
        if a.shape != b.shape or a.dtype != b.dtype:
            raise ModelError(
                f"run: {path}: does not fit config.json: {name!r} is {tuple(b.shape)} {b.dtype};"
                f" expected {tuple(a.shape)} {a.dtype}. {_REMEDY}"
            )
        if not bool(torch.isfinite(b).all()):
            raise ModelError(f"run: {path}: {name!r} is not finite. {_REMEDY}")
