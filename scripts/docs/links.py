"""Links of Markdown pages: in the repository relative to the file, in the site to its pages.

A link to a file that is no page of the site goes to the code
host; without one its text remains.
"""

from __future__ import annotations

import posixpath
import re

ROOT_PAGES = ("CHANGELOG.md", "CONTRIBUTING.md")
"""Pages of the repository's root that the site has too."""

MOVED = {"lnm_codegen/families": "docs/families/index.md"}
"""Paths of the repository that have a generated page in the site."""

_LINK = re.compile(r"(?<!!)\[([^\]]+)\]\((?!https?:|#)([^)\s#]+)(#[^)\s]*)?\)")
_FENCE = re.compile(r"^( *)(```+).*?^\1\2[^\S\n]*$", re.DOTALL | re.MULTILINE)


def adapted(markdown: str, name: str, repository: str | None) -> str:
    """Return a page whose relative links are those of the site; code blocks stay as they are.

    Args:
        markdown: The page.
        name: The page's path in the site.
        repository: Address of the code host, or None.
    """
    parts, end = [], 0
    for fence in _FENCE.finditer(markdown):
        parts += [_adapted(markdown[end : fence.start()], name, repository), fence[0]]
        end = fence.end()
    return "".join([*parts, _adapted(markdown[end:], name, repository)])


def _adapted(text: str, name: str, repository: str | None) -> str:
    source = name if name in ROOT_PAGES else f"docs/{name}"

    def link(match: re.Match[str]) -> str:
        label, target, anchor = match[1], match[2], match[3] or ""
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        path = MOVED.get(path, path)
        if path in ROOT_PAGES or path.startswith("docs/"):
            relative = posixpath.relpath(path.removeprefix("docs/"), posixpath.dirname(name) or ".")
            return f"[{label}]({relative}{anchor})"
        return f"[{label}]({repository.rstrip('/')}/blob/main/{path})" if repository else label

    return _LINK.sub(link, text)
