"""Files of several sources, written together or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from lnm_codegen.backends.base import Source
from lnm_codegen.backends.earlier import write_over_earlier

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
