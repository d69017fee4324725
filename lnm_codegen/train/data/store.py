"""Files of a data set, below a folder or in a tar archive, and the errors of unusable files.

An archive is read into memory once and never unpacked to disk, so no name in it matters.
"""

from __future__ import annotations

import io
import lzma
import re
import tarfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, TypeAlias

import torch
from torch import Tensor

from lnm_codegen.errors import LnmError, ToolError, reason
from lnm_codegen.files import unreadable
from lnm_codegen.validation import require_package

AGAIN = "Get the file again."
NAME_IT = "Name such a folder with --data-dir."


def missing(name: str, folder: Path, layouts: Sequence[str], remedy: str = NAME_IT) -> ToolError:
    """Return the error of a folder that holds none of the layouts of set `name`."""
    problem = "holds no files of this set" if folder.exists() else "does not exist"
    return ToolError(f"data: {name}", f"{folder} {problem}", "; ".join(layouts), remedy)


def damaged(path: object, problem: str | Exception, accepted: str = "") -> LnmError:
    """Return the error of a file whose content is wrong, or whose reading raised an exception."""
    if isinstance(problem, Exception):
        return unreadable(path, problem, AGAIN, ToolError)
    return ToolError(path, problem, accepted, AGAIN)


@dataclass(frozen=True)
class Folder:
    """A folder on disk. Paths are relative to `root`, with slashes."""

    root: Path

    def has(self, path: str) -> bool:
        """Report whether there is such a file."""
        return (self.root / path).is_file()

    def read(self, path: str) -> bytes:
        """Return the content of a file."""
        try:
            return (self.root / path).read_bytes()
        except OSError as error:
            raise unreadable(self.root / path, error, kind=ToolError) from None

    def names(self, path: str) -> list[str]:
        """Return the names of files and folders in a folder; none if the folder is absent."""
        place = self.root / path
        try:
            return [entry.name for entry in place.iterdir()] if place.is_dir() else []
        except OSError as error:
            raise unreadable(place, error, kind=ToolError) from None


@dataclass(frozen=True)
class Archive:
    """A tar archive in memory, with the methods of `Folder`."""

    root: Path
    files: Mapping[str, bytes] = field(repr=False)
    folders: Mapping[str, set[str]] = field(repr=False)

    def has(self, path: str) -> bool:
        """Report whether there is such a file."""
        return path in self.files

    def read(self, path: str) -> bytes:
        """Return the content of a file."""
        if path not in self.files:
            raise damaged(self.root / path, "cannot be read: not in the archive")
        return self.files[path]

    def names(self, path: str) -> list[str]:
        """Return the names of files and folders in a folder; none if the folder is absent."""
        return list(self.folders.get(path.rstrip("/"), ()))


Store: TypeAlias = Folder | Archive


def read_archive(path: Path) -> Archive:
    """Return a tar archive, compressed or not.

    Raises:
        ToolError: The file is not a tar archive, is broken, or has a sparse member.
    """
    files: dict[str, bytes] = {}
    folders: dict[str, set[str]] = {}
    try:
        with tarfile.open(path, "r|*") as archive:
            for member in archive:
                if member.issparse():  # a few bytes could claim terabytes
                    raise tarfile.ReadError(f"{member.name} is sparse, which is not accepted")
                content = archive.extractfile(member) if member.isfile() else None
                if content is not None:
                    name = PurePosixPath(member.name)
                    files[str(name)] = content.read()
                    for part in (name, *name.parents[:-1]):
                        folder = str(part.parent) if part.parent.name else ""
                        folders.setdefault(folder, set()).add(part.name)
    except (tarfile.TarError, OSError, ValueError, EOFError, lzma.LZMAError, zlib.error) as error:
        raise damaged(path, f"cannot be read as a tar archive: {reason(error)}") from None
    return Archive(path, files, folders)


def open_stores(path: Path, archives: Sequence[str] = ()) -> Iterator[Store]:
    """Yield the archive `path`; or the folder `path` and those of the archives that it holds."""
    if path.is_file():
        yield read_archive(path)
        return
    yield Folder(path)
    for name in archives:
        if (path / name).is_file():
            yield read_archive(path / name)


def class_files(store: Store, base: str, suffixes: Sequence[str]) -> dict[str, list[str]]:
    """Return the files of each class folder in `base`, sorted by the numbers in their names.

    `base` ends in a slash or is empty, and `suffixes` are in lower case.
    """
    found = {}
    for name in sorted(store.names(base)):
        files = [f for f in store.names(base + name) if PurePosixPath(f).suffix.lower() in suffixes]
        if files:
            found[name] = [f"{base}{name}/{file}" for file in sorted(files, key=_by_number)]
    return found


def unequal_classes(
    root: Path, words: Sequence[str], parts: Sequence[Mapping[str, Any]], accepted: str
) -> ToolError:
    """Return the error of two folders, named by `words`, whose class folders differ."""
    train, test = parts
    only = sorted(set(train) ^ set(test))
    tail = f", and {only[0]!r} is in one of them only" if only else ""
    counts = f"{len(train)} class folders in {words[0]} and {len(test)} in {words[1]}"
    return ToolError(root, counts + tail, accepted)


def interleaved(groups: Sequence[Sequence[str]]) -> tuple[list[str], Tensor]:
    """Return the first file of each class, then the second of each, and so on; and their labels.

    So the first n samples are balanced for any n.
    """
    order = sorted((k, label) for label, files in enumerate(groups) for k in range(len(files)))
    paths = [groups[label][k] for k, label in order]
    return paths, torch.tensor([label for _, label in order], dtype=torch.int64)


def read_image(store: Store, path: str, formats: tuple[str, ...]) -> Any:
    """Return an image file as a Pillow image in RGB.

    Only `formats`, by Pillow's names, are decoded: Pillow would pass EPS to another program.

    Raises:
        ToolError: Pillow is not installed, or the file is no such image.
    """
    require_package("data", "PIL", "Pillow", extra="train")
    from PIL import Image

    try:
        with Image.open(io.BytesIO(store.read(path)), formats=formats) as image:
            return image.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise damaged(store.root / path, f"not an image: {reason(error)}") from None


def _by_number(name: str) -> tuple[list[int], str]:
    return [int(digits) for digits in re.findall(r"\d+", name)], name
