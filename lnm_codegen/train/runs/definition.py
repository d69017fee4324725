"""Definition of a run's neuron in its folder, for readers without the file or module of the family.

Without PyTorch, so that `lnm train --resume` reads it before it loads PyTorch.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from lnm_codegen.errors import ModelError
from lnm_codegen.families import FAMILIES
from lnm_codegen.families.library import is_missing
from lnm_codegen.files import MAX_BYTES
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
