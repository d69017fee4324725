"""Text to Python's own tree: which characters, how many, and what is said of the rest."""

from __future__ import annotations

import ast
import string
import warnings
from collections.abc import Callable
from typing import NoReturn

MAX_LENGTH = 4000
_CHARACTERS = frozenset(string.ascii_letters + string.digits + "_ +-*/()[],.<>=!&|~^%@:")


def tree_of(text: str, refuse: Callable[[str], NoReturn], accepted: str) -> ast.expr:
    """Return the tree of an expression, without a look at what stands in it.

    Args:
        text: In one line.
        refuse: Raises, with what is wrong.
        accepted: The sentence that ends such a message.
    """
    if not text:
        refuse(f"the expression is empty. {accepted}")
    if len(text) > MAX_LENGTH:
        refuse(f"{len(text)} characters. Accepted: at most {MAX_LENGTH}.")
    for character in text:
        if character not in _CHARACTERS:
            refuse(
                f"the character {character!r} in {shorten(text)} is not of the grammar. {accepted}"
            )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # "1or v": a SyntaxError of later Pythons
            return ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        refuse(f"{shorten(text)} is not an expression. {accepted}")


def shorten(text: str, limit: int = 60) -> str:
    """Return `text` in quotes, escaped, its end cut off where it is long."""
    return repr(text if len(text) <= limit else f"{text[: limit - 3]}...")
