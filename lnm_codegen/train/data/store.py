"""Files by name below a folder, or in a tar archive: what the loaders of local data read from.

An archive is read into memory once and never unpacked to disk, so no name in it matters.
"""

from __future__ import annotations

import lzma
import re
import tarfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Protocol

import torch
from torch import Tensor

from lnm_codegen.errors import ToolError


class Store(Protocol):
    """Files by their path below a root, written with slashes."""

    @property
    def root(self) -> Path:
        """Where it is, for messages."""

    def has(self, path: str) -> bool:
        """Say whether there is such a file."""

    def read(self, path: str) -> bytes:
        """Return what a file holds."""

    def names(self, path: str) -> list[str]:
        """Return the names of files and folders in a folder; none where there is no such folder."""


@dataclass(frozen=True)
class Folder:
    """A folder on disk."""

    root: Path

    def has(self, path: str) -> bool:
        """Say whether there is such a file."""
        return (self.root / path).is_file()

    def read(self, path: str) -> bytes:
        """Return what a file holds."""
        try:
            return (self.root / path).read_bytes()
        except OSError as error:
            raise ToolError(
                self.root / path, f"cannot be read: {error.strerror or error}"
            ) from None

    def names(self, path: str) -> list[str]:
        """Return the names in a folder."""
        place = self.root / path
        try:
            return [entry.name for entry in place.iterdir()] if place.is_dir() else []
        except OSError as error:
            raise ToolError(place, f"cannot be read: {error.strerror or error}") from None


@dataclass(frozen=True)
class Archive:
    """A tar archive, whole in memory."""

    root: Path
    files: Mapping[str, bytes] = field(repr=False)
    folders: Mapping[str, set[str]] = field(repr=False)

    def has(self, path: str) -> bool:
        """Say whether there is such a file."""
        return path in self.files

    def read(self, path: str) -> bytes:
        """Return what a file holds."""
        if path not in self.files:
            raise ToolError(self.root / path, "cannot be read: not in the archive")
        return self.files[path]

    def names(self, path: str) -> list[str]:
        """Return the names in a folder."""
        return list(self.folders.get(path.rstrip("/"), ()))


def read_archive(path: Path) -> Archive:
    """Return a tar archive, compressed or not.

    Raises:
        ToolError: It is none, or broken.
    """
    files: dict[str, bytes] = {}
    folders: dict[str, set[str]] = {}
    try:
        with tarfile.open(path, "r|*") as archive:
            for member in archive:
                if member.issparse():  # a few bytes could say that it holds terabytes
                    raise tarfile.ReadError(f"{member.name} is sparse, which is not accepted")
                content = archive.extractfile(member) if member.isfile() else None
                if content is not None:
                    name = PurePosixPath(member.name)
                    files[str(name)] = content.read()
                    for part in (name, *name.parents[:-1]):
                        folder = str(part.parent) if part.parent.name else ""
                        folders.setdefault(folder, set()).add(part.name)
    except (tarfile.TarError, OSError, ValueError, EOFError, lzma.LZMAError, zlib.error) as error:
        said = " ".join(str(error).split()).rstrip(".")
        raise ToolError(
            path, f"cannot be read as a tar archive: {said}", remedy="Get it again."
        ) from None
    return Archive(path, files, folders)


def open_stores(path: Path, archives: Sequence[str] = ()) -> Iterator[Store]:
    """Yield where to look: the archive that `path` is, or the folder and then archives in it.

    Args:
        path: What the user named.
        archives: Names of archives to look for in the folder.
    """
    if path.is_file():
        yield read_archive(path)
        return
    yield Folder(path)
    for name in archives:
        if (path / name).is_file():
            yield read_archive(path / name)


def class_files(store: Store, base: str, suffixes: Sequence[str]) -> dict[str, list[str]]:
    """Return the files of each class folder in `base`, sorted by the numbers in their names.

    Args:
        store: Where.
        base: The folder that holds a folder per class; ends in a slash, or is empty.
        suffixes: Of the files wanted, in lower case.
    """
    found = {}
    for name in sorted(store.names(base)):
        files = [f for f in store.names(base + name) if PurePosixPath(f).suffix.lower() in suffixes]
        if files:
            found[name] = [f"{base}{name}/{file}" for file in sorted(files, key=_by_number)]
    return found


def interleaved(groups: Sequence[Sequence[str]]) -> tuple[list[str], Tensor]:
    """Return the first file of each class, then the second of each, and so on; and their labels.

    So the first n, of whatever n, are balanced.
    """
    places = sorted((k, label) for label, files in enumerate(groups) for k in range(len(files)))
    paths = [groups[label][k] for k, label in places]
    return paths, torch.tensor([label for _, label in places], dtype=torch.int64)


def _by_number(name: str) -> tuple[list[int], str]:
    return [int(digits) for digits in re.findall(r"\d+", name)], name
