"""Files: whole writes, TOML, JSON, and the errors of paths that cannot be read or written."""

from __future__ import annotations

import errno
import json
import os
import tempfile
import tomllib
import zipfile
import zlib
from collections import Counter
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from lnm_codegen.errors import LnmError, ModelError, ToolError, reason

MAX_BYTES = 65536
"""Size of the largest TOML file or text that is read."""
DAMAGED_ARRAYS = (
    ValueError, KeyError, IndexError, TypeError, AttributeError, EOFError, MemoryError,
    RuntimeError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
"""Exceptions of `numpy.load` and its archives on bytes that are no such file, or a damaged one."""
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EIO)


def write_whole(path: Path, data: str | bytes) -> None:
    """Write `data`, text as UTF-8, to a temporary file beside `path` and rename it.

    No reader ever sees half a file.
    """
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data.encode() if isinstance(data, str) else data)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_all(
    where: str,
    out: Path,
    files: Mapping[Path, str | bytes],
    remedy: str,
    replaced: Collection[Path] = (),
) -> list[Path]:
    """Write every file below `out`, after all are complete in a staging folder there.

    After an error, no new file and no new folder remains, unless a rename fails after another one.

    Args:
        where: Beginning of messages.
        out: Created if it is missing.
        files: Path below `out` -> text or data.
        remedy: Advice where a folder has the name of a file.
        replaced: Files to remove once all are written, with the folders that are then empty.

    Raises:
        ModelError: The folder cannot be written.
        ToolError: The disk is full or fails.
    """
    made: list[Path] = []
    try:
        _make(out, made)
        with tempfile.TemporaryDirectory(dir=out, prefix=".lnm-") as staging:
            for path, data in files.items():
                (Path(staging) / path).parent.mkdir(parents=True, exist_ok=True)
                write_whole(Path(staging) / path, data)
            for path in files:
                _make((out / path).parent, made)
                if (out / path).is_dir():
                    problem = f"cannot write {out / path}: it is a folder"
                    raise ModelError(where, problem, remedy=remedy)
                if not os.access((out / path).parent, os.W_OK):
                    raise unwritable(where, out / path, PermissionError(errno.EACCES, ""))
            for path in files:
                os.replace(Path(staging) / path, out / path)
            remove_files(replaced)
    except BaseException as error:
        for folder in reversed(made):
            with suppress(OSError):  # it is not empty
                folder.rmdir()
        if isinstance(error, OSError | ValueError) and not isinstance(error, LnmError):
            raise unwritable(where, out, error) from None
        raise
    return [out / path for path in files]


def _make(folder: Path, made: list[Path]) -> None:
    """Create a folder and its parents, and add the new ones to `made`."""
    for place in reversed((folder, *folder.parents)):
        if not place.exists():
            place.mkdir(exist_ok=True)
            made.append(place)
    if not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))


def remove_files(paths: Collection[Path]) -> None:
    """Remove files, and the folders that are empty without them."""
    for path in paths:
        path.unlink(missing_ok=True)
        for folder in path.parents:
            if any(folder.iterdir()):
                break
            folder.rmdir()


def toml_of(file: Path) -> dict[str, Any]:
    """Return the content of a TOML file.

    Raises:
        ModelError: The file cannot be read, is larger than `MAX_BYTES`, or is not TOML.
    """
    remedy = "Give the path of a TOML file."
    try:
        if file.exists() and not file.is_file():
            kind = "a directory" if file.is_dir() else "not a regular file"
            raise ModelError(file, kind, remedy=remedy)
        with file.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except ModelError:
        raise
    except FileNotFoundError:
        raise ModelError(file, "no such file", remedy=remedy) from None
    except OSError as error:
        raise unreadable(file, error, remedy) from None
    except ValueError as error:  # a null byte in the path
        raise ModelError(repr(str(file)), f"not a path: {reason(error)}", remedy=remedy) from None
    if len(data) > MAX_BYTES:
        raise ModelError(file, "the file is too large", f"at most {MAX_BYTES} bytes")
    try:
        text = data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        problem = f"not UTF-8 text (byte {error.start})"
        raise ModelError(file, problem, remedy="Save the file as UTF-8.") from None
    return parse_toml(text, str(file))


def parse_toml(text: str, where: str) -> dict[str, Any]:
    """Return the content of a TOML text; errors begin with `where`."""
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # an integer of 5000 digits, nested arrays
        raise ModelError(where, f"not TOML: {reason(error)}") from None


def json_of(file: Path, where: str, remedy: str = "", *, finite: bool = False) -> Any:
    """Return the content of a JSON file, as `parse_json` does.

    Raises:
        ModelError: The file cannot be read, or is not JSON.
    """
    return parse_json(text_of(file, where, remedy), where, remedy, finite=finite)


def text_of(file: Path, where: str, remedy: str = "") -> str:
    """Return a UTF-8 text; errors begin with `where` and end with `remedy`.

    Raises:
        ModelError: The file cannot be read, or is not UTF-8.
    """
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        problem = f"not UTF-8 text (byte {error.start})"
        raise ModelError(where, problem, remedy=remedy) from None
    except OSError as error:
        raise unreadable(where, error, remedy) from None


def parse_json(text: str, where: str, remedy: str = "", *, finite: bool = False) -> Any:
    """Return the content of a JSON text; errors begin with `where` and end with `remedy`.

    An object that has a key twice is refused. NaN and Infinity are refused where the content must
    be `finite`.
    """

    def distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        for key, number in Counter(key for key, _ in pairs).items():
            if number > 1:
                raise ModelError(where, f"the key {key!r} occurs twice in an object", remedy=remedy)
        return dict(pairs)

    def constant(word: str) -> float:
        if finite:
            raise ValueError(f"it holds {word}")
        return float(word)

    try:
        return json.loads(text, object_pairs_hook=distinct, parse_constant=constant)
    except ModelError:
        raise
    except RecursionError:
        raise ModelError(where, "not JSON: nested too deep", remedy=remedy) from None
    except ValueError as error:  # also an integer of 5000 digits
        raise ModelError(where, f"not JSON: {reason(error)}", remedy=remedy) from None


def unwritable(
    where: str,
    path: object,
    error: OSError | ValueError,
    remedy: str = "Give a folder that can be written.",
) -> LnmError:
    """Return the error of a path that cannot be written.

    A full or failing disk is a ToolError. Anything else is a ModelError of whoever named the path.
    """
    problem = f"cannot write {path}: {_why(error)}"
    if getattr(error, "errno", None) in _DISK:
        return ToolError(where, problem, remedy="Free disk space, or use another disk.")
    return ModelError(where, problem, remedy=remedy)


def unreadable(
    path: object, error: Exception, remedy: str = "", kind: type[LnmError] = ModelError
) -> LnmError:
    """Return the error, of class `kind`, of a file or folder that cannot be read."""
    return kind(path, f"cannot be read: {_why(error)}", remedy=remedy)


def _why(error: Exception) -> str:
    number = getattr(error, "errno", None)
    return os.strerror(number) if number else reason(error)
