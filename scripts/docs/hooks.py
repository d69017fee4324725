"""Hooks of MkDocs: generated pages, links out of docs/, and scripts where a page needs them.

MkDocs imports this file: run `python -m mkdocs build` in the root of the repository.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

from scripts.docs.links import ROOT_PAGES, adapted

ROOT = Path(__file__).parents[2]
GENERATED = ROOT / "build" / "docs"
_KATEX = """<link rel="stylesheet" href="{root}/assets/katex/katex.min.css">
<script defer src="{root}/assets/katex/katex.min.js"></script>
<script defer src="{root}/assets/math.js"></script>
"""
_MERMAID = '<script src="{root}/assets/mermaid/mermaid.min.js"></script>\n'


def on_config(config: Any) -> Any:
    """Put the pages of the families into the navigation."""
    if not (GENERATED / "families" / "index.md").is_file():
        raise PluginError("build/docs is absent. Run `make docs`.")
    names = [p.stem for p in (GENERATED / "families").glob("*.md") if p.stem != "index"]
    pages = ["families/index.md", *({n: f"families/{n}.md"} for n in sorted(names))]
    config.nav = [{"Families": pages} if "Families" in entry else entry for entry in config.nav]
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add the files of build/docs and the pages of the root.

    A page of build/docs replaces that of docs/: those of the tutorials have figures.
    """
    for path in sorted(p for p in GENERATED.rglob("*") if p.is_file()):
        name = path.relative_to(GENERATED).as_posix()
        if (page := files.get_file_from_path(name)) is not None:
            files.remove(page)
        files.append(File.generated(config, name, abs_src_path=str(path)))
    for name in ROOT_PAGES:
        files.append(File.generated(config, name, abs_src_path=str(ROOT / name)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Adapt the links of a page."""
    return adapted(markdown, page.file.src_uri, config.repo_url)


def on_post_page(output: str, page: Any, config: Any) -> str:
    """Load KaTeX on pages with equations and Mermaid on pages with diagrams."""
    depth = page.file.dest_uri.count("/")
    root = "/".join([".."] * depth) or "."
    wanted = [(_KATEX, 'class="arithmatex"'), (_MERMAID, 'class="mermaid"')]
    scripts = "".join(text.format(root=root) for text, mark in wanted if mark in output)
    return output.replace("</head>", f"{scripts}</head>", 1)
