"""Text of an object as HTML, for Jupyter's `_repr_html_`."""

from __future__ import annotations

import html


def preformatted(text: str) -> str:
    """Return `text` as HTML that keeps its lines and spaces."""
    return f"<pre>{html.escape(text)}</pre>"


def folded(title: str, text: str, *, is_open: bool = False) -> str:
    """Return `text` as HTML below a title; a click on the title shows or hides the text."""
    state = " open" if is_open else ""
    return f"<details{state}><summary>{html.escape(title)}</summary>{preformatted(text)}</details>"
