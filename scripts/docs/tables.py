"""Tables and inline code in Markdown."""

from __future__ import annotations

import re
from collections.abc import Sequence


def code(value: object) -> str:
    """Return a value as inline code; a number as `%g` writes it."""
    text = f"{value:g}" if type(value) is float else str(value)
    return f"`{text}`" if text else ""


def table(header: Sequence[str], rows: Sequence[Sequence[str]], numbers: bool = False) -> str:
    """Return a table; with `numbers`, every column but the first is aligned right."""
    rule = [":---", *(["---:" if numbers else ":---"] * (len(header) - 1))]
    lines = [header, rule, *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def escaped(text: str) -> str:
    """Return text in which nothing but inline code is Markdown, and a table's cell does not end."""

    def plain(found: re.Match[str]) -> str:
        return found[1] or ("&lt;" if found[2] == "<" else f"\\{found[2]}")

    return re.sub(r"(`[^`]*`)|([*_\[\]<|])", plain, text)
