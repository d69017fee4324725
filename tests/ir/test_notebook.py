"""HTML of programs, sources and explanations in Jupyter."""

from __future__ import annotations

import html
import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

import lnm_codegen as lnm
from lnm_codegen.ir.kernel import folded, preformatted


class Reader(HTMLParser):
    """Collects the tags of a text, and the data in each kind of tag."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.found: dict[str, list[str]] = {}
        self._within = [""]
        self.feed(text)
        self.close()
        assert self._within == [""]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(" ".join([tag, *(key for key, _ in attrs)]))
        self._within.append(tag)
        self.found.setdefault(tag, []).append("")

    def handle_endtag(self, tag: str) -> None:
        assert self._within.pop() == tag

    def handle_data(self, data: str) -> None:
        self.found[self._within[-1]][-1] += data


texts = st.text(st.characters(codec="utf-8", exclude_characters="\r\0", exclude_categories=["Cc"]))


@given(texts, texts, st.booleans())
def test_text_is_escaped(title: str, text: str, is_open: bool) -> None:
    """A browser shows the text itself, whatever it holds."""
    page = Reader(preformatted(text))
    assert (page.tags, page.found["pre"]) == (["pre"], [text])
    page = Reader(folded(title, text, is_open=is_open))
    assert page.tags == ["details open" if is_open else "details", "summary", "pre"]
    assert (page.found["summary"], page.found["pre"]) == ([title], [text])


def test_program() -> None:
    """The kernels as `print` shows them; in fixed point too."""
    for program in (
        lnm.lower(lnm.get("qif", v_min=-1.0)),
        lnm.quantize(lnm.get("lif"), lnm.Fixed(16, 12)),
    ):
        page = program._repr_html_()
        assert Reader(page).found["pre"] == [str(program)]
        assert not re.search(r"<(?!/?pre>)", page)


@pytest.mark.parametrize("backend", ["torch", "c", "cuda"])
def test_source(backend: str) -> None:
    """Each file below its path; the entry is open."""
    source = lnm.emit(lnm.get("lif"), backend)
    page = Reader(source._repr_html_())
    assert page.found["summary"] == list(source.files)
    assert page.found["pre"] == list(source.files.values())
    opened = [tag == "details open" for tag in page.tags if tag.startswith("details")]
    assert opened == [path == source.entry for path in source.files]
    assert html.escape("#include <math.h>") in source._repr_html_() or backend != "c"
