"""Pages of the notebooks in docs/tutorials, with their kept outputs, in build/docs/tutorials.

Nothing is executed: `scripts.docs.notebooks` writes the outputs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from scripts.docs.notebooks import TUTORIALS, read

_SHELL = "%%bash\n"


def write_tutorials(target: Path) -> None:
    """Write a page for each notebook, and its figures."""
    for path in sorted(TUTORIALS.glob("*.ipynb")):
        text, figures = page(read(path), path.stem)
        for name, content in {f"{path.stem}.md": text, **figures}.items():
            file = target / "tutorials" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content, encoding="utf-8")


def page(notebook: Any, name: str) -> tuple[str, dict[str, str]]:
    """Return the Markdown of a notebook, and its figures by file name."""
    parts: list[str] = []
    figures: dict[str, str] = {}
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            parts.append(cell.source)
            if len(parts) == 1:
                parts.append(f'<a href="{name}.ipynb" download>Download this notebook</a>')
            continue
        parts.append(_code(cell.source))
        for output in cell.outputs:
            data = output.get("data", {})
            if svg := data.get("image/svg+xml"):
                file = f"{name}-{len(figures) + 1}.svg"
                figures[file] = svg
                parts.append(f"![{cell.metadata.alt}]({file}){{ .figure }}")
            elif text := output.get("text") or data.get("text/plain"):
                parts.append(f"``` {{ .text .no-copy .output }}\n{text.rstrip()}\n```")
    return "\n\n".join(parts) + "\n", figures


def _code(source: str) -> str:
    language = "sh" if source.startswith(_SHELL) else "python"
    return f"```{language}\n{source.removeprefix(_SHELL)}\n```"
