"""Content of a TOML file, with validation of its keys and values.

Every error is one line that begins with the file and the key.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NoReturn, TypeAlias

from lnm_codegen.errors import ModelError
from lnm_codegen.validation import did_you_mean, shown

Table: TypeAlias = dict[str, Any]
_MISSING: Any = object()


class Content:
    """The tables of one file; `top` are the keys that belong above the first table."""

    def __init__(self, source: str, tables: Table, top: tuple[str, ...]) -> None:
        self.source = source
        self.tables = tables
        self._top = top

    def refuse(
        self, where: str, problem: str, accepted: str | Iterable[str] = "", remedy: str = ""
    ) -> NoReturn:
        """Raise ModelError; the message begins with the file."""
        place = f"{self.source}: {where}" if where else self.source
        raise ModelError(place, problem, accepted, remedy) from None

    def refuse_value(
        self, where: str, value: Any, accepted: str | Iterable[str], remedy: str = ""
    ) -> NoReturn:
        """Raise ModelError for a value that is not accepted."""
        self.refuse(where, f"the value is {shown(value)}", accepted, remedy)

    def with_source(self, make: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call `make`; its errors begin with the file."""
        try:
            return make(*args, **kwargs)
        except ModelError as error:
            raise error.within(self.source) from None

    def require_keys(self, table: Table, where: str, accepted: Iterable[str]) -> None:
        """Raise ModelError unless every key of `table` is accepted."""
        known = list(accepted)
        for key in table:
            if key not in known:
                remedy = did_you_mean(key, known)
                if where and key in self._top:
                    remedy = f"Write {key!r} above the first [table] line; it belongs to no table."
                self.refuse(where, f"unknown key {shown(key)}", known or "none", remedy)

    def get(
        self, table: Table, where: str, key: str, kind: type, accepted: str, default: Any = _MISSING
    ) -> Any:
        """Return the value of a key, of type `kind`. The error lists `accepted`."""
        value = table.get(key, default)
        if value is _MISSING:
            self.refuse(joined(where, key), "missing", accepted)
        if value is not default and type(value) is not kind:
            self.refuse_value(joined(where, key), value, accepted)
        return value

    def table(self, key: str, each: str = "") -> Table:
        """Return a table of the file, or an empty one; one of tables, for each state, say."""
        accepted = f"a table [{key}.NAME] for each {each}" if each else f"a table, [{key}]"
        value: Table = self.get(self.tables, "", key, dict, accepted, {})
        return value


def joined(where: str, key: str) -> str:
    """Return `where.key`, the key in quotes unless it is a bare key."""
    word = key if key.isascii() and key.replace("-", "_").isidentifier() else shown(key)
    return f"{where}.{word}" if where else word
