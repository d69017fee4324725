"""Sections of a report: text, tables and figures, which a terminal or an HTML page renders."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias


@dataclass(frozen=True)
class Table:
    """Header and rows; with `numbers`, every column but the first is right-aligned.

    The caption is its name for screen readers.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[object]]
    caption: str = ""
    numbers: bool = False


@dataclass(frozen=True)
class Lines:
    """Lines of a formula or a program."""

    lines: Sequence[str]


@dataclass(frozen=True)
class Panel:
    """A figure: its alternative text, and the function of axes that draws it and sets its title."""

    text: str
    draw: Callable[[Any], None]


@dataclass(frozen=True)
class Detail:
    """Parts that a page has and a terminal leaves out.

    Attributes:
        parts: Paragraphs, lines and tables.
        panels: Figures, in a grid before them.
        where: Subject of the figures, which ends their alternative texts.
    """

    parts: Sequence[Part] = ()
    panels: Sequence[Panel] = ()
    where: str = ""


Part: TypeAlias = str | Table | Lines | Detail
"""A text is a paragraph; an empty one, and a table without rows, is left out."""


@dataclass(frozen=True)
class Section:
    """A section: its heading, or "" without one, and its parts."""

    title: str
    parts: Sequence[Part]
