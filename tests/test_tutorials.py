"""The notebooks of docs/tutorials: their form, their outputs, and their pages."""

from __future__ import annotations

import copy
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("nbformat")
import nbformat

from scripts.docs.notebooks import NotebookError, differences, missing_tools, read, stable, tags_of
from scripts.docs.tutorials import page

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "docs" / "tutorials").glob("*.ipynb"))
MOST_BYTES = 1_500_000
notebooks = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def small(
    text: str = "1\n", tags: tuple[str, ...] = (), stream: str = "stdout"
) -> nbformat.NotebookNode:
    """Return a notebook of one cell that printed a text."""
    output = nbformat.v4.new_output("stream", name=stream, text=text)
    cell = nbformat.v4.new_code_cell("print(1)", outputs=[output], metadata={"tags": list(tags)})
    return nbformat.v4.new_notebook(cells=[cell])


def test_there_are_four_and_they_are_small() -> None:
    assert len(NOTEBOOKS) == 4
    assert sum(path.stat().st_size for path in NOTEBOOKS) < MOST_BYTES


@notebooks
def test_a_notebook_is_committed_as_the_script_writes_it(path: Path) -> None:
    """Every cell ran, in order, from an empty folder; figures have an alternative text."""
    notebook = read(path)
    written = nbformat.writes(stable(copy.deepcopy(notebook), (str(ROOT), "/home/", "/tmp/")))
    assert path.read_text(encoding="utf-8") == written + "\n"
    for cell in notebook.cells:
        if any("image/svg+xml" in output.get("data", {}) for output in cell.get("outputs", [])):
            assert len(cell.metadata.alt) > 20
        else:
            assert "alt" not in cell.metadata
    measured = sum("measured" in tags_of(cell) for cell in notebook.cells)
    outputs = sum(bool(cell.get("outputs")) for cell in notebook.cells)
    assert outputs >= measured + 2


@notebooks
def test_the_page_of_a_notebook_has_its_outputs(path: Path) -> None:
    """A block for each code cell and each printed text, and a file for each figure."""
    notebook = read(path)
    text, figures = page(notebook, path.stem)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    drawn = [output for output in outputs if "image/svg+xml" in output.get("data", {})]
    cells = sum(cell.cell_type == "code" for cell in notebook.cells)
    assert text.startswith("# ")
    assert not re.search(r"^%%", text, re.M)
    assert len(re.findall(r"^```", text, re.M)) == 2 * (cells + len(outputs) - len(drawn))
    assert re.findall(r"\((\S+\.svg)\)", text) == list(figures)
    assert len(figures) == len(drawn)
    assert all("<svg" in figure for figure in figures.values())


def test_outputs_are_compared() -> None:
    """Texts must be equal; a measured output must exist."""
    assert not differences(small(), small())
    assert differences(small(), small("2\n")) == ["cell 1: - 1", "cell 1: + 2"]
    measured = small(tags=("measured",))
    assert not differences(measured, small("2\n"))
    empty = small()
    empty.cells[0].outputs = []
    assert differences(measured, empty) == ["cell 1: an output is absent"]


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
def test_a_notebook_has_its_outputs_again(path: Path) -> None:
    """A run in an empty folder prints what is committed, but for measured outputs."""
    for package in ("nbclient", "ipykernel", "matplotlib", "mnist1d", "onnxscript", "nir"):
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
