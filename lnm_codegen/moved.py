"""Modules of 0.2 that have moved: `from OLD import NAME` still works, with a warning.

The table has the modules that the pages of 0.2 import from, and those that its pickles name.
"""

from __future__ import annotations

import sys
import warnings
from importlib import import_module
from types import ModuleType
from typing import Any

from lnm_codegen.errors import reason

MOVED = {
    "bench.network": "bench.steps",
    "compiler.stage": "compiler.fixed",
    "insight.panels": "insight.figures",
    "ir.draws": "ir.declarations",
    "ir.network.values": "ir.network.nodes",
    "ir.operators": "ir.nodes",
    "nn.check.compare": "nn.check",
    "nn.exchange.modules": "nn.exchange.layers",
    "nn.exchange.network": "nn.exchange.read",
    "nn.integer.arithmetic": "nn.integer",
    "nn.norm.dispatch": "nn.norm.layer",
    "train.models.conv": "train.models.convolutional",
    "train.models.dense": "train.models.sequence",
    "train.models.norm": "train.models.convolutional",
    "train.models.resnet": "train.models.convolutional",
    "train.models.vgg": "train.models.convolutional",
    "train.runs.config_file": "train.runs.config",
    "train.stability.curve": "train.stability.layers",
    "train.stability.penalty": "train.stability.layers",
    "train.stability.modes": "train.stability.layers",
}
"""Old path -> new path, below the package."""


class _Moved(ModuleType):
    def __init__(self, old: str, new: str) -> None:
        super().__init__(old)
        self._new = new

    def __getattr__(self, name: str) -> Any:
        # Tools look for __path__ and __file__. pickle searches every module for an object, such as
        # `torch`, by its name.
        if name.startswith("__"):
            raise AttributeError(name)
        try:
            found = getattr(import_module(self._new), name)
        except ImportError as error:
            raise AttributeError(f"{self._new} cannot be imported: {reason(error)}") from error
        if isinstance(found, ModuleType):
            raise AttributeError(name)
        message = f"{self.__name__} has moved. Import {name} from {self._new}."
        warnings.warn(message, FutureWarning, stacklevel=2)
        return found


def register(package: str) -> None:
    """Enter the old paths below `package`; a module is imported when a name of it is used."""
    for old, new in MOVED.items():
        sys.modules[f"{package}.{old}"] = _Moved(f"{package}.{old}", f"{package}.{new}")
