"""Sentences of README, CONTRIBUTING and docs/: at most 30 words, in plain terms.

Code, tables, equations and quoted text do not count.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [
    "README.md",
    "CONTRIBUTING.md",
    *sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md")),
]
MOST_WORDS = 30
"""Bound on a sentence. A code span, a link and an equation count as one word each."""

ABBREVIATIONS = ("e.g.", "i.e.", "etc.", "vs.", "cf.", "Fig.", "Eq.", "al.")
FORBIDDEN = re.compile(
    r"\b(ladder|rungs?|climb\w*|room|told|tells|hangs? on|stands? beside|comes? to|is met|hears?"
    r"|has room for|and kin|the same bits|hits|what is (?:none|least)|work of the)\b",
    re.IGNORECASE,
)
"""Metaphors and private words."""


def paragraphs(text: str) -> Iterator[str]:
    """Yield headings, paragraphs and items of a page, each as one line, without code and tables."""
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r"^( *)(```|~~~).*?^\1\2", "", text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"\$\$.*?\$\$", " X. ", text, flags=re.DOTALL)
    item = re.compile(r"^\s*(?:[*+-]|\d+\.)\s+|^#+\s+")
    block: list[str] = []
    for line in [*text.splitlines(), ""]:
        apart = not line.strip() or line.lstrip().startswith(("|", ":::", "![", "<"))
        code = line.startswith("    ") and not block
        if (apart or code or item.match(line)) and block:
            yield " ".join(block)
            block = []
        if not (apart or code):
            block.append(item.sub("", line).strip())


def sentences(text: str) -> Iterator[str]:
    """Yield the sentences of a page."""
    for paragraph in paragraphs(text):
        plain = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", "link", paragraph)
        plain = re.sub(r"`[^`]*`", "code", plain)
        plain = re.sub(r"\$[^$]+\$", "X", plain)
        plain = re.sub(r"\"[^\"]*\"|“[^”]*”", "quote", plain)
        for short in ABBREVIATIONS:
            plain = re.sub(rf"(?<!\w){re.escape(short)}", short.replace(".", ""), plain)
        yield from re.split(r"(?<=[.!?:;])[*)]*\s+(?=[*(]*[A-Z0-9]|code|link|quote|lnm|$)", plain)


def words(sentence: str) -> int:
    return sum(any(c.isalnum() for c in part) for part in sentence.split())


def test_sentences_are_short_and_plain() -> None:
    found = [(p, s) for p in PAGES for s in sentences((ROOT / p).read_text(encoding="utf-8"))]
    assert not [(p, s) for p, s in found if words(s) > MOST_WORDS or FORBIDDEN.search(s)]


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").split()) < 700


def test_a_long_sentence_is_found() -> None:
    """Lists, numbers, abbreviations and code are split and counted as a reader does."""
    text = f"# A head\n\nOne, e.g. 0.5 of it. Two `a. b` here\nwraps.\n\n* {'word ' * 31}end.\n"
    lengths = [words(s) for s in sentences(f"{text}\n```\n{'code ' * 40}\n```\n\n| a | b |\n")]
    assert lengths == [2, 5, 4, 32]


def test_a_private_word_is_found() -> None:
    assert FORBIDDEN.search("It hangs on the size.")
    assert not FORBIDDEN.search("A change of the broom's roomy ladderlike hearing.")
