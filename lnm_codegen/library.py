"""`lnm.get`, `lnm.load`: neurons by name, from a text file, or from a Python file."""

from __future__ import annotations

from typing import Any

from lnm_codegen.families import family_named
from lnm_codegen.neuron import Neuron


def get(name: str, **arguments: Any) -> Neuron:
    """Return a neuron of a built-in family, `get("lnm", degree=3)`.

    Raises:
        ModelError: No such family, or an argument it does not take.
    """
    return family_named(name)(**arguments)


def load(path: str) -> Neuron:
    """Return the neuron that a TOML file defines."""
    raise NotImplementedError
