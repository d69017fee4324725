"""Files: whole writes, and the errors of paths that cannot be read or written."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

from lnm_codegen.errors import LnmError, ModelError, ToolError, reason

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
        return ToolError(where, problem, remedy="Make room, or use another disk.")
    return ModelError(where, problem, remedy=remedy)


def unreadable(
    path: object, error: Exception, remedy: str = "", kind: type[LnmError] = ModelError
) -> LnmError:
    """Return the error, of class `kind`, of a file or folder that cannot be read."""
    return kind(path, f"cannot be read: {_why(error)}", remedy=remedy)


def _why(error: Exception) -> str:
    number = getattr(error, "errno", None)
    return os.strerror(number) if number else reason(error)
