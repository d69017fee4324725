"""Layout of the package: layers of imports, and bounds on folders, modules and functions.

`docs/architecture.md` draws the layers; the picture is compared with the imports here.
"""

from __future__ import annotations

import ast
import re
import tomllib
from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "lnm_codegen"
MODULES = sorted(p.relative_to(PACKAGE).as_posix() for p in PACKAGE.rglob("*.py"))

LEVELS = (
    ("errors",),
    ("validation", "files", "options"),
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

LAZY = {("__init__.py", "lnm_codegen"), ("__init__.py", "lnm_codegen.nn.trace.trace")}
"""File and module of imports that only type checkers see."""

IMPORTERS = {"__import__", "import_module", "find_spec", "require_package"}
"""Functions that import a module by its name in a string."""

BOTH_IRS = {
    f"ir/{name}.py": {"Compare", "Const", "Kernel", "Program", "Select", "Var"}
    for name in ("nodes", "kernel", "fixed/nodes")
}
"""Classes that exist in both IRs, floating point and fixed point."""

TARGETS = {
    "c": "backend example expr loops words",
    "cuda": "backend example loops plan reduction",
    "integer_c": "backend expr",
    "network_c": "backend layers neurons tables vectors",
    "network_verilog": "arrays backend folder formal layers memories synapse testbench top",
    "onnx": "backend expr scan",
    "package": "backend draws targets view",
    "torch": "backend",
    "triton": "backend expr host kernels reduction",
    "verilog": "backend comparison expr hexadecimal parts words",
}
"""Folder of a target below backends/ -> its modules; one name means one thing in each."""

UNMIRRORED = {f"backends/verilog/{part}" for part in ("core", "formal", "testbench")}
"""Folders of the package without tests of their own; those of their parent emit and run them."""

TOPICS = {
    "analysis": "moments stability",
    "backends/c": "determinism interface",
    "cli": "completion",
    "compiler": "powers",
    "families": "basis gated peers zoo",
    "hardware/verify": "matrix",
    "language/ode": "hostile",
    "ir": "text",
    "ir/fixed": "passes values",
    "ir/passes": "estrin horner",
    "nn": "compile convergence gpu large spikingjelly start triton_layer",
    "nn/convert": "models",
    "train/data": "page",
    "train/models": "image",
    "train/runs": "options resume",
}
"""Folder of tests -> tests of a behaviour that several modules have. Every other test has the name
of a module or of its folder."""

LARGE_FOLDERS = {"families", "train/data", "cli"}
"""Folders with a file for each neuron or data set, and that of the verbs."""

MOST_MODULES, MOST_ROOT_MODULES, MOST_LINES, MOST_FUNCTION_LINES, MOST_PER_PREFIX = (
    16,
    6,
    300,
    70,
    2,
)


def layer_of(path: str) -> str:
    return path.split("/")[0].removesuffix(".py")


def level_of(layer: str) -> int:
    return next(k for k, names in enumerate(LEVELS) if layer in names)


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


@cache
def graph() -> dict[str, set[str]]:
    """Return module -> the modules of the package that it imports."""
    found = {p: {file_of(name) for name in imported(p)} for p in MODULES}
    return {p: {q for q in targets if q not in (None, p)} for p, targets in found.items()}  # type: ignore[misc]


@pytest.mark.parametrize("path", MODULES)
def test_imports_point_one_way(path: str) -> None:
    """A layer imports itself and lower levels."""
    own = layer_of(path)
    wrong = [
        q for q in graph()[path] if layer_of(q) != own and level_of(layer_of(q)) >= level_of(own)
    ]
    assert not wrong


def test_every_folder_is_a_layer() -> None:
    """The list of layers is the list of folders and root modules."""
    known = {name for names in LEVELS for name in names}
    assert {layer_of(path) for path in MODULES} == known


def test_no_two_modules_import_each_other() -> None:
    """Imports inside functions and under TYPE_CHECKING count too."""
    circles = [
        (p, q) for p, targets in graph().items() for q in targets if p < q and p in graph()[q]
    ]
    assert not circles


def test_no_circle_of_imports() -> None:
    """Nor is there a longer circle."""
    done: set[str] = set()

    def visit(path: str, above: tuple[str, ...]) -> None:
        assert path not in above, f"circle: {' -> '.join([*above[above.index(path) :], path])}"
        if path not in done:
            for target in sorted(graph()[path]):
                visit(target, (*above, path))
            done.add(path)

    for path in MODULES:
        visit(path, ())


@pytest.mark.parametrize("path", MODULES)
def test_libraries_stay_where_they_belong(path: str) -> None:
    """SymPy ends at compiler/build, Jinja is render's, PyTorch begins at nn."""
    for name in imported(path):
        places = ONLY_IN.get(name.split(".")[0])
        assert places is None or path.startswith(places), f"{path} imports {name}"


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


def folders(base: Path, pattern: str) -> dict[str, list[str]]:
    """Return folder -> the names of its files, without `__init__.py`."""
    found: dict[str, list[str]] = {}
    for path in sorted(base.rglob(pattern)):
        if path.name != "__init__.py":
            folder = path.parent.relative_to(base).as_posix()
            found.setdefault(folder, []).append(path.name)
    return found


def test_folders_are_small() -> None:
    """At most 16 modules in a folder, 6 in the root."""
    counts = {folder: len(names) for folder, names in folders(PACKAGE, "*.py").items()}
    assert counts.pop(".") <= MOST_ROOT_MODULES
    assert not {f: n for f, n in counts.items() if n > MOST_MODULES and f not in LARGE_FOLDERS}


@pytest.mark.parametrize(
    ("base", "pattern"),
    [("lnm_codegen", "*.py"), ("lnm_codegen/templates", "*.*"), ("tests", "*.py")],
)
def test_no_three_files_share_a_prefix(base: str, pattern: str) -> None:
    """Three files with one first word are a folder: `k.py` counts with `k_*.py`."""
    for folder, names in folders(ROOT / base, pattern).items():
        words = Counter(n.split(".")[0].removeprefix("test_").split("_")[0] for n in names)
        crowded = [word for word, count in words.items() if count > MOST_PER_PREFIX]
        assert not crowded, f"{base}/{folder}: {crowded}"


def test_tests_mirror_the_package() -> None:
    """Folders of tests and of the package are the same; tests have no `__init__.py`."""
    assert not list((ROOT / "tests").rglob("__init__.py"))
    own, tests = folders(PACKAGE, "*.py"), folders(ROOT / "tests", "*.py")
    assert not tests.keys() - own.keys(), "folders of tests that mirror nothing"
    tested = {f for f in tests if any(name.startswith("test_") for name in tests[f])}
    packages = {f for f in own if f not in UNMIRRORED}
    assert not packages - tested, "folders without tests"
    assert own.keys() >= UNMIRRORED, "exceptions that do not exist"


def test_a_test_has_the_name_of_its_module() -> None:
    """`tests/nn/test_x.py` is about `nn/x.py`, about the folder, or one of `TOPICS`."""
    own = folders(PACKAGE, "*.py")
    topics = {(folder, word) for folder, words in TOPICS.items() for word in words.split()}
    for folder, names in folders(ROOT / "tests", "test_*.py").items():
        known = {PurePosixPath(name).stem for name in own[folder]} | {folder.rpartition("/")[2]}
        words = {PurePosixPath(name).stem.removeprefix("test_") for name in names}
        extra = {(folder, word) for word in words - known}
        assert folder == "." or not extra - topics, f"tests/{folder}: {extra - topics}"
        topics -= extra
    assert not topics, "topics without a test"


def test_no_two_public_classes_share_a_name() -> None:
    """Except for the classes that exist in both IRs."""
    found: dict[str, list[str]] = defaultdict(list)
    for path in MODULES:
        names = (n.name for n in tree_of(path).body if isinstance(n, ast.ClassDef))
        for name in names:
            if not name.startswith("_") and name not in BOTH_IRS.get(path, ()):
                found[name].append(path)
    assert not {name: paths for name, paths in found.items() if len(paths) > 1}


def test_targets_have_the_same_modules() -> None:
    """Every target has `backend.py`; its other modules are listed, so that names stay the same."""
    own = {path.parent.name for path in (PACKAGE / "backends").glob("*/__init__.py")}
    assert own == TARGETS.keys()
    for target, names in TARGETS.items():
        present = {p.stem for p in (PACKAGE / "backends" / target).glob("*.py")} - {"__init__"}
        assert present == set(names.split()), target
        assert "backend" in present


def test_lint_exceptions_are_whole_folders() -> None:
    """An exception holds for whole folders; SymPy and Jinja have one module each besides."""
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    exceptions = pyproject["tool"]["ruff"]["lint"]["per-file-ignores"]
    single = {f"lnm_codegen/{p}" for places in ONLY_IN.values() for p in places if "." in p}
    assert {key for key in exceptions if not key.endswith("/**")} == single


@pytest.mark.parametrize("path", MODULES)
def test_modules_and_functions_are_short(path: str) -> None:
    """At most 300 lines a module, and 70 in the body of a function, without docstring."""
    assert len((PACKAGE / path).read_text(encoding="utf-8").splitlines()) <= MOST_LINES
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert statement_lines(node) <= MOST_FUNCTION_LINES, f"{path}: {node.name}"


def statement_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return the lines of a body without its docstring."""
    body = function.body[1:] if ast.get_docstring(function) else function.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def test_no_prefix_names_its_folder() -> None:
    """A module does not repeat the name of its folder: not `c/c_expr.py`."""
    pairs = ((path, PurePosixPath(path)) for path in MODULES if "/" in path)
    assert not [path for path, p in pairs if p.stem.startswith(f"{p.parent.name}_")]
