"""Docstrings of families as Markdown: text, equations, and a description of each argument."""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass

from scripts.docs.tables import escaped

_PHASE = re.compile(r"(charge|fire|reset|output) {2,}")
_ARGUMENT = re.compile(r" {4}(\w+): (.*)")
_ARXIV = re.compile(r"arXiv (\d{4}\.\d{4,5})")
_GITHUB = re.compile(r"\b(github\.com/[\w-]+/[\w-]+)")


@dataclass(frozen=True)
class Part:
    """One form of a family: `title` names the argument that selects it, empty for the first."""

    title: str
    summary: str
    body: str
    arguments: dict[str, str]


def parts_of(text: str) -> list[Part]:
    """Return the forms that a docstring, as `inspect.getdoc` returns it, describes."""
    pieces = re.split(r"^With (\w+=.+):\n\n(?=\S.*\.\n)", text, flags=re.MULTILINE)
    titles = ["", *pieces[1::2]]
    return [_part(title, piece) for title, piece in zip(titles, pieces[::2], strict=True)]


def _part(title: str, text: str) -> Part:
    described, _, arguments = text.partition("\nArgs:\n")
    summary, _, body = described.strip().partition("\n")
    return Part(title, linked(summary), markdown(body), _arguments(arguments))


def markdown(text: str) -> str:
    """Return paragraphs as Markdown; indented paragraphs and phases become blocks of code."""
    blocks: list[str] = []
    for paragraph in re.split(r"\n\s*\n", text.strip("\n")):
        lines = paragraph.rstrip()
        if not lines:
            continue
        if lines[0] == " " or _PHASE.match(lines):
            blocks.append(f"```text\n{textwrap.dedent(lines)}\n```")
        else:
            blocks.append(linked(lines))
    return "\n\n".join(blocks)


def linked(text: str) -> str:
    """Return escaped text with links for its arXiv numbers and repositories."""
    plain = _ARXIV.sub(r"[arXiv \1](https://arxiv.org/abs/\1)", escaped(text))
    return _GITHUB.sub(r"[\1](https://\1)", plain)


def _arguments(section: str) -> dict[str, str]:
    """Return argument -> description; a deeper indented line continues the one above."""
    found: dict[str, str] = {}
    name = ""
    for line in section.splitlines():
        if match := _ARGUMENT.fullmatch(line):
            name, found[match[1]] = match[1], match[2]
        elif line.startswith(" " * 8) and name:
            found[name] += f" {line.strip()}"
        elif line.strip():
            break
    return {key: linked(value) for key, value in found.items()}
