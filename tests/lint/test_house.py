"""Layout of the package: layers of imports, and where libraries are imported.

`docs/architecture.md` draws the layers; the picture is compared with the imports here.
"""

from __future__ import annotations

import ast
import re
import tomllib
from collections import defaultdict

from tests.journeys import MODULES, ROOT, counts, graph, imported, tree_of

MOST_FILES = {
    "emit(lif, triton)": 32,
    "emit(lif, verilog)": 67,
    "layer, forward": 10,
    "layer, backward": 5,
    "imports of deploy": 203,
    "imports of analyze RUN": 192,
}
"""Journey -> the most files that it may pass. A new capability may raise a bound, in a commit that
says why, and a count that falls lowers it."""

LEVELS = (
    ("errors",),
    ("validation", "files", "options", "moved", "sections"),
    ("ir",),
    ("language", "backends"),
    ("families", "compiler"),
    ("__init__",),
    ("analysis",),
    ("nn", "hardware"),
    ("plot",),
    ("train", "deploy"),
    ("insight", "bench"),
    ("cli",),
)
"""The layers, from the lowest: top-level folders and root modules. `__init__` is `lnm` itself."""

ONLY_IN = {
    "sympy": ("language/", "families/", "analysis/", "compiler/build.py"),
    "jinja2": ("backends/render.py",),
    "torch": ("nn/", "train/", "deploy/", "insight/", "bench/"),
    "triton": ("nn/", "bench/"),
}
"""Library -> where it may be imported."""

BOTH_IRS = {
    f"ir/{name}.py": {"Compare", "Const", "Kernel", "Program", "Select", "Var"}
    for name in ("nodes", "kernel", "fixed/nodes")
}
"""Classes that exist in both IRs, floating point and fixed point."""


def layer_of(path: str) -> str:
    return path.split("/")[0].removesuffix(".py")


def level_of(layer: str) -> int:
    return next(k for k, names in enumerate(LEVELS) if layer in names)


def test_imports_point_one_way() -> None:
    """A layer imports itself and lower levels."""
    pairs = [(p, q) for p, targets in graph().items() for q in targets]
    layers = [(p, q, layer_of(p), layer_of(q)) for p, q in pairs]
    assert not [(p, q) for p, q, a, b in layers if a != b and level_of(b) >= level_of(a)]


def test_every_folder_is_a_layer() -> None:
    """The list of layers is the list of folders and root modules."""
    known = {name for names in LEVELS for name in names}
    assert {layer_of(path) for path in MODULES} == known


def test_no_circle_of_imports() -> None:
    """Imports inside functions and under TYPE_CHECKING count too."""
    done: set[str] = set()

    def visit(path: str, above: tuple[str, ...]) -> None:
        assert path not in above, f"circle: {' -> '.join([*above[above.index(path) :], path])}"
        if path not in done:
            for target in sorted(graph()[path]):
                visit(target, (*above, path))
            done.add(path)

    for path in MODULES:
        visit(path, ())


def test_libraries_stay_where_they_belong() -> None:
    """SymPy ends at compiler/build, Jinja is render's, PyTorch begins at nn."""
    for path in MODULES:
        for name in imported(path):
            places = ONLY_IN.get(name.split(".")[0])
            assert places is None or path.startswith(places), f"{path} imports {name}"


def test_journeys_are_short() -> None:
    """A task passes few files."""
    assert not {name: n for name, n in counts().items() if n > MOST_FILES[name]}


def test_the_picture_of_the_layers() -> None:
    """The Mermaid diagram of docs/architecture.md is the import graph of the layers.

    It leaves out what every layer may import, and arrows that follow from others.
    """
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    drawn = re.findall(r"```mermaid\n(.*?)```", text, re.S)
    assert len(drawn) == 1, "one picture of the layers"
    arrows = re.findall(r"^\s*(\w+) --> (\w+)$", drawn[0], re.M)
    shared = {*LEVELS[0], *LEVELS[1], "__init__"}
    direct: dict[str, set[str]] = {layer_of(path): set() for path in MODULES}
    for path, targets in graph().items():
        direct[layer_of(path)] |= {layer_of(q) for q in targets} - {layer_of(path)} - shared

    def below(layer: str, above: tuple[str, ...] = ()) -> set[str]:
        assert layer not in above, f"circle of layers: {' -> '.join((*above, layer))}"
        return direct[layer].union(*(below(b, (*above, layer)) for b in direct[layer]))

    needed = {
        (a, b)
        for a, lower in direct.items()
        for b in lower - set().union(*map(below, lower))
        if a not in shared
    }
    assert sorted(arrows) == sorted(needed)


def test_no_two_public_classes_share_a_name() -> None:
    """Except for the classes that exist in both IRs."""
    found: dict[str, list[str]] = defaultdict(list)
    for path in MODULES:
        names = (n.name for n in tree_of(path).body if isinstance(n, ast.ClassDef))
        for name in names:
            if not name.startswith("_") and name not in BOTH_IRS.get(path, ()):
                found[name].append(path)
    assert not {name: paths for name, paths in found.items() if len(paths) > 1}


def test_lint_exceptions_are_whole_folders() -> None:
    """An exception holds for whole folders; SymPy and Jinja have one module each besides."""
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    exceptions = pyproject["tool"]["ruff"]["lint"]["per-file-ignores"]
    single = {f"lnm_codegen/{p}" for places in ONLY_IN.values() for p in places if "." in p}
    assert {key for key in exceptions if not key.endswith("/**")} == single
