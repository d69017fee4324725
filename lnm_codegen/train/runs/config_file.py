"""A `TrainConfig` from a TOML file, or from the config.json of a run folder.

    [neuron]    family, and what the family is called with
    [network]   name, and its options
    [data]      name, folder, limit, validation, augment, and further options of the set
    [train]     every other field of TrainConfig

The word "none" stands for None, which TOML cannot write. Nothing of either file is executed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from lnm_codegen.errors import ModelError
from lnm_codegen.files import toml_of
from lnm_codegen.train.runs.config import PATHS, TrainConfig, takes_clamp
from lnm_codegen.validation import did_you_mean

TABLES: Mapping[str, dict[str, str]] = {
    "neuron": {"family": "family", "v_min": "v_min"},
    "network": {"name": "network"},
    "data": {
        "name": "data", "folder": "data_dir", "limit": "limit", "validation": "validation",
        "augment": "augment",
    },
    "train": {},
}  # fmt: skip
"""Key of each table -> field; [train] has every field that no other table has."""

_REST = {"neuron": "arguments", "network": "network_arguments", "data": "data_arguments"}
_HINTS = get_type_hints(TrainConfig)
_FIELDS = tuple(f.name for f in fields(TrainConfig))
_ELSEWHERE = {f for known in TABLES.values() for f in known.values()} | set(_REST.values())
TRAIN_KEYS = tuple(f for f in _FIELDS if f not in _ELSEWHERE)
"""What [train] and `lnm train --train` take."""


def read_toml(path: Path) -> TrainConfig:
    """Return the config of an experiment file.

    Raises:
        ModelError: No such file, no TOML, or a key or value that is not accepted; the message
            names file, table and key.
    """
    content = toml_of(path)
    for key, table in content.items():
        if key not in TABLES or not isinstance(table, dict):
            raise ModelError(
                path,
                f"{key!r} is no table that is read",
                "[neuron], [network], [data], [train]",
                did_you_mean(key, TABLES),
            )
    flat: dict[str, Any] = {}
    for name, table in content.items():
        known = TABLES[name] or {f: f for f in TRAIN_KEYS}
        for key, value in table.items():
            if key in known:
                flat[known[key]] = _none(value)
            elif name in _REST:
                flat.setdefault(_REST[name], {})[key] = _none(value)
            else:
                raise ModelError(
                    f"{path}: train",
                    f"unknown key {key!r}",
                    ", ".join(sorted(known)),
                    did_you_mean(key, known),
                )
    if "v_min" in flat and not takes_clamp(flat.get("family", TrainConfig.family)):
        if flat["v_min"] is not None:  # a family that takes none says so
            flat.setdefault("arguments", {})["v_min"] = flat["v_min"]
    return config_of(flat, str(path))


def read_json(path: Path, remedy: str) -> TrainConfig:
    """Return the config of a config.json; see `read_toml`.

    Args:
        path: The file.
        remedy: Ends each message.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        if isinstance(error, FileNotFoundError):
            raise ModelError(
                "run", f"{path.parent} holds no run: no {path.name} in it", remedy=remedy
            ) from None
        raise ModelError(
            f"run: {path}", f"cannot be read: {error.strerror or error}", remedy=remedy
        ) from None
    except (ValueError, RecursionError) as error:
        said = " ".join(str(error).split())
        raise ModelError(f"run: {path}", f"not JSON: {said}", remedy=remedy) from None
    table = content.get("config") if isinstance(content, dict) else None
    if not isinstance(table, dict):
        raise ModelError(f"run: {path}", "no table 'config' in it", remedy=remedy)
    return config_of(table, f"run: {path}", remedy)


def config_of(flat: Mapping[str, Any], where: str, remedy: str = "") -> TrainConfig:
    """Return the config of fields as a file holds them.

    Raises:
        ModelError: An unknown field, one of another type, or what TrainConfig refuses; `where`
            begins the message.
    """
    begin = f"{where}: " if where else ""
    known: dict[str, Any] = {}
    for key, value in flat.items():
        if key not in _FIELDS:
            raise ModelError(
                f"{begin}unknown key {key!r} in 'config'. Accepted: {', '.join(_FIELDS)}."
                f"{did_you_mean(key, _FIELDS)}"
            )
        made = _plain(value)
        if key in PATHS and isinstance(made, str):
            made = Path(made)
        if _HINTS[key] == tuple[int, ...] | None and type(made) is int:
            made = (made,)
        if isinstance(made, int) and _HINTS[key] in (float, float | None) and made is not True:
            made = float(made) if abs(made) < 2**53 else made
        if not _fits(made, _HINTS[key]):
            said = f" {remedy}" if remedy else f" Accepted: {_kind(_HINTS[key])}."
            raise ModelError(f"{begin}{key!r} is {_shown(value)}, of the wrong type.{said}")
        known[key] = made
    try:
        return TrainConfig(**known)
    except ModelError as error:
        raise ModelError(f"{begin}{error}") from None


def _plain(value: Any) -> Any:
    """Return a value as Python wrote it: JSON and TOML have lists where there were tuples."""
    if isinstance(value, list):
        return tuple(_plain(v) for v in value)
    return {k: _plain(v) for k, v in value.items()} if isinstance(value, dict) else value


def _none(value: Any) -> Any:
    return None if value == "none" else value


def _fits(value: Any, hint: Any) -> bool:
    if isinstance(hint, UnionType):
        return any(_fits(value, one) for one in get_args(hint))
    if get_origin(hint) is tuple:
        return isinstance(value, tuple) and all(type(v) is int for v in value)
    kind = get_origin(hint) or hint
    if kind is Path:
        return isinstance(value, Path)
    return type(value) is kind


def _kind(hint: Any) -> str:
    if isinstance(hint, UnionType):
        return " or ".join(_kind(one) for one in get_args(hint))
    words = {str: "text", int: "an integer", float: "a number", bool: "true or false"}
    words |= {type(None): '"none"', Path: "a path"}
    return words.get(hint, "a list of integers" if get_origin(hint) is tuple else "a table")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
