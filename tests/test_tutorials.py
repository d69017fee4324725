"""The notebooks of docs/tutorials: their form, their pages, and their execution."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("nbformat")
import nbformat

from scripts.docs.notebooks import (
    NotebookError,
    differences,
    missing_tools,
    outputs_of,
    page,
    read,
    stable,
    stored,
    tags_of,
    without_outputs,
)

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "docs" / "tutorials").glob("*.ipynb"))
notebooks = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def small(
    text: str = "1\n", tags: tuple[str, ...] = (), stream: str = "stdout"
) -> nbformat.NotebookNode:
    """Return a notebook of one cell that printed a text."""
    output = nbformat.v4.new_output("stream", name=stream, text=text)
    cell = nbformat.v4.new_code_cell("print(1)", outputs=[output], metadata={"tags": list(tags)})
    return nbformat.v4.new_notebook(cells=[cell])


def test_there_are_four() -> None:
    assert len(NOTEBOOKS) == 4


@notebooks
def test_a_notebook_is_stored_without_outputs(path: Path) -> None:
    """A cell with an alternative text draws a figure, which its page names."""
    notebook = read(path)
    written = nbformat.writes(stored(stable(copy.deepcopy(notebook))))
    assert path.read_text(encoding="utf-8") == written + "\n"
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    shown = outputs_of(path.with_suffix(".md").read_text(encoding="utf-8"))
    for cell, text in zip(cells, shown, strict=True):
        figures = [line for line in text.splitlines() if line.startswith("*Figure: ")]
        alt = cell.metadata.get("alt")
        assert figures == ([f"*Figure: {alt}*"] if alt else [])
        assert alt is None or len(alt) > 20
        assert text or not tags_of(cell)
    assert sum(map(bool, shown)) >= 5


@notebooks
def test_the_page_of_a_notebook_has_its_cells(path: Path) -> None:
    """The page without its outputs is the notebook."""
    text = path.with_suffix(".md").read_text(encoding="utf-8")
    assert text.startswith("# ")
    assert without_outputs(text) == page(read(path), path.stem)[0]


def test_every_page_has_its_notebook() -> None:
    pages = (ROOT / "docs" / "tutorials").glob("*.md")
    assert sorted(pages) == [path.with_suffix(".md") for path in NOTEBOOKS]


def test_a_page_shows_the_outputs_of_its_cells() -> None:
    """Text in a block; a figure as its alternative text, in the site as a file."""
    drawn = nbformat.v4.new_output("display_data", {"image/svg+xml": "<svg/>", "text/plain": "F"})
    figure = nbformat.v4.new_code_cell("plot()", outputs=[drawn], metadata={"alt": "A line"})
    shell = nbformat.v4.new_code_cell("%%bash\nls\n")
    head = nbformat.v4.new_markdown_cell("# Title")
    cells = [head, small().cells[0], shell, figure]
    notebook = stable(nbformat.v4.new_notebook(cells=cells))
    text, figures = page(notebook, "name")
    assert outputs_of(text) == ["1\n", "", "*Figure: A line*\n"]
    assert "```sh\nls\n```" in text.replace("ls\n\n", "ls\n")
    assert not figures
    text, figures = page(notebook, "name", site=True)
    assert figures == {"name-1.svg": "<svg/>"}
    assert "![A line](name-1.svg){ .figure }" in text
    assert without_outputs(page(notebook, "name")[0]) == page(stored(notebook), "name")[0]


def shown(notebook: nbformat.NotebookNode) -> str:
    """Return the page of a notebook."""
    return page(stable(notebook), "name")[0]


def test_outputs_are_compared() -> None:
    """Texts must be equal; a measured output must exist."""
    assert not differences(shown(small()), small())
    fresh = stable(small("2\n"))
    assert differences(shown(small()), fresh) == ["cell 1: - 1", "cell 1: + 2"]
    assert not differences(shown(small()), small(tags=("measured",), text="2\n"))
    empty = small(tags=("measured",))
    empty.cells[0].outputs = []
    assert differences(shown(small()), stable(empty)) == ["cell 1: an output is absent"]


def test_warnings_and_paths_are_refused() -> None:
    with pytest.raises(NotebookError, match="cell 1: text on stderr: hm"):
        stable(small("hm", stream="stderr"))
    with pytest.raises(NotebookError, match="a path of this machine in the output: /somewhere"):
        stable(small("/somewhere/file"), ("/somewhere",))


def test_a_cell_names_its_tools() -> None:
    cell = small(tags=("measured", "needs-sh", "needs-no_such_tool")).cells[0]
    assert missing_tools(cell) == ["no_such_tool"]


@pytest.mark.slow
@pytest.mark.timeout(1800)
@notebooks
def test_a_notebook_prints_what_its_page_shows(path: Path) -> None:
    """A run in an empty folder prints what the page shows, but for measured outputs."""
    for package in ("nbclient", "ipykernel", "matplotlib", "mnist1d"):
        pytest.importorskip(package)
    if path.stem == "spikingjelly":
        pytest.importorskip("spikingjelly.activation_based", exc_type=ImportError)
    done = subprocess.run(
        [sys.executable, "-m", "scripts.docs.notebooks", "--check", path.stem],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
