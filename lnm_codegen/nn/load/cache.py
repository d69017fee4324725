"""User's cache folder: compiled code, generated modules, and measurements of this machine.

Where it cannot be used, `anywhere` puts compiled code into a private folder of the user instead.

An entry is a folder whose name has a hash of everything that its content depends on. A binary has
its SHA-256 in a file beside it, so that a truncated or corrupt one counts as absent. Measurements
are one flat JSON object; a missing or broken file counts as empty, and costs time alone.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import linecache
import os
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import platformdirs
from filelock import FileLock

from lnm_codegen.backends.base import Source
from lnm_codegen.errors import ToolError, reason
from lnm_codegen.files import write_whole
from lnm_codegen.nn.load.warn import warn_once

MEASURED = "measured.json"
Loaded = TypeVar("Loaded")
_REMEDY = "Set LNM_CACHE to a folder that can be written."


def cache_folder() -> Path:
    """Return $LNM_CACHE, or this package's folder among the user's caches.

    Raises:
        ToolError: The user has no home folder, and LNM_CACHE is not set.
    """
    named = os.environ.get("LNM_CACHE")
    folder = Path(named or platformdirs.user_cache_dir("lnm_codegen"))
    if not named and not folder.is_absolute():
        raise ToolError("cache", "the user has no home folder for compiled kernels", remedy=_REMEDY)
    return folder


def private_folder() -> Path:
    """Return a folder for temporary files in which nobody but this user can write.

    Raises:
        ToolError: There is none.
    """
    if not hasattr(os, "geteuid"):
        raise ToolError("cache", "this system has no private folder for temporary files")
    with _usable("a private folder for temporary files", "cache"):
        folder = Path(tempfile.gettempdir(), f"lnm_codegen-{os.geteuid()}")
        with suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        found, above = folder.lstat(), folder.parent.stat()
    is_own = stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()
    is_movable = above.st_mode & stat.S_IWOTH and not above.st_mode & stat.S_ISVTX
    if not is_own or found.st_mode & (stat.S_IRWXG | stat.S_IRWXO) or is_movable:
        problem = f"other users can write in {folder}"
        raise ToolError("cache", problem, remedy="Set TMPDIR to a folder of your own.")
    return folder


_ELSEWHERE: dict[Any, Any] = {}
"""Loader and arguments -> its result from the private folder."""


def anywhere(load: Callable[..., Loaded], *arguments: Any) -> Loaded:
    """Return `load(*arguments)`, or load from the private folder where the cache folder fails.

    Warns where that was necessary.

    Args:
        load: Loader, which has an argument `folder`, by default the cache folder.
        arguments: Its other arguments.

    Raises:
        ToolError: Both fail.
    """
    key = (load, arguments)
    if _ELSEWHERE and key in _ELSEWHERE:  # the key's hash takes time
        return _ELSEWHERE[key]  # type: ignore[no-any-return]
    found, error = located(load, *arguments)
    if error is not None:
        _ELSEWHERE[key] = found
        warn_private(error)
    return found


def located(load: Callable[..., Loaded], *arguments: Any) -> tuple[Loaded, ToolError | None]:
    """Return the result of `anywhere`, and why it is not that of the cache folder, if it is not.

    Raises:
        ToolError: Both folders fail.
    """
    try:
        return load(*arguments), None
    except ToolError as error:
        first = error
    try:
        return load(*arguments, folder=private_folder()), first
    except ToolError as second:
        problem = first.problem
        if second.problem != problem:
            problem += f"; and {second.problem}"
        raise type(second)(first.where, problem, first.accepted, first.remedy) from None


def warn_private(error: ToolError) -> None:
    """Warn, once in a process, that an error of the cache folder has led to the private folder."""
    what = f"Kernels are compiled into {private_folder()} instead, which may not last."
    warn_once(f"{error.where}: {error.problem}. {what} {error.remedy}", "private folder")


def usable_cache(where: str, folder: Path | None = None) -> AbstractContextManager[None]:
    """Turn an error of the cache folder, or of another `folder`, into a ToolError that names it."""
    return _usable(f"the cache folder {cache_folder()}" if folder is None else str(folder), where)


@contextmanager
def _usable(what: str, where: str) -> Iterator[None]:
    """Turn an error of a folder into a ToolError.

    Some versions of filelock raise NotImplementedError where the folder has no locks.
    """
    try:
        yield
    except (OSError, NotImplementedError) as error:
        raise ToolError(where, f"cannot use {what}: {reason(error)}", remedy=_REMEDY) from None


def entry(name: str, parts: Iterable[str], folder: Path | None = None) -> Path:
    """Return the path of an entry whose content depends on `parts`, by default in the cache."""
    return (cache_folder() if folder is None else folder) / _key(name, parts)


def _key(name: str, parts: Iterable[str]) -> str:
    return f"{name}-{digest(chr(0).join(parts).encode())[:20]}"


def sound_bytes(path: Path) -> bytes | None:
    """Return a binary of the cache, or None where it or its SHA-256 is missing or wrong."""
    try:
        data = path.read_bytes()
        expected = path.with_suffix(".sha256").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    return data if digest(data) == expected else None


def write_digest(path: Path) -> None:
    """Write the SHA-256 of a binary beside it."""
    write_whole(path.with_suffix(".sha256"), digest(path.read_bytes()))


def digest(data: bytes) -> str:
    """Return the SHA-256 of data in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def import_source(source: Source, where: str, name: str, folder: Path | None = None) -> ModuleType:
    """Import the entry of a generated Python source; a file with other text is rewritten.

    Raises:
        ToolError: The cache folder, or the other `folder`, cannot be used.
    """
    text = source.files[source.entry]
    path = entry(name, [text], folder) / source.entry
    with usable_cache(where, folder):
        if not path.exists() or path.read_bytes() != text.encode():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, text)
    spec = importlib.util.spec_from_file_location(_module_name(path.parent.name), path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def import_text(source: Source, name: str) -> ModuleType:
    """Import the entry of a generated Python source without a file."""
    text = source.files[source.entry]
    key = _key(name, [text])
    path = f"{key}/{source.entry}"
    module = ModuleType(_module_name(key))
    linecache.cache[path] = (len(text), None, text.splitlines(keepends=True), path)
    exec(compile(text, path, "exec"), vars(module))  # it is our own text, as in a file
    return module


def _module_name(key: str) -> str:
    return f"lnm_generated_{key.replace('-', '_')}"


def recall(key: str) -> Any:
    """Return the measurement of a key, or None."""
    return _measurements().get(key)


def remember(key: str, value: Any) -> None:
    """Save a measurement; without effect where the cache folder cannot be written."""
    try:
        folder = cache_folder()
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f"{MEASURED}.lock"):
            found = {**_measurements(), key: value}
            write_whole(folder / MEASURED, json.dumps(found, indent=1, sort_keys=True))
    except (OSError, NotImplementedError, ToolError):
        return


def _measurements() -> dict[str, Any]:
    try:
        found = json.loads((cache_folder() / MEASURED).read_text(encoding="utf-8"))
    except (OSError, ValueError, ToolError):
        return {}
    return found if isinstance(found, dict) else {}


def speed_key(model: str, backend: str, dtype: str, steps: int) -> str:
    """Return the key of the reached fraction of the copy bandwidth."""
    return f"speed {model} {backend} {dtype} T={steps}"
