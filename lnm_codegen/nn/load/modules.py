"""Generated Python, imported from a file in the user's cache folder."""

from __future__ import annotations

import hashlib
import importlib.util
from types import ModuleType

from lnm_codegen.backends.base import Source
from lnm_codegen.errors import ToolError
from lnm_codegen.files import write_whole
from lnm_codegen.nn.load.c import cache_folder


def import_source(source: Source, backend: str, name: str) -> ModuleType:
    """Import the entry of a generated source; its file in the cache is compared in whole before.

    Raises:
        ToolError: The cache folder cannot be used.
    """
    text = source.files[source.entry]
    key = hashlib.sha256(text.encode()).hexdigest()[:20]
    path = cache_folder() / f"{name}-{key}" / source.entry
    try:
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, text)
    except OSError as error:
        raise ToolError(
            backend,
            f"cannot use the cache folder {cache_folder()}: {error.strerror or error}",
            remedy="Set LNM_CACHE to a folder that can be written.",
        ) from None
    spec = importlib.util.spec_from_file_location(f"lnm_generated_{name}_{key}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
