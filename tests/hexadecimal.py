"""Words of files for `$readmemh`."""

from __future__ import annotations


def words_of(text: str) -> list[str]:
    """Return the words of a file of hexadecimal lines, without its comments."""
    return [line for line in text.splitlines() if not line.startswith("//")]
