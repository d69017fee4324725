"""Imports point one way (design, section 7): what each module of the package may import."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "lnm_codegen"
MODULES = sorted(p.relative_to(PACKAGE).as_posix() for p in PACKAGE.rglob("*.py"))

LAYERS = {
    "errors": ("errors.py", "declared.py"),
    "front": (
        "symbols.py", "functions.py", "expression_cost.py", "expression_text.py", "surrogate.py",
        "phases.py", "wellformed.py", "neuron.py", "family.py", "families/",
        "expression.py", "toml_content.py", "toml_surrogate.py", "definition.py", "library.py",
    ),
    "build": ("ir/build.py",),
    "ir": ("ir/", "granularity.py"),
    "backends": ("backends/",),
    "compiler": (
        "compiler.py", "emission.py", "interpreter.py", "interpreter_arguments.py",
        "fixed_compiler.py", "fixed_interpreter.py", "formats.py",
    ),
    "package": ("__init__.py",),
    "analysis": ("analysis/",),
    "nn": ("nn/",),
    "bench": ("bench/",),
    "hardware": ("hardware/",),
    "train": ("train/",),
    "cli": ("cli/",),
}  # fmt: skip
"""Layer -> its files and folders; the first that fits a path."""

MAY_IMPORT = {
    "errors": "",
    "front": "errors",
    "build": "errors front ir",
    "ir": "errors",
    "backends": "errors ir",
    "compiler": "errors front build ir backends",
    "package": "errors front ir backends compiler",
    "analysis": "errors front build ir compiler",
    "nn": "errors front build ir backends compiler analysis",
    "bench": "errors front build ir backends compiler analysis nn train",
    "hardware": "errors front build ir backends compiler analysis nn package",
    "train": "errors front build ir backends compiler analysis nn package",
    "cli": "errors front build ir backends compiler analysis nn bench hardware train package",
}
"""Layer -> the layers it may import beside itself."""

ONLY_IN = {
    "sympy": (*LAYERS["front"], "ir/build.py", "analysis/"),
    "jinja2": ("backends/render.py",),
    "torch": (
        "nn/",
        "bench/",
        "train/",
        "hardware/agreement.py",
        "hardware/arrays.py",
        "hardware/comparison.py",
        "hardware/network.py",
        "hardware/recorded.py",
    ),
    "triton": ("nn/", "bench/"),
}
"""Library -> where it may be imported."""


def layer_of(path: str) -> str:
    return next(layer for layer, places in LAYERS.items() if fits(path, places))


def fits(path: str, places: tuple[str, ...]) -> bool:
    return any(path.startswith(p) if p.endswith("/") else path == p for p in places)


def imported(path: str) -> Iterator[str]:
    """Yield the full name of every module that a file imports, also inside functions."""
    for node in ast.walk(ast.parse((PACKAGE / path).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            whole = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if file_of(name) else str(node.module) for name in whole)


def file_of(module: str) -> str | None:
    """Return the path of one of our modules below the package, or None for any other name."""
    root, *parts = module.split(".")
    places = ["/".join([*parts, "__init__.py"]), "/".join(parts) + ".py"]
    return next((p for p in places if root == "lnm_codegen" and p in MODULES), None)


@pytest.mark.parametrize("path", MODULES)
def test_imports_point_one_way(path):
    """A layer imports itself and what lies below it."""
    layer = layer_of(path)
    wrong = []
    for name in imported(path):
        ours = file_of(name)
        if ours is None:
            continue
        if layer_of(ours) not in (layer, *MAY_IMPORT[layer].split()):
            wrong.append(name)
    assert not wrong


@pytest.mark.parametrize("path", MODULES)
def test_libraries_stay_where_they_belong(path):
    """SymPy ends at ir/build, Jinja is render's, PyTorch begins at nn."""
    for name in imported(path):
        library = name.split(".")[0]
        if library in ONLY_IN:
            assert fits(path, ONLY_IN[library]), f"{path} imports {name}"


def test_the_layers_have_no_circle():
    """Each layer imports layers that are named before it can be reached again."""

    def below(layer: str) -> set[str]:
        direct = set(MAY_IMPORT[layer].split())
        return direct.union(*(below(d) for d in direct))

    assert all(layer not in below(layer) for layer in MAY_IMPORT)
    assert set(MAY_IMPORT) == set(LAYERS)
