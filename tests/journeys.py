"""Journeys through the package: the files that a task passes, counted in a fresh process.

A Python file counts if one of its functions is entered (`sys.setprofile`), the body of a module
aside, and a template if it is rendered. Imports are followed inside functions too.
`python -m tests.journeys` prints all journeys.
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "lnm_codegen"
MODULES = sorted(p.relative_to(PACKAGE).as_posix() for p in PACKAGE.rglob("*.py"))

LAZY = {("__init__.py", "lnm_codegen"), ("__init__.py", "lnm_codegen.nn.trace.trace")}
"""File and module of imports that only type checkers see."""

IMPORTERS = {"__import__", "import_module", "find_spec", "require_package"}
"""Functions that import a module by its name in a string."""

_EMIT = """
import lnm_codegen as lnm
lif = lnm.get("lif")
"""
_LAYER = """
import torch
import lnm_codegen as lnm
layer = lnm.nn.NeuronLayer(lnm.get("lif", learn_tau=True), backend="c")
x = torch.rand(4, 2, 8, requires_grad=True)
layer(x).sum().backward()
out = layer(x).sum()
"""
RUNS = (
    (_EMIT, {"emit(lif, triton)": "lnm.emit(lif, 'triton')"}),
    (_EMIT, {"emit(lif, verilog)": "lnm.emit(lif, 'verilog', spec=lnm.Fixed(16, 12))"}),
    (_LAYER, {"layer, forward": "layer(x)", "layer, backward": "out.backward()"}),
)
"""Of each process: what comes first, and its journeys.

Layers are warm; an emission is the first of its process.
"""

CLOSURES = {
    "imports of deploy": "cli/deploy.py",
    "imports of analyze RUN": "cli/analyze_run.py",
}
"""Journey -> the module whose imports are followed."""

_COUNT = """
import json, sys
entered = set()
def profile(frame, event, _):
    code = frame.f_code
    if event == "call" and code.co_name != "<module>" and code.co_filename.startswith({package!r}):
        entered.add(code.co_filename)
found = {{}}
for name, journey in {journeys!r}.items():
    entered.clear()
    run = compile(journey, name, "exec")
    sys.setprofile(profile)
    exec(run)
    sys.setprofile(None)
    found[name] = sorted(file.removeprefix({package!r}) for file in entered)
print(json.dumps(found))
"""


def passed(first: str, journeys: dict[str, str]) -> dict[str, list[str]]:
    """Return journey -> its files. A compiled template bears the name of its file."""
    code = first + _COUNT.format(package=f"{PACKAGE}/", journeys=journeys)
    run = [sys.executable, "-c", code]
    done = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, check=True)
    found: dict[str, list[str]] = json.loads(done.stdout.splitlines()[-1])
    return found


def closure(path: str) -> set[str]:
    """Return a module and all modules that it imports, directly or through others."""
    found, left = {path}, [path]
    while left:
        new = graph()[left.pop()] - found
        found |= new
        left += new
    return found


def counts() -> dict[str, int]:
    """Return journey -> number of files."""
    runs = {n: len(files) for run in RUNS for n, files in passed(*run).items()}
    return runs | {name: len(closure(path)) for name, path in CLOSURES.items()}


@cache
def graph() -> dict[str, set[str]]:
    """Return module -> the modules of the package that it imports."""
    found = {p: {file_of(name) for name in imported(p)} for p in MODULES}
    return {p: {q for q in targets if q not in (None, p)} for p, targets in found.items()}  # type: ignore[misc]


def imported(path: str) -> Iterator[str]:
    """Yield the full name of every module that a file imports, also inside functions.

    `lnm` names `lnm.nn`, `lnm.trace` and more for type checkers; it imports them when used. A
    string counts if it names a module of ours, also as "module:function", or if it is an argument
    of one of `IMPORTERS`.
    """
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            name = node.value.partition(":")[0]
            yield from (name,) if "." in name and file_of(name) else ()
        if isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else node.func
            if (called.id if isinstance(called, ast.Name) else called) in IMPORTERS:
                yield from (str(a.value) for a in node.args if isinstance(a, ast.Constant))
        if isinstance(node, ast.ImportFrom) and (path, node.module) in LAZY:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            whole = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if file_of(name) else str(node.module) for name in whole)


@cache
def tree_of(path: str) -> ast.Module:
    return ast.parse((PACKAGE / path).read_text(encoding="utf-8"))


def file_of(module: str) -> str | None:
    """Return the path of one of our modules below the package, or None for any other name."""
    root, *parts = module.split(".")
    places = ["/".join([*parts, "__init__.py"]), "/".join(parts) + ".py"]
    return next((p for p in places if root == "lnm_codegen" and p in MODULES), None)


if __name__ == "__main__":
    for journey, count in counts().items():
        print(f"{count:4}  {journey}")
