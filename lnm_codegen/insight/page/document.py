"""Parts of a page: the document, its sections, tables and figures. Every text is escaped here."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lnm_codegen.backends.render import render
from lnm_codegen.insight.page.svg import inline_svg
from lnm_codegen.insight.panels import Panel, panel_figure
from lnm_codegen.insight.tables import Table

_LONG = 26
"""Characters of a cell that is not broken into lines."""
_NUMBER = re.compile(r"-|[-+]?[\d,.]+(e[-+]?\d+)?( %)?")


@dataclass(frozen=True)
class Section:
    """A section: the anchor and text of its heading, and its content as HTML."""

    anchor: str
    title: str
    content: str


def document(
    title: str, kind: str, summary: Iterable[tuple[str, str]], sections: Sequence[Section]
) -> str:
    """Return a page.

    Args:
        title: Its title.
        kind: A few words on what it describes.
        summary: Titles and texts of the lines of the summary.
        sections: The sections, first to last.
    """
    view = {
        "title": html.escape(title),
        "kind": html.escape(kind),
        "summary": tuple((html.escape(name), html.escape(text)) for name, text in summary),
        "sections": tuple((s.anchor, html.escape(s.title), s.content) for s in sections),
    }
    return render("report/page.html.j2", view)


def paragraphs(texts: Iterable[str]) -> str:
    """Return a paragraph for each text that is not empty."""
    return "\n".join(f"<p>{html.escape(text)}</p>" for text in texts if text)


def lines(texts: Iterable[str]) -> str:
    """Return texts as a block of code, a line each."""
    return f'<pre tabindex="0">{html.escape(chr(10).join(texts))}</pre>'


def table(content: Table, caption: str) -> str:
    """Return a table in a box that scrolls.

    Args:
        content: The cells.
        caption: Name of the table, for screen readers.
    """
    columns = list(zip(*content.rows, strict=True))
    numbers = [all(not cell or _NUMBER.fullmatch(cell) for cell in column) for column in columns]
    kinds = [' class="number"' if number else "" for number in numbers]
    rows = tuple(
        tuple(
            (html.escape(cell), kind or (' class="long"' if len(cell) > _LONG else ""))
            for cell, kind in zip(row, kinds, strict=True)
        )
        for row in content.rows
    )
    words = (html.escape(word) for word in content.header)
    header = tuple(zip(words, kinds or [""] * len(content.header), strict=True))
    view = {"header": header, "rows": rows, "caption": html.escape(caption)}
    return render("report/table.html.j2", view)


def figures(panels: Iterable[Panel], prefix: str, where: str) -> str:
    """Return a grid of figures.

    Args:
        panels: The figures.
        prefix: Begins their identifiers; different for each grid of a page.
        where: Subject of the figures, which ends their alternative texts.
    """
    found = []
    for k, panel in enumerate(panels):
        title, figure = panel_figure(panel)
        svg = inline_svg(figure, f"{panel.text}. {where}", f"{prefix}-{k}-")
        found.append((svg, html.escape(title)))
    return render("report/figures.html.j2", {"figures": tuple(found)})
