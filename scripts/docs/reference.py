"""Generated reference pages: the command line, and the tables of an experiment file."""

from __future__ import annotations

import importlib
import inspect
import types
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

import typer

from lnm_codegen import cli
from lnm_codegen.train.runs.config import OPTIONS, TrainConfig
from scripts.docs.tables import code, escaped, table


def write_reference(target: Path) -> None:
    """Write the pages to target/reference."""
    folder = target / "reference"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cli.md").write_text(command_line(), encoding="utf-8")
    (folder / "experiment-file.md").write_text(experiment_file(), encoding="utf-8")


def command_line() -> str:
    """Return the page of the command `lnm`, a section for each verb."""
    group: Any = typer.main.get_command(cli.app)
    context = group.make_context("lnm", [], resilient_parsing=True)
    blocks = [
        "# Command line",
        inspect.cleandoc(group.help),
        "Exit status 0 is success. 2 is a mistake in the call, 1 any other failure, and 3 a"
        " `verify` that lacks a tool or a `quantize` that misses its target."
        " `--debug` prints the traceback of an error.",
    ]
    for verb in cli.VERBS:
        command = group.get_command(context, verb)
        module, function = cli.VERBS[verb].split(":")
        text = inspect.getdoc(getattr(importlib.import_module(module), function)) or ""
        own = command.make_context(verb, [], parent=context, resilient_parsing=True)
        usage = own.get_usage().removeprefix("Usage: ")
        rows = [_row(parameter, own) for parameter in command.params]
        blocks += [
            f"## `lnm {verb}`",
            escaped(text.partition("\nRaises:")[0].partition("\nOptions:")[0].strip()),
            f"```text\n{' '.join(usage.split())}\n```",
            table(["option", "meaning"], [row for row in rows if row]),
        ]
    return "\n\n".join(blocks) + "\n"


def _row(parameter: Any, context: Any) -> list[str]:
    """Return the name and the help of an option or argument; nothing for a hidden one."""
    record = parameter.get_help_record(context)
    if record is None:
        return []
    name, text = record
    return [" ".join(f"`{part}`" for part in name.split(", ")), escaped(" ".join(text.split()))]


TITLES = {
    "neuron": "`family` names the neuron. Every other key is an argument of the family.",
    "network": "`name` names the network. Every other key is an option of the network"
    " ([networks](../networks.md)).",
    "data": "`name` names the data set. Every other key is an option of the set"
    " ([data](../data.md)).",
    "train": "Each key is a field of `lnm_codegen.train.TrainConfig`.",
}
"""Table of an experiment file -> its description."""


def experiment_file() -> str:
    """Return the page of `lnm train --config`, a section for each table."""
    hints = get_type_hints(TrainConfig)
    rows: dict[str, list[list[str]]] = {name: [] for name in TITLES}
    for field in fields(TrainConfig):
        option = OPTIONS[field.name]
        key = option.key or field.name
        if key == "*":
            continue
        kind = _kind(hints[field.name])
        row = [code(key), kind, code(_default(field)), escaped(option.help)]
        rows[option.table].append(row)
    blocks = [
        "# Experiment file",
        "`lnm train --config FILE` reads a TOML file of four tables. [Training](../training.md) has"
        " an example and the run folder. A neuron of its own has another file:"
        " [definitions](../definitions.md).",
    ]
    for name, text in TITLES.items():
        header = ["key", "type", "default", "meaning"]
        blocks += [f"## `[{name}]`", text, table(header, rows[name])]
    return "\n\n".join(blocks) + "\n"


def _default(field: Field[Any]) -> object:
    value = field.default_factory() if field.default is MISSING else field.default  # type: ignore[misc]
    return str(value).lower() if value is None or isinstance(value, bool) else value


def _kind(hint: Any) -> str:
    if get_origin(hint) in (types.UnionType, Union):
        return " or ".join(_kind(one) for one in get_args(hint))
    if hint is type(None):
        return "none"
    if get_origin(hint) is tuple:
        return "list of integers"
    names = {int: "integer", float: "number", str: "string", bool: "boolean", Path: "path"}
    return names.get(hint, str(hint))
