"""Files that an earlier circuit left in the folder of a new one."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path

MANIFEST, REPORT = "manifest.json", "report.json"
"""Files of a circuit: its description, and the results of its verification and synthesis."""


def replaced_files(out: Path, files: Collection[Path]) -> list[Path]:
    """Return the files of earlier circuits below `out` that `files`, the new ones, do not have.

    A circuit of `files` replaces that of the same folder, whose manifest lists its files. The
    report beside a manifest belongs to its circuit.
    """
    found: set[Path] = set()
    for folder in {path.parent for path in files if path.name == MANIFEST}:
        found |= _circuit_files(out / folder)
    return sorted(path for path in found if path.relative_to(out) not in files)


def _circuit_files(folder: Path) -> set[Path]:
    """Return the files of a circuit that are in its folder."""
    try:
        found = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return set()
    if not isinstance(found, dict) or "manifest" not in found:
        return set()  # of another program
    listed = found.get("emitted")
    names = {MANIFEST}
    if isinstance(listed, list):
        names |= {name for name in listed if isinstance(name, str)}
    names |= {str(Path(n).with_name(REPORT)) for n in names if Path(n).name == MANIFEST}
    inside = (n for n in map(Path, names) if not n.is_absolute() and ".." not in n.parts)
    return {folder / name for name in inside if _is_inside(folder / name, folder)}


def _is_inside(path: Path, folder: Path) -> bool:
    """Report whether a file exists whose folder, without links, is in `folder`."""
    try:
        return path.is_file() and path.parent.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError):  # a folder that cannot be searched, a loop of links
        return False
