"""The notebooks of docs/tutorials: their execution and their pages.

    python -m scripts.docs.notebooks [--check] [NAME ...]

A notebook is stored without outputs. This command executes it and writes docs/tutorials/NAME.md.
That page shows printed outputs and, in place of a figure, its alternative text. `make docs`
executes the notebook too, and its page in the site has the figures.

Tags of a cell: the outputs of "measured" depend on the processor or the time and are not compared;
"needs-TOOL" keeps the outputs of the page where TOOL is not on PATH. A notebook runs in an empty
folder. Text to stderr, a warning for example, is an error. The extra `test` installs nbclient and
ipykernel.
"""

from __future__ import annotations

import argparse
import difflib
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nbformat

ROOT = Path(__file__).parents[2]
TUTORIALS = ROOT / "docs" / "tutorials"
MEASURED, NEEDS, SKIP = "measured", "needs-", "skip-execution"
_MATPLOTLIB = "svg.hashsalt: lnm_codegen\nfigure.dpi: 100\nsavefig.facecolor: white\n"
_LIMIT = 900
"""Limit of a cell in seconds."""
_SHELL = "%%bash\n"
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$|^(\*Figure: [^\n]*\*)$", re.DOTALL | re.MULTILINE)
_OUTPUT = re.compile(r"\n\n(?:```text\n.*?^```$|\*Figure: [^\n]*\*$)", re.DOTALL | re.MULTILINE)


class NotebookError(RuntimeError):
    """A cell that writes to stderr or prints a path of this machine."""


def read(path: Path) -> Any:
    """Return a notebook."""
    return nbformat.read(path, as_version=4)


def tags_of(cell: Any) -> list[str]:
    """Return the tags of a cell."""
    return list(cell.metadata.get("tags", []))


def missing_tools(cell: Any) -> list[str]:
    """Return the tools that a cell needs and that are not on PATH."""
    tools = [t.removeprefix(NEEDS) for t in tags_of(cell) if t.startswith(NEEDS)]
    return [tool for tool in tools if shutil.which(tool) is None]


def executed(path: Path) -> Any:
    """Return the notebook with its outputs, in its stable form.

    Raises:
        NotebookError: A cell writes to stderr, or prints a path of this machine.
        nbclient.exceptions.CellExecutionError: A cell raises an exception.
    """
    from nbclient import NotebookClient

    notebook = read(path)
    for cell in notebook.cells:
        if cell.cell_type == "code" and missing_tools(cell):
            cell.metadata["tags"] = [*tags_of(cell), SKIP]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, "notebook")
        folder.mkdir()
        Path(name, "matplotlibrc").write_text(_MATPLOTLIB)
        client = NotebookClient(
            notebook,
            timeout=_LIMIT,
            startup_timeout=_LIMIT,
            kernel_name="python3",
            coalesce_streams=True,
            record_timing=False,
            skip_cells_with_tag=SKIP,
            extra_arguments=["--InlineBackend.figure_formats={'svg'}", "--log-level=ERROR"],
            resources={"metadata": {"path": str(folder)}},
        )
        client.execute(env=_environment(Path(name, "matplotlibrc")))
        notebook = stable(notebook, (name, str(ROOT)))
    cells = _code_cells(notebook)
    if any(map(missing_tools, cells)):
        shown = outputs_of(path.with_suffix(".md").read_text(encoding="utf-8"))
        for cell, text in zip(cells, shown, strict=True):
            if missing_tools(cell):
                cell.outputs = [nbformat.v4.new_output("stream", text=text)]
    return notebook


def _code_cells(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def _environment(settings: Path) -> dict[str, str]:
    programs = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    modules = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]).strip(os.pathsep)
    return os.environ | {
        "PATH": programs,
        "PYTHONPATH": modules,
        "MATPLOTLIBRC": str(settings),
        "COLUMNS": "100",
        "NO_COLOR": "1",
        "TTY_COMPATIBLE": "0",  # no progress bars of rich, to which a kernel looks like a terminal
        "OMP_WAIT_POLICY": "passive",
        "SOURCE_DATE_EPOCH": "0",  # no date in SVG
    }


def _is_note(output: Any) -> bool:
    lines = str(output.get("text", "")).splitlines()
    return output.get("name") == "stderr" and all(line.startswith("note: ") for line in lines)


def stable(notebook: Any, private: Sequence[str] = ()) -> Any:
    """Return the notebook without what changes from run to run, in place.

    Args:
        notebook: An executed notebook.
        private: Paths of this machine, which no output may contain.

    Raises:
        NotebookError: A cell writes to stderr, notes of the command line aside, which are left out;
            or an output has a private path.
    """
    notebook.metadata = nbformat.from_dict(
        {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        }
    )
    count = 0
    for cell in notebook.cells:
        tags = [tag for tag in tags_of(cell) if tag != SKIP]
        kept = {"alt": cell.metadata.get("alt"), "tags": tags}
        cell.metadata = nbformat.from_dict({key: value for key, value in kept.items() if value})
        if cell.cell_type != "code":
            continue
        count += 1
        cell.execution_count = count
        cell.outputs = [output for output in cell.outputs if not _is_note(output)]
        for output in cell.outputs:
            if output.get("name") == "stderr":
                raise NotebookError(f"cell {count}: text on stderr: {output.text}")
            if output.output_type == "execute_result":
                output.execution_count = count
        found = [path for path in private if path in str(cell.outputs)]
        if found:
            raise NotebookError(f"cell {count}: a path of this machine in the output: {found[0]}")
    return notebook


def stored(notebook: Any) -> Any:
    """Return the notebook without outputs, as it is stored, in place."""
    for cell in _code_cells(notebook):
        cell.execution_count, cell.outputs = None, []
    return notebook


def page(notebook: Any, name: str, *, site: bool = False) -> tuple[str, dict[str, str]]:
    """Return the Markdown of a notebook; in the site with figures, by file name."""
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
            if "image/svg+xml" in data and site:
                file = f"{name}-{len(figures) + 1}.svg"
                figures[file] = data["image/svg+xml"]
                parts.append(f"![{cell.metadata.alt}]({file}){{ .figure }}")
            elif "image/svg+xml" in data:
                parts.append(f"*Figure: {cell.metadata.alt}*")
            elif text := output.get("text") or data.get("text/plain"):
                fence = "``` { .text .no-copy .output }" if site else "```text"
                parts.append(f"{fence}\n{text.rstrip()}\n```")
    return "\n\n".join(parts) + "\n", figures


def _code(source: str) -> str:
    language = "sh" if source.startswith(_SHELL) else "python"
    return f"```{language}\n{source.removeprefix(_SHELL)}\n```"


def outputs_of(text: str) -> list[str]:
    """Return the output of each code cell on a page."""
    found: list[str] = []
    for language, content, figure in _BLOCK.findall(text):
        if language in ("python", "sh"):
            found.append("")
        else:
            found[-1] += content or f"{figure}\n"
    return found


def without_outputs(text: str) -> str:
    """Return a page without the outputs of its cells."""
    return _OUTPUT.sub("", text)


def differences(text: str, fresh: Any) -> list[str]:
    """Return a line for each output that differs from a page; a measured one need only exist."""
    found = []
    pairs = zip(outputs_of(text), outputs_of(page(fresh, "")[0]), strict=True)
    for cell, (before, after) in zip(_code_cells(fresh), pairs, strict=True):
        number = cell.execution_count
        if MEASURED in tags_of(cell):
            if bool(before) != bool(after):
                found.append(f"cell {number}: an output is absent")
        elif before != after:
            lines = difflib.ndiff(before.splitlines(), after.splitlines())
            found += [f"cell {number}: {line}" for line in lines if line[0] in "-+"]
    return found


def write_tutorials(target: Path) -> None:
    """Execute each notebook; write its page of the site, and its figures."""
    folder = target / "tutorials"
    folder.mkdir(parents=True, exist_ok=True)
    for path in sorted(TUTORIALS.glob("*.ipynb")):
        text, figures = page(executed(path), path.stem, site=True)
        for name, content in {f"{path.stem}.md": text, **figures}.items():
            (folder / name).write_text(content, encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    """Execute notebooks; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="default: all")
    parser.add_argument("--check", action="store_true", help="compare and write nothing")
    given = parser.parse_args(arguments)
    failed = False
    for name in given.names or sorted(path.stem for path in TUTORIALS.glob("*.ipynb")):
        path = TUTORIALS / f"{name}.ipynb"
        shown, fresh = path.with_suffix(".md"), executed(path)
        if given.check:
            found = differences(shown.read_text(encoding="utf-8"), fresh)
            print(*(f"{name}: {line}" for line in found), sep="\n")
            failed |= bool(found)
        else:
            shown.write_text(page(fresh, name)[0], encoding="utf-8")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
