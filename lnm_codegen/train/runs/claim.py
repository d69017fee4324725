"""Claim of a run folder: whether a new run may use it, and a lock while one run writes."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

from lnm_codegen.errors import LnmError, ModelError
from lnm_codegen.files import unwritable

# Claim of a run folder: one run at a time writes into it.


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


# Folders that a new run may use. Without PyTorch, so that `lnm train` looks before it loads it.


FILES = (
    "config.json", "metrics.csv", "model.safetensors", "history.safetensors",
    "checkpoint.safetensors", "figure.png", "neuron.toml",
)  # fmt: skip
"""Names of the files of a run."""
LOCK = ".lock"
"""Name of the lock of a run that writes into the folder; see `claim`."""
_CHOOSE = "Choose another folder with --out."


def require_free(path: Path, force: bool = False) -> None:
    """Raise ModelError unless a folder is empty or absent; with `force` it may hold files."""
    if is_taken(path) and not force:
        raise ModelError(
            "train",
            f"{path} is not empty",
            remedy="Choose another folder with --out, resume the run in it with --resume, or"
            " replace it with --force.",
        )


def is_taken(path: Path) -> bool:
    """Report whether a folder holds files, other than a lock and those of killed writes of a run.

    Raises:
        ModelError: The path is no folder, or the folder cannot be read.
    """
    require_folder(path)
    try:
        return path.is_dir() and not set(path.iterdir()) <= {*unfinished(path), path / LOCK}
    except OSError as error:
        raise unusable(path, error) from None


def require_folder(path: Path) -> None:
    """Raise ModelError if a path is no folder; it may be absent."""
    try:
        is_other = path.exists() and not path.is_dir()
    except OSError as error:
        raise unusable(path, error) from None
    if is_other:
        remedy = "Choose another with --out."
        raise ModelError("train", f"{path} is not a folder", remedy=remedy)


def unfinished(path: Path) -> list[Path]:
    """Return the temporary files of `write_whole` that killed writes of a run left.

    `tempfile.mkstemp` ends their names with 8 characters; `.config.json.swp` is an editor's.
    """
    return [file for name in FILES for file in path.glob(f".{name}.{'?' * 8}")]


def unusable(path: Path, error: OSError) -> LnmError:
    """Return the error of a folder that the system refuses to read or to write."""
    return unwritable("train", path, error, _CHOOSE)
