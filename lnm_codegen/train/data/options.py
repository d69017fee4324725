"""The checks that loaders share: an option out of range, a folder that lacks its files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lnm_codegen.errors import ModelError, ToolError


def check_choice(name: str, word: str, value: Any, accepted: Sequence[Any]) -> None:
    """Raise ModelError unless option `word` of set `name` is one of `accepted`, type and all."""
    if not any(type(value) is type(one) and value == one for one in accepted):
        listed = ", ".join(repr(one) for one in accepted)
        raise ModelError(f"data: {name}", f"{word} is {value!r}", listed)


def check_count(name: str, word: str, value: Any, low: int = 1, high: int = 2**31) -> None:
    """Raise ModelError unless option `word` of set `name` is an integer from low to high."""
    if type(value) is not int or not low <= value <= high:
        said = f">= {low}" if high == 2**31 else f"from {low} to {high}"
        raise ModelError(f"data: {name}", f"{word} is {value!r}", f"an integer {said}")


def check_number(name: str, word: str, value: Any, low: float, high: float) -> None:
    """Raise ModelError unless option `word` of set `name` is a number in (low, high]."""
    if type(value) not in (int, float) or not low < value <= high:
        raise ModelError(
            f"data: {name}", f"{word} is {value!r}", f"a number above {low:g}, up to {high:g}"
        )


def missing(name: str, folder: Path, layouts: Sequence[str], remedy: str) -> ToolError:
    """Return the error of a folder that holds none of the layouts that were looked for."""
    there = "holds none of its layouts" if folder.exists() else "does not exist"
    return ToolError(
        f"data: {name}", f"{folder} {there}", remedy=f"Looked for {'; '.join(layouts)}. {remedy}"
    )
