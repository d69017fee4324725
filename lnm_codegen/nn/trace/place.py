"""Place of an error: the line of the user's file that runs while a function is traced."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from lnm_codegen.errors import ModelError

LIBRARIES = ("lnm_codegen", "math", "norse", "numpy", "snntorch", "spikingjelly", "torch")
"""Packages whose functions a traced function may call. Their lines are no place of an error."""
_HERE = str(Path(__file__).parent)


def is_library(module: Any) -> bool:
    """Report whether the name of a module is that of a library."""
    return str(module).partition(".")[0] in LIBRARIES


def user_line() -> str:
    """Return "file.py:12", the innermost line outside the libraries on the call stack."""
    frame = sys._getframe(1)
    while frame.f_back is not None:
        file = frame.f_code.co_filename
        if not (file.startswith(_HERE) or is_library(frame.f_globals.get("__name__", ""))):
            break
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


def refusal(problem: str, accepted: str = "", remedy: str = "") -> ModelError:
    """Return the error of an operation, at the user's line."""
    return ModelError(user_line(), problem, accepted, remedy)
