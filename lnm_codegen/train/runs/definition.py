"""Definition of a run's neuron in its folder, for readers without the file or module of the family.

Without PyTorch, so that `lnm train --resume` reads it before it loads PyTorch.
"""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path

from lnm_codegen.errors import ModelError
from lnm_codegen.families import FAMILIES
from lnm_codegen.families.library import is_missing
from lnm_codegen.files import MAX_BYTES, toml_of
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.train.runs.config import TrainConfig

DEFINITION = "neuron.toml"


def definition_text(config: TrainConfig, neuron: Neuron) -> str | None:
    """Return the text of neuron.toml for a neuron of a file or module.

    None for a built-in family, and for a neuron without a text that `lnm.load` accepts.
    """
    if config.family in FAMILIES:
        return None
    try:
        text = neuron.to_toml()
    except ModelError:
        return None
    return text if len(text.encode()) <= MAX_BYTES else None


def with_definition(config: TrainConfig, folder: Path) -> TrainConfig:
    """Return the config of a run, with neuron.toml as its family where its own is missing.

    The arguments of the family are part of that definition.
    """
    own = folder / DEFINITION
    if own.is_file() and is_missing(config.family):
        return replace(config, family=str(own), arguments={})
    return config


def require_same_definition(folder: Path, config: TrainConfig, neuron: Neuron) -> None:
    """Raise ModelError if neuron.toml of a run, where it has one, is not that of a neuron.

    Unlike the digest of the origin, it has the initial values of learnable parameters.
    """
    path, text = folder / DEFINITION, definition_text(config, neuron)
    if text is not None and path.is_file() and toml_of(path) != tomllib.loads(text):
        problem = "its definition or an initial value has changed since the run began"
        raise ModelError(config.family, problem, remedy="Restore it, or train a new run.")
