"""`load_run`: a trained network from its run folder.

Nothing is unpickled and no text of the folder is executed: config.json is data, and the weights
are a safetensors file, which holds numbers alone. Where the config names its family as
file.py:function or module:function, loading the run imports that file, as training did: whoever
names such a run runs that file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from lnm_codegen.errors import ModelError, ToolError
from lnm_codegen.train.data import Dataset
from lnm_codegen.train.engine import network_of
from lnm_codegen.train.models import Network
from lnm_codegen.train.runs.config import TrainConfig, neuron_of
from lnm_codegen.train.runs.config_file import read_json
from lnm_codegen.train.runs.runner import load_of

_REMEDY = "Train again with lnm train, or name another run."


@dataclass(frozen=True)
class Run:
    """A trained network and what it was trained on.

    Attributes:
        folder: Where it was read.
        config: How it was trained. A surrogate in the family's arguments is left out: it is no part
            of what the network computes.
        network: With its weights, in eval mode.
        data: The samples that the config names.
    """

    folder: Path
    config: TrainConfig
    network: Network = field(repr=False)
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
        raise ModelError(f"run: {place}", str(what), remedy="Name the folder that lnm train wrote.")
    config = read_config(place / "config.json")
    weights = _weights(place / "model.safetensors")
    where = place / "config.json"
    try:
        neuron = neuron_of(config, recorded=True)
        if data is None:
            data = load_of(config)
        network = network_of(config, data, neuron)
    except (ModelError, ToolError) as error:
        raise ModelError(f"run: {where}: {error}") from None
    _check_weights(place / "model.safetensors", network.state_dict(), weights)
    network.load_state_dict(weights)
    network.eval()
    return Run(place, config, network, data)


def read_config(path: Path) -> TrainConfig:
    """Return the config of a config.json.

    Raises:
        ModelError: The file is missing, no JSON, or says something that is no TrainConfig.
    """
    config = read_json(path, _REMEDY)
    surrogate = config.arguments.get("surrogate")
    if isinstance(surrogate, dict) and surrogate.keys() == {"name", "slope", "primitive"}:
        rest = {k: v for k, v in config.arguments.items() if k != "surrogate"}
        return replace(config, arguments=rest)
    return config


def _unreadable(path: Path, error: OSError) -> ModelError:
    if isinstance(error, FileNotFoundError):
        what = "no complete epoch" if path.suffix == ".safetensors" else "no run"
        return ModelError(
            "run", f"{path.parent} holds {what}: no {path.name} in it", remedy=_REMEDY
        )
    return ModelError(f"run: {path}", f"cannot be read: {error.strerror or error}", remedy=_REMEDY)


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
        raise ModelError(
            f"run: {path}", f"not a whole safetensors file: {said}", remedy=_REMEDY
        ) from None


def _check_weights(path: Path, want: Mapping[str, Tensor], have: Mapping[str, Tensor]) -> None:
    """Refuse weights that are not those of the network that the config describes."""
    for name in (*want, *have):
        if name not in have or name not in want:
            where = "the file has no" if name not in have else "the network has no"
            raise ModelError(
                f"run: {path}", f"does not fit config.json: {where} tensor {name!r}", remedy=_REMEDY
            )
        a, b = want[name], have[name]
        if a.shape != b.shape or a.dtype != b.dtype:
            raise ModelError(
                f"run: {path}",
                (
                    f"does not fit config.json: {name!r} is {tuple(b.shape)} {b.dtype}; expected "
                    f"{tuple(a.shape)} {a.dtype}"
                ),
                remedy=_REMEDY,
            )
        if not bool(torch.isfinite(b).all()):
            raise ModelError(f"run: {path}", f"{name!r} is not finite", remedy=_REMEDY)
