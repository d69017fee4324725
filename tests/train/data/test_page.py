"""docs/data.md names every set and every option, with its default, and its code runs."""

from __future__ import annotations

import ast
import inspect
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lnm_codegen.train.data.load import SETS
from lnm_codegen.train.models import MODELS
from lnm_codegen.train.names import DATASETS, NETWORKS

PAGE = (Path(__file__).parents[3] / "docs" / "data.md").read_text(encoding="utf-8")


def row(heading: str, name: str) -> str:
    part = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    found = [line for line in part.splitlines() if line.startswith(f"| `{name}` |")]
    assert len(found) == 1, name
    return found[0]


@pytest.mark.parametrize("name", SETS)
def test_every_set_and_option_is_on_the_page(name: str) -> None:
    row("What there is", name)
    parameters = inspect.signature(SETS[name]).parameters
    options = {k: v.default for k, v in parameters.items() if k not in ("folder", "limit")}
    text = row("Options", name) if options else ""
    for word, default in options.items():
        shown = f'"{default}"' if isinstance(default, str) else default
        assert f"`{word}={shown}`" in text


NEEDED = {
    "from sklearn": "scikit-learn: the extra `train`",
    "from scipy": "SciPy: the extra `train`",
    "read_image(": "Pillow: the extra `train`",
    "from mnist1d": "the extra `data`",
    'find_spec("aeon")': "aeon",
}
"""Text of the code of a set -> words of the page for the package that it imports."""


def source_of(load: Callable[..., Any]) -> str:
    """Return the text of a function, and of what it reads of its module, directly or not."""
    module = sys.modules[load.__module__]
    parts = {
        name.id if isinstance(name, ast.Name) else name.name: node
        for node in ast.parse(inspect.getsource(module)).body
        for name in (node.targets if isinstance(node, ast.Assign) else [node])
        if isinstance(name, ast.Name | ast.FunctionDef | ast.ClassDef)
    }
    found: dict[str, str] = {}
    left = [load.__name__]
    while left:
        name = left.pop()
        if name in parts and name not in found:
            found[name] = ast.unparse(parts[name]).replace("'", '"')
            left += [n.id for n in ast.walk(parts[name]) if isinstance(n, ast.Name)]
    return "\n".join(found.values())


@pytest.mark.parametrize("name", SETS)
def test_every_set_has_the_packages_that_it_imports(name: str) -> None:
    source = source_of(SETS[name])
    needs = row("What there is", name).split("|")[5]
    for text, words in NEEDED.items():
        assert (words in needs) == (text in source)


def test_names_are_those_of_the_constructors() -> None:
    assert tuple(SETS) == DATASETS
    assert tuple(MODELS) == NETWORKS


@pytest.mark.parametrize("name", SETS)
def test_every_set_with_files_has_its_layouts(name: str) -> None:
    if "folder" not in inspect.signature(SETS[name]).parameters:
        return
    base = {"fashion-columns": "fashion-mnist", "mnist-sequential": "mnist",
            "mnist-permuted": "mnist"}.get(name, name)  # fmt: skip
    part = PAGE.split("\n## Layouts looked for\n")[1].split("\n## ")[0]
    assert re.search(rf"^\| [^|]*`{base}`", part, re.M)


def test_the_code_of_the_page_runs() -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE, re.M | re.S)
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "docs/data.md", "exec"), names)
    assert len(blocks) == 2
