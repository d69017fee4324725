"""Output of verbs: tables and JSON on standard output, and files written together or not at all."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import typer

from lnm_codegen.backends.base import Source, write_over_earlier
from lnm_codegen.sections import Detail, Lines, Section, Table

# Tables and JSON on standard output: coloured in a terminal, plain and unbroken in a pipe.


_UNBOUNDED = 100_000


def print_sections(sections: Iterable[Section], title: str = "") -> None:
    """Print a title, and each section after an empty line; details are left out."""
    if title:
        typer.secho(title, bold=sys.stdout.isatty() or None)
    for section in sections:
        parts = [part for part in section.parts if not isinstance(part, Detail)]
        if section.title and parts:
            print_heading(section.title)
        for part in parts:
            if isinstance(part, Table):
                print_table(part)
            elif isinstance(part, Lines):
                typer.echo("\n".join(f"  {line}" for line in part.lines))
            elif part:
                typer.echo(part)


def print_table(content: Table) -> None:
    """Print a table that has rows."""
    if not content.rows:
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    terminal = sys.stdout.isatty()
    table = Table(box=None, pad_edge=False, header_style="bold" if terminal else "")
    for k, title in enumerate(content.header):
        side: Any = "right" if content.numbers and k else "left"
        table.add_column(Text(title), justify=side, overflow="fold")
    for row in content.rows:
        table.add_row(*(Text(str(cell)) for cell in row))
    console = Console(
        force_terminal=terminal,
        color_system="auto" if terminal else None,
        width=None if terminal else _UNBOUNDED,
    )
    with console.capture() as shown:
        console.print(table)
    lines = shown.get().splitlines()
    typer.echo("\n".join(lines if terminal else [line.rstrip() for line in lines]))


def print_heading(text: str) -> None:
    """Print the heading of a section after an empty line."""
    typer.echo("")
    typer.secho(text, bold=sys.stdout.isatty() or None)


def print_json(value: object) -> None:
    """Print standard JSON: a number that is not finite becomes null."""
    typer.echo(json_text(value), nl=False)


def json_text(value: object) -> str:
    """Return what `print_json` prints."""
    return json.dumps(_plain(value), indent=2, allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)


# Files of several sources, written together or not at all.


NONE: Mapping[Path, str | bytes] = MappingProxyType({})
"""No further files."""


def write_together(
    sources: Mapping[Path, Source],
    out: Path,
    verb: str = "emit",
    more: Mapping[Path, str | bytes] = NONE,
) -> list[Path]:
    """Write every source below `out`, over files of an earlier emission; nothing else is lost.

    Args:
        sources: Folder below `out` -> its files.
        out: Created if it is missing.
        verb: The command, for messages.
        more: Path below `out` -> text or data of further files.

    Raises:
        ModelError: A file of another origin would be lost, or the folder cannot be written.
        ToolError: The disk is full or fails.
    """
    texts: dict[Path, str | bytes] = {
        folder / name: text
        for folder, source in sources.items()
        for name, text in source.files.items()
    }
    remedy = "Remove it, or give another folder with --out."
    return write_over_earlier(verb, out, texts | dict(more), remedy)
