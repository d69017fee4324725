"""Warnings that point at the user's line."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import warnings
from pathlib import Path

import torch

_SKIPPED = (
    f"{Path(__file__).parents[2]}{os.sep}",
    f"{Path(torch.__file__).parent}{os.sep}",
    contextlib.__file__,
    functools.__file__,
)
"""Folders and files whose frames are not the user's."""

_WARNED: set[str] = set()


def warn(message: str) -> None:
    """Show a RuntimeWarning at the innermost frame outside this package and PyTorch."""
    warnings.warn(message, RuntimeWarning, stacklevel=_user_level())


def warn_once(message: str, subject: str = "") -> None:
    """Show a RuntimeWarning as `warn` does, once in a process.

    Messages with one `subject`, by default the message itself, count as one.
    """
    if (subject or message) not in _WARNED:
        warnings.warn(message, RuntimeWarning, stacklevel=_user_level())
        _WARNED.add(subject or message)  # after it, since a filter may turn it into an error


def _user_level() -> int:
    """Return the stack level of the user's frame for a `warnings.warn` of the caller."""
    level, frame = 1, sys._getframe(1)
    while frame.f_code.co_filename.startswith(_SKIPPED) and frame.f_back is not None:
        level, frame = level + 1, frame.f_back
    return level
