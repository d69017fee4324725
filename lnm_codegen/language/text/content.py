"""The content of a TOML file, and the checks that every kind of value in it goes through.

Every refusal is one line that begins with the file and the key.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NoReturn

from lnm_codegen.errors import ModelError
from lnm_codegen.language.text.tree import shorten
from lnm_codegen.validation import did_you_mean

MAX_BYTES = 65536
"""Size of the largest file that is read."""
_MISSING: Any = object()


def text_of(file: Path) -> str:
    """Return the text of a TOML file, or raise ModelError."""
    try:
        if file.exists() and not file.is_file():
            what = "a directory" if file.is_dir() else "not a regular file"
            raise ModelError(file, str(what), remedy="Give the path of a TOML file.")
        with file.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except ModelError:
        raise
    except FileNotFoundError:
        raise ModelError(file, "no such file", remedy="Give the path of a TOML file.") from None
    except OSError as error:
        raise ModelError(file, f"cannot be read: {error.strerror or error}") from None
    except ValueError as error:  # a null byte in the path
        raise ModelError(f"{str(file)!r}", f"not a path: {error}") from None
    if len(data) > MAX_BYTES:
        raise ModelError(file, f"larger than {MAX_BYTES} bytes, the most that is read")
    try:
        return data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise ModelError(
            file, f"not UTF-8 text (byte {error.start})", remedy="Save the file as UTF-8."
        ) from None


class Content:
    """The tables of one file; `top` are the keys that stand above the first table."""

    def __init__(self, source: str, tables: dict[str, Any], top: tuple[str, ...]) -> None:
        self.source = source
        self.tables = tables
        self._top = top

    def refuse(self, where: str, what: str) -> NoReturn:
        """Raise ModelError: file, place, what is wrong there."""
        raise ModelError(": ".join(filter(None, (self.source, where, what)))) from None

    def located(self, make: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call `make`, putting the file before its errors."""
        try:
            return make(*args, **kwargs)
        except ModelError as error:
            self.refuse("", str(error))

    def keys(self, table: dict[str, Any], where: str, accepted: Iterable[str]) -> None:
        """Refuse a key of `table` that is not accepted."""
        accepted = tuple(accepted)
        for key in table:
            if key in accepted:
                continue
            if where and key in self._top:
                hint = f" Write {key!r}, which belongs to no table, above the first [table] line."
            else:
                hint = did_you_mean(key, accepted)
            self.refuse(
                where,
                f"unknown key {shorten(key)}. Accepted: {', '.join(accepted) or 'none'}.{hint}",
            )

    def get(
        self,
        table: dict[str, Any],
        where: str,
        key: str,
        kind: type,
        accepted: str,
        default: Any = _MISSING,
    ) -> Any:
        """Return the value of a key, of that type; `accepted` says what to give instead."""
        value = table.get(key, default)
        if value is _MISSING:
            self.refuse(joined(where, key), f"missing. Give {accepted}.")
        if value is not default and type(value) is not kind:
            self.refuse(joined(where, key), f"{shorten_value(value)}. Accepted: {accepted}.")
        return value

    def table(self, key: str) -> dict[str, Any]:
        """Return a table of the file, empty where it has none."""
        value: dict[str, Any] = self.get(self.tables, "", key, dict, f"a table, [{key}]", {})
        return value


def shorten_value(value: Any) -> str:
    """Return a TOML value as one line says it."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def is_number(value: Any) -> bool:
    """Say whether a TOML value is a finite number of a sensible size."""
    if type(value) is int:
        return value.bit_length() <= 1000
    return type(value) is float and math.isfinite(value)


def joined(where: str, key: str) -> str:
    """Return `where.key`, the key in quotes where it is no bare key."""
    shown = key if key.isascii() and key.replace("-", "_").isidentifier() else shorten(key)
    return f"{where}.{shown}" if where else shown
