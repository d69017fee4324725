"""Comparison of the kernels that two checkouts generate.

    python scripts/compare_kernels.py dump before.json      # in a checkout of the older commit
    python scripts/compare_kernels.py dump after.json       # in this one
    python scripts/compare_kernels.py compare before.json after.json

`dump` emits every neuron of `tests/cases.py` for every target. `compare` strips comments and
docstrings, then compares token by token. An identifier may differ if the renaming is one to one
within its function (Python) or file (other languages). The exit status is 1 if anything else
differs. To dump an older checkout, copy this script there and set PYTHONPATH to the checkout.
"""

from __future__ import annotations

import ast
import json
import re
import sys
from collections import Counter
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path

sys.path.insert(0, str(Path.cwd()))

CODE = {".c", ".cpp", ".cu", ".h", ".py", ".v", ".sby", ".hex", ".mem", ".tcl", ".sh"}
TOKEN = re.compile(r"[A-Za-z_]\w*|\d[\w.]*(?:[eEpP][+-]?\d+)?|\"(?:\\.|[^\"\\])*\"|\S")
HASH = re.compile(r"_[0-9a-f]{8,}")


def dump() -> dict[str, str]:
    """Return every generated file: target/case/path -> text."""
    import lnm_codegen as lnm
    from lnm_codegen.backends import BACKENDS, FIXED_BACKENDS
    from lnm_codegen.backends.package import TARGETS
    from tests.cases import CASES

    files: dict[str, str] = {}

    def add(key: str, emit: object, **arguments: object) -> None:
        try:
            source = emit(**arguments)  # type: ignore[operator]
        except lnm.UnsupportedError as error:
            files[f"{key}/refused"] = type(error).__name__
            return
        files.update({f"{key}/{path}": text for path, text in source.files.items()})

    for name, make in CASES.items():
        neuron = make()
        for backend in BACKENDS:
            for dtype in ("float32", "float64", "bfloat16", "float16"):
                key = f"{backend}-{dtype}/{name}"
                add(key, lnm.emit, neuron=neuron, backend=backend, dtype=dtype)
            add(
                f"{backend}-estrin/{name}",
                lnm.emit,
                neuron=neuron,
                backend=backend,
                scheme="estrin",
            )
        for backend in TARGETS:
            add(f"package-{backend}/{name}", lnm.package, neuron=neuron, backend=backend)
        spec = lnm.Fixed(16, 12)
        for backend in FIXED_BACKENDS:
            add(f"fixed-{backend}/{name}", lnm.emit, neuron=neuron, backend=backend, spec=spec)
        rtl = lnm.Rtl(forms=("comb", "core", "seq", "array"))
        add(f"fixed-array/{name}", lnm.emit, neuron=neuron, backend="verilog", spec=spec, rtl=rtl)
    return files


def scopes(path: str, text: str) -> list[list[str]]:
    """Return the tokens of a file without comments and docstrings, a list for each scope."""
    suffix = Path(path).suffix
    if suffix == ".py":
        tree = ast.parse(text)
        for node in ast.walk(tree):
            body = getattr(node, "body", None)
            if isinstance(body, list):
                node.body = [s for s in body if not _is_docstring(s)] or [ast.Pass()]  # type: ignore[attr-defined]
        return [TOKEN.findall(ast.unparse(statement)) for statement in tree.body]
    if suffix in {".c", ".cpp", ".cu", ".h", ".v"}:
        text = re.sub(r"/\*.*?\*/|//[^\n]*", " ", text, flags=re.S)
        text = text.replace("\\\n", " ")
    else:
        text = re.sub(r"^\s*#[^\n]*", "", text, flags=re.M)
    return [TOKEN.findall(text)]


def _is_docstring(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def differences(before: list[str], after: list[str], renamed: Counter[str]) -> Iterator[str]:
    """Yield the differences of a scope beyond a one-to-one renaming of identifiers."""
    if len(before) != len(after):
        yield f"{len(before)} tokens before, {len(after)} after"
        return
    there: dict[str, str] = {}
    back: dict[str, str] = {}
    for a, b in zip(before, after, strict=True):
        if a[0].isalpha() or a[0] == "_":
            if there.setdefault(a, b) != b or back.setdefault(b, a) != a:
                yield f"{a} became {b}, elsewhere {there[a]}"
        elif a != b and not (a[0] == b[0] == '"'):
            yield f"{a} became {b}"
    renamed.update(f"{a} -> {b}" for a, b in there.items() if HASH.sub("", a) != HASH.sub("", b))


def compare(before: dict[str, str], after: dict[str, str]) -> int:
    """Print what differs; return the exit status."""
    renamed: Counter[str] = Counter()
    different, same, compared = [], 0, 0
    for path in sorted(before.keys() | after.keys()):
        if path not in before or path not in after:
            different.append(f"{path}: only {'after' if path in after else 'before'}")
        elif Path(path).suffix in CODE or path.endswith("/refused"):
            compared += 1
            same += before[path] == after[path]
            pair = (scopes(path, before[path]), scopes(path, after[path]))
            found = [
                d for a, b in zip_longest(*pair, fillvalue=[]) for d in differences(a, b, renamed)
            ]
            different += [f"{path}: {found[0]} ({len(found)} in all)"] if found else []
    print(f"{compared} files compared, {same} of them the same to the byte")
    for change, count in renamed.most_common():
        print(f"renamed in {count} files: {change}")
    for line in different:
        print(f"DIFFERENT {line}")
    print(f"{len(different)} differ beyond comments and names")
    return 1 if different else 0


def main() -> int:
    """Run one of the two commands."""
    match sys.argv[1:]:
        case ["dump", path]:
            Path(path).write_text(json.dumps(dump(), indent=0), encoding="utf-8")
            return 0
        case ["compare", before, after]:
            texts = (Path(p).read_text(encoding="utf-8") for p in (before, after))
            return compare(*(json.loads(text) for text in texts))
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
