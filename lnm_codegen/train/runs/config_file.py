"""Reading of a `TrainConfig` from an experiment file (TOML) or from config.json of a run folder.

    [neuron]    family, v_min, and arguments of the family
    [network]   name, and options of the network
    [data]      name, folder, limit, validation, augment, and options of the data set
    [train]     every other field of TrainConfig

In TOML the word "none" stands for None. Reading either file executes no code. A family that is a
Python file or a module is imported later, by `config.neuron_of`.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

from lnm_codegen.errors import ModelError
from lnm_codegen.families import FAMILIES
from lnm_codegen.families.library import is_missing
from lnm_codegen.files import MAX_BYTES, json_of, toml_of
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.train.runs.config import OPTIONS, TrainConfig, takes_clamp
from lnm_codegen.validation import require_known, wrong

TABLES: Mapping[str, dict[str, str]] = {
    table: {o.key or n: n for n, o in OPTIONS.items() if o.table == table and o.key != "*"}
    for table in dict.fromkeys(option.table for option in OPTIONS.values())
}
"""Table -> key -> field."""
OPEN_TABLES = {option.table: name for name, option in OPTIONS.items() if option.key == "*"}
"""Table -> the field that collects its other keys."""

_TYPES = {
    str: "text", int: "an integer", float: "a number", bool: "true or false", Path: "a path",
    tuple: "a list of integers", dict: "a table", NoneType: '"none"',
}  # fmt: skip


def _types_of(hint: Any) -> tuple[Any, ...]:
    members = get_args(hint) if isinstance(hint, UnionType) else (hint,)
    return tuple(get_origin(member) or member for member in members)


FIELD_TYPES = {name: _types_of(hint) for name, hint in get_type_hints(TrainConfig).items()}
"""Field -> the types that it accepts."""


def read_toml(path: Path) -> TrainConfig:
    """Return the config of an experiment file.

    Raises:
        ModelError: No such file, no TOML, or a key or value that is not accepted; the message
            names file, table and key.
    """
    return config_of_tables(toml_of(path), str(path))


def config_of_tables(tables: Mapping[str, Any], where: str) -> TrainConfig:
    """Return the config of the tables of an experiment file. Messages begin with `where`.

    Raises:
        ModelError: A key or value is not accepted.
    """
    flat: dict[str, Any] = {}
    for name, table in tables.items():
        require_known(where, "table", name, TABLES)
        if not isinstance(table, dict):
            raise wrong(where, name, table, "a table")
        for key, given in table.items():
            value = None if given == "none" else given
            if key not in TABLES[name] and name in OPEN_TABLES:
                flat.setdefault(OPEN_TABLES[name], {})[key] = value
            else:
                require_known(f"{where}: {name}", "key", key, TABLES[name])
                flat[TABLES[name][key]] = value
    if "v_min" in flat:
        place_v_min(flat)
    return config_of(flat, where)


def place_v_min(flat: dict[str, Any]) -> None:
    """Make the v_min of `flat` the only clamp: an earlier one in the arguments is removed.

    It also becomes an argument of a family to which the default does not apply. A family without an
    argument v_min then raises the error.
    """
    family, arguments = flat.get("family", TrainConfig.family), dict(flat.get("arguments", {}))
    arguments.pop("v_min", None)
    if flat["v_min"] is not None and not takes_clamp(family, arguments):
        arguments["v_min"] = flat["v_min"]
    flat["arguments"] = arguments


def read_json(path: Path, remedy: str) -> TrainConfig:
    """Return the config of a config.json. Messages end with `remedy`.

    Raises:
        ModelError: As for `read_toml`.
    """
    where = f"run: {path}"
    if not path.exists():
        problem = f"{path.parent} holds no run: no {path.name} in it"
        raise ModelError("run", problem, remedy=remedy)
    content = json_of(path, where, remedy)
    table = content.get("config") if isinstance(content, dict) else None
    if not isinstance(table, dict):
        raise ModelError(where, "no table 'config' in it", remedy=remedy)
    return config_of(table, where, remedy)


def config_of(flat: Mapping[str, Any], where: str = "", remedy: str = "") -> TrainConfig:
    """Build a TrainConfig from the fields of a file.

    Messages begin with `where` and end with `remedy`.

    Raises:
        ModelError: A field is unknown, or its value has another type or is out of range.
    """
    place, values = where or "train", {}
    for key, given in flat.items():
        types = FIELD_TYPES[require_known(place, "field", key, FIELD_TYPES)]
        values[key] = _converted(given, types)
        if not _fits(values[key], types):
            accepted = " or ".join(_TYPES[one] for one in types)
            raise wrong(place, key, given, accepted, remedy)
    try:
        return TrainConfig(**values)
    except ModelError as error:
        raise (error.within(where) if where else error) from None


def _converted(value: Any, types: tuple[Any, ...]) -> Any:
    """Convert a value to the type of its field: text to Path, integer to float, list to tuple."""
    value = _tuples(value)
    if isinstance(value, str) and Path in types:
        return Path(value)
    if type(value) is int and tuple in types:
        return (value,)
    if type(value) is int and float in types and abs(value) < 2**53:
        return float(value)
    return value


def _tuples(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_tuples(v) for v in value)
    return {k: _tuples(v) for k, v in value.items()} if isinstance(value, dict) else value


def _fits(value: Any, types: tuple[Any, ...]) -> bool:
    if isinstance(value, tuple):
        return tuple in types and all(type(v) is int for v in value)
    return type(value) in types or (isinstance(value, Path) and Path in types)


# Definition of a run's neuron in its folder, for readers without the file or module of the family.
#
# Without PyTorch, so that `lnm train --resume` reads it before it loads PyTorch.


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
