"""Layout of generated Python: lines of at most 100 columns, tuples, names."""

from __future__ import annotations

import keyword
import textwrap
from collections.abc import Sequence

from lnm_codegen.ir.declarations import Param


def call(
    targets: Sequence[str], function: str, arguments: Sequence[str], indent: int = 0
) -> tuple[str, ...]:
    """Return `a, b = function(c, d)` as lines of at most 100 columns, `indent` included."""
    given = ", ".join(targets)
    line = f"{given} = {function}({', '.join(arguments)})"
    if len(line) + indent <= 100:
        return (line,)
    head: tuple[str, ...] = (f"{given} = {function}(",)
    if len(head[0]) + indent > 100:
        head = ("(", *filled(targets, indent + 4), f") = {function}(")
    return (*head, *filled(arguments, indent + 4), ")")


def filled(words: Sequence[str], indent: int) -> tuple[str, ...]:
    """Return words between commas as lines, indented by four columns.

    Lines have at most 100 columns, `indent` included.
    """
    whole = ", ".join(word.replace(" ", "\0") for word in words) + ","
    wrapped = textwrap.wrap(whole, 100 - indent, break_long_words=False, break_on_hyphens=False)
    return tuple("    " + line.replace("\0", " ") for line in wrapped)


def enclosed(head: str, words: Sequence[str], tail: str = "", indent: int = 0) -> tuple[str, ...]:
    """Return `head a, b tail` as one line, or as several lines in parentheses."""
    line = f"{head}{', '.join(words)}{tail}"
    if len(line) + indent <= 100:
        return (line,)
    opened, closed = (head, tail) if head.endswith("(") else (f"{head}(", f"){tail}")
    return (opened, *filled(words, indent + 4), closed)


def tuple_text(words: Sequence[str]) -> str:
    """Return words as a Python tuple."""
    return f"({', '.join(words)}{',' if len(words) == 1 else ''})"


def shape_text(p: Param, channels: str, inner: str) -> str:
    """Return the shape of a parameter in words; `channels` and `inner` name the axes."""
    rows = {"layer": (), "channel": (channels,), "neuron": (channels, inner)}[p.per]
    shape = (*rows, str(p.size)) if p.size is not None else rows
    text = tuple_text(shape) if shape else "A number"
    return text if p.learnable else f"{text}; has no gradient"


def function_name(name: str) -> str:
    """Return the name of a neuron's function: `if_` for a keyword of Python."""
    return f"{name}_" if keyword.iskeyword(name) else name
