"""docs/data.md names every set and every option, with its default, and its code runs."""

from __future__ import annotations

import ast
import inspect
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lnm_codegen.train.data.load import SETS
from lnm_codegen.train.models import MODELS
from lnm_codegen.train.names import DATASETS, NETWORKS

PAGE = (Path(__file__).parents[3] / "docs" / "data.md").read_text(encoding="utf-8")


def row(heading: str, name: str) -> str:
    part = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    found = [line for line in part.splitlines() if line.startswith(f"| `{name}` |")]
    assert len(found) == 1, name
    return found[0]


NEEDED = {
    "from sklearn": "scikit-learn: the extra `train`",
    "from scipy": "SciPy: the extra `train`",
    "read_image(": "Pillow: the extra `train`",
    "from mnist1d": "mnist1d",
    '"h5py"': "h5py: the extra `data`",
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


def test_every_set_and_option_is_on_the_page() -> None:
    """With its default, the packages that it imports, and the layouts of its files."""
    assert tuple(SETS) == DATASETS
    assert tuple(MODELS) == NETWORKS
    layouts = PAGE.split("\n## Layouts looked for\n")[1].split("\n## ")[0]
    base = {"fashion-columns": "fashion-mnist", "mnist-sequential": "mnist",
            "mnist-permuted": "mnist"}  # fmt: skip
    for name, load in SETS.items():
        parameters = inspect.signature(load).parameters
        options = {k: v.default for k, v in parameters.items() if k not in ("folder", "limit")}
        text = row("Options", name) if options else ""
        for word, default in options.items():
            shown = f'"{default}"' if isinstance(default, str) else default
            assert f"`{word}={shown}`" in text
        source, needs = source_of(load), row("What there is", name).split("|")[5]
        for code, words in NEEDED.items():
            assert (words in needs) == (code in source), name
        if "folder" in parameters:
            assert re.search(rf"^\| [^|]*`{base.get(name, name)}`", layouts, re.M)


def test_the_code_of_the_page_runs() -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE, re.M | re.S)
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "docs/data.md", "exec"), names)
    assert len(blocks) == 2
