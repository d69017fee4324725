"""What was measured on this machine, kept in the user's cache folder: speeds and launch sizes.

One JSON file, a flat object. It is read where it can be and written whole; a missing or broken one
counts as empty, so that nothing but time hangs on it.
"""

from __future__ import annotations

import json
from typing import Any

from filelock import FileLock

from lnm_codegen.files import write_whole
from lnm_codegen.nn.load.c import cache_folder

NAME = "measured.json"


def recall(key: str) -> Any:
    """Return what was kept under a key, or None."""
    return _all().get(key)


def keep(key: str, value: Any) -> None:
    """Keep a value; where the cache folder cannot be written, forget it."""
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f"{NAME}.lock"):
            found = {**_all(), key: value}
            write_whole(folder / NAME, json.dumps(found, indent=1, sort_keys=True))
    except OSError:
        return


def _all() -> dict[str, Any]:
    try:
        found = json.loads((cache_folder() / NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def speed_key(model: str, backend: str, dtype: str, steps: int) -> str:
    """Return the key of a fraction of the copy bandwidth."""
    return f"speed {model} {backend} {dtype} T={steps}"
