"""Surrogate of a config: a name, a table of a name and its arguments, or an object.

config.json has a record of an object. It names its formulas, and no reader executes them.
"""

from __future__ import annotations

from typing import Any

from lnm_codegen.errors import ModelError
from lnm_codegen.language.surrogate import Surrogate, surrogate_named


def is_record(surrogate: object) -> bool:
    """Report whether a surrogate is the record of an object in config.json."""
    return isinstance(surrogate, dict) and {"name", "slope", "primitive"} <= surrogate.keys()


def surrogate_of(given: str | dict[str, Any]) -> Surrogate:
    """Return the surrogate of a name or a table.

    Raises:
        ModelError: An unknown name or argument, or the record of an object.
    """
    if isinstance(given, str):
        return surrogate_named("train", given, {})
    if is_record(given):
        problem = f"the surrogate {given['name']!r} was given as an object, which no file holds"
        remedy = "Resume the run in Python, with the config with which it began."
        raise ModelError("train", problem, remedy=remedy)
    table = dict(given)
    return surrogate_named("train", table.pop("kind", None), table)
