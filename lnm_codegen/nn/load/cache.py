"""User's cache folder: compiled code, generated modules, and measurements of this machine.

An entry is a folder whose name has a hash of everything that its content depends on. A binary has
its SHA-256 in a file beside it, so that a truncated or corrupt one counts as absent. Measurements
are one flat JSON object; a missing or broken file counts as empty, and costs time alone.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import platformdirs
from filelock import FileLock

from lnm_codegen.backends.base import Source
from lnm_codegen.errors import ToolError, reason
from lnm_codegen.files import write_whole

MEASURED = "measured.json"


def cache_folder() -> Path:
    """Return $LNM_CACHE, or this package's folder among the user's caches."""
    return Path(os.environ.get("LNM_CACHE") or platformdirs.user_cache_dir("lnm_codegen"))


@contextmanager
def usable_cache(where: str) -> Iterator[None]:
    """Turn an error of the cache folder into a ToolError that names it.

    Some versions of filelock raise NotImplementedError where the folder has no locks.
    """
    try:
        yield
    except (OSError, NotImplementedError) as error:
        raise ToolError(
            where,
            f"cannot use the cache folder {cache_folder()}: {reason(error)}",
            remedy="Set LNM_CACHE to a folder that can be written.",
        ) from None


def entry(name: str, parts: Iterable[str]) -> Path:
    """Return the folder of an entry whose content depends on `parts`."""
    return cache_folder() / f"{name}-{digest(chr(0).join(parts).encode())[:20]}"


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


def import_source(source: Source, where: str, name: str) -> ModuleType:
    """Import the entry of a generated Python source; a file with other text is rewritten.

    Raises:
        ToolError: The cache folder cannot be used.
    """
    text = source.files[source.entry]
    folder = entry(name, [text])
    path = folder / source.entry
    with usable_cache(where):
        if not path.exists() or path.read_bytes() != text.encode():
            folder.mkdir(parents=True, exist_ok=True)
            write_whole(path, text)
    module_name = f"lnm_generated_{folder.name.replace('-', '_')}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def recall(key: str) -> Any:
    """Return the measurement of a key, or None."""
    return _measurements().get(key)


def remember(key: str, value: Any) -> None:
    """Save a measurement; without effect where the cache folder cannot be written."""
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f"{MEASURED}.lock"):
            found = {**_measurements(), key: value}
            write_whole(folder / MEASURED, json.dumps(found, indent=1, sort_keys=True))
    except (OSError, NotImplementedError):
        return


def _measurements() -> dict[str, Any]:
    try:
        found = json.loads((cache_folder() / MEASURED).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def speed_key(model: str, backend: str, dtype: str, steps: int) -> str:
    """Return the key of the reached fraction of the copy bandwidth."""
    return f"speed {model} {backend} {dtype} T={steps}"
