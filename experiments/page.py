"""Tables of a page that scripts rewrite, and the CSV files behind them.

A table stands between `<!-- KIND: NAME -->` (or `<!-- KIND: NAME against ROW -->`) and
`<!-- end -->`.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from pathlib import Path


def filled(page: str, kind: str, table: Callable[[str, str | None], list[str]]) -> str:
    """Return the text of a page with every table of a kind as `table(name, against)` has it."""

    def one(match: re.Match[str]) -> str:
        lines = table(match["name"], match["against"])
        return "\n".join([match["head"], "", *lines, "", "<!-- end -->"])

    head = rf"(?P<head><!-- {kind}: (?P<name>\w+)(?: against (?P<against>.+?))? -->)"
    return re.sub(head + r".*?<!-- end -->", one, page, flags=re.DOTALL)


def lines_of(path: Path) -> list[dict[str, str]]:
    """Return the lines of a CSV file; none if there is no such file."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
