"""Files of several sources, written together or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType

from lnm_codegen.backends.base import Source
from lnm_codegen.errors import ModelError
from lnm_codegen.files import remove_files, replaced_files, unwritable, write_whole

NONE: Mapping[Path, str | bytes] = MappingProxyType({})
"""No further files."""


def write_together(
    sources: Mapping[Path, Source],
    out: Path,
    verb: str = "emit",
    more: Mapping[Path, str | bytes] = NONE,
) -> list[Path]:
    """Write every source below `out`, after all files are complete in a staging folder.

    A circuit replaces an earlier one, as in `Source.write`.

    Args:
        sources: Folder below `out` -> its files.
        out: Created if it is missing.
        verb: The command, for messages.
        more: Path below `out` -> text or data of further files.

    Raises:
        ModelError: The folder cannot be written. No file and no new folder remains.
        ToolError: The disk is full or fails. No file and no new folder remains.
    """
    made: list[Path] = []
    try:
        _make(out, made)
        with tempfile.TemporaryDirectory(dir=out, prefix=".lnm-") as staging:
            texts: dict[Path, str | bytes] = {
                folder / name: text
                for folder, source in sources.items()
                for name, text in source.files.items()
            }
            texts.update(more)
            for path, text in texts.items():
                (Path(staging) / path).parent.mkdir(parents=True, exist_ok=True)
                write_whole(Path(staging) / path, text)
            for path in texts:
                _make((out / path).parent, made)
                if (out / path).is_dir():
                    raise ModelError(
                        verb,
                        f"cannot write {out / path}: it is a folder",
                        remedy="Remove it, or give another folder with --out.",
                    )
            replaced = [
                path
                for folder, source in sources.items()
                for path in replaced_files(out / folder, source.files)
                if path.relative_to(out) not in texts
            ]
            for path in texts:
                os.replace(Path(staging) / path, out / path)
            remove_files(replaced)
    except BaseException as error:
        for folder in reversed(made):
            with suppress(OSError):  # it is not empty
                folder.rmdir()
        if isinstance(error, OSError):
            raise unwritable(verb, out, error) from None
        raise
    return [out / path for path in texts]


def _make(folder: Path, made: list[Path]) -> None:
    """Create a folder and its parents, and add the new ones to `made`."""
    for place in reversed((folder, *folder.parents)):
        if not place.exists():
            place.mkdir(exist_ok=True)
            made.append(place)
