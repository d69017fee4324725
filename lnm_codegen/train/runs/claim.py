"""Claim of a run folder: one run at a time writes into it."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

from lnm_codegen.errors import ModelError
from lnm_codegen.train.runs.free import LOCK, require_folder, unusable

_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}
"""Errors of `flock` on a file system without locks, such as NFS without its daemon."""


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Make a run folder and hold its lock; at the end, delete the lock and folders left empty.

    A file system without locks is used without one, or with a file that a killed run leaves.

    Raises:
        ModelError: Another run holds the lock, or the folder cannot be made.
    """
    require_folder(folder)
    lock = FileLock(folder / LOCK, timeout=0)
    try:
        made = [place for place in (folder, *folder.parents) if not place.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        _acquire(lock)
    except Timeout:
        remedy = f"Wait until it ends. If none is running, delete {folder / LOCK}."
        raise ModelError("train", f"another run is writing into {folder}", remedy=remedy) from None
    except OSError as error:
        raise unusable(folder, error) from None
    try:
        yield
    finally:
        with suppress(OSError):  # the folder was deleted meanwhile, or is read-only now
            (folder / LOCK).unlink()  # before the release: afterwards it may be another run's
        lock.release()
        with suppress(OSError):  # it is not empty
            for place in made:
                place.rmdir()


def _acquire(lock: BaseFileLock) -> None:
    """Acquire a lock, unless the file system has none."""
    try:
        lock.acquire()
    except NotImplementedError:
        pass
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
