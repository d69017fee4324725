"""HTML of programs, sources and explanations in Jupyter."""

from __future__ import annotations

import html
import re
from html.parser import HTMLParser

from hypothesis import given, settings
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


@settings(max_examples=25)
@given(texts, texts, st.booleans())
def test_text_is_escaped(title: str, text: str, is_open: bool) -> None:
    """A browser shows the text itself, whatever it holds."""
    page = Reader(preformatted(text))
    assert (page.tags, page.found["pre"]) == (["pre"], [text])
    page = Reader(folded(title, text, is_open=is_open))
    assert page.tags == ["details open" if is_open else "details", "summary", "pre"]
    assert (page.found["summary"], page.found["pre"]) == ([title], [text])


def test_programs_and_sources() -> None:
    """The kernels as `print` shows them; each file of a source below its path, the entry open."""
    lif = lnm.get("lif")
    qif = lnm.lower(lnm.get("qif", v_min=-1.0))
    for program in (qif, lnm.quantize(lif, lnm.Fixed(16, 12))):
        page = program._repr_html_()
        assert Reader(page).found["pre"] == [str(program)]
        assert not re.search(r"<(?!/?pre>)", page)
    for backend in ("torch", "c", "cuda"):
        source = lnm.emit(lif, backend)
        page = Reader(source._repr_html_())
        assert page.found["summary"] == list(source.files)
        assert page.found["pre"] == list(source.files.values())
        opened = [tag == "details open" for tag in page.tags if tag.startswith("details")]
        assert opened == [path == source.entry for path in source.files]
        assert html.escape("#include <math.h>") in source._repr_html_() or backend != "c"
