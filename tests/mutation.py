"""Mutants of the package: single changes of its code, and whether the quick tests notice each.

    python -m tests.mutation draw --seed 1 --count 150 > tests/mutants/first.json
    python -m tests.mutation run tests/mutants/first.json --tree TREE --cover COVER --out RESULTS
    python -m tests.mutation run LIST --tree OLD_TREE --cover COVER --out OLD --unless RESULTS
    python -m tests.mutation compare tests/mutants/first.json OLD RESULTS

cosmic-ray makes the changes. TREE is a worktree that nobody else uses: its files are changed in
place and restored. COVER is a folder that has the two files of one quick run in that tree,

    pytest -m "not slow" --cov=lnm_codegen --cov-context=test --cov-report= --junitxml=times.xml

moved there: `.coverage` and `times.xml`. A mutant is run against the tests that pass over its
line, those of its own folder first, then the quick ones first, until their recorded time reaches a
limit. With `--unless`, those that these results notice are not run again: nothing is lost there.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import random
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import parso.python.tree  # noqa: F401 - cosmic-ray's operators import it in a circle otherwise
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.operators.provider import OperatorProvider

FOLDERS = ("ir", "compiler", "backends", "language", "nn", "analysis", "deploy", "train")
PACKAGE = "lnm_codegen"
LIMIT = 60.0
"""Seconds of recorded test time that a mutant is given."""
TIMEOUT = 60
"""Seconds of one test, above which a mutant counts as noticed."""


_EQUIVALENT = [f"ReplaceComparisonOperator_{a}_{b}" for a, b in (("Is", "Eq"), ("IsNot", "NotEq"))]
"""Operators whose changes no test can notice."""


@dataclass(frozen=True)
class Mutant:
    """A change: an operator of cosmic-ray at its occurrence in a file, and the line it changes."""

    file: str
    operator: str
    occurrence: int
    line: int
    before: str
    after: str


def draw(root: Path, seed: int, count: int, folders: Sequence[str] = FOLDERS) -> list[Mutant]:
    """Draw mutants: files by their number of mutable places, then a place, then a change of it."""
    files = sorted(p for f in folders for p in (root / PACKAGE / f).rglob("*.py"))
    places = [(path, place) for path in files for place in sorted(_places(path.read_text()))]
    rng = random.Random(seed)
    drawn: dict[tuple[Path, tuple[int, int, str]], Mutant] = {}
    while len(drawn) < count:
        path, place = rng.choice(places)
        if (path, place) not in drawn:
            text = path.read_text()
            name, occurrence = rng.choice(_places(text)[place])
            if found := _mutant(str(path.relative_to(root)), text, name, occurrence):
                drawn[path, place] = found
    return list(drawn.values())


def _operators() -> dict[str, type]:
    provider = OperatorProvider()
    found = {name: provider[name] for name in sorted(provider) if name not in _EQUIVALENT}
    return {name: kind for name, kind in found.items() if not kind.arguments()}


def _family(name: str) -> str:
    """Return an operator's kind of change, such as ReplaceBinaryOperator."""
    return name.split("_")[0]


@cache
def _places(text: str) -> dict[tuple[int, int, str], list[tuple[str, int]]]:
    """Return the mutable places of a module, outside annotations: line, column, kind -> changes."""
    tree, ignored = get_ast(text), _annotations(text)
    nodes = list(ast_nodes(tree))
    found: dict[tuple[int, int, str], list[tuple[str, int]]] = {}
    for name, kind in _operators().items():
        positions = (p for node in nodes for p in kind().mutation_positions(node))
        for occurrence, (start, _) in enumerate(positions):
            if not any(first <= start < last for first, last in ignored):
                found.setdefault((*start, _family(name)), []).append((name, occurrence))
    return found


def _annotations(text: str) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Return the ranges that run for a type checker alone."""
    found: list[ast.AST] = []
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.arg(annotation=ast.AST() as a) | ast.AnnAssign(annotation=a):
                found.append(a)
            case ast.FunctionDef(returns=ast.AST() as a):
                found.append(a)
            case ast.If(test=ast.Name(id="TYPE_CHECKING")):
                found.append(node)
    return [
        ((a.lineno, a.col_offset), (a.end_lineno, a.end_col_offset))  # type: ignore[attr-defined]
        for a in found
    ]


def _mutant(file: str, text: str, name: str, occurrence: int) -> Mutant | None:
    """Return a mutant, or None where the change is none or no Python."""
    changed = mutate_code(text, _operators()[name](), occurrence)
    if changed is None:
        return None
    try:
        if ast.dump(ast.parse(changed)) == ast.dump(ast.parse(text)):
            return None
    except SyntaxError:
        return None
    old, new = text.split("\n"), changed.split("\n")
    first = next(i for i, (a, b) in enumerate(zip(old, new, strict=False)) if a != b)
    last = next(i for i, (a, b) in enumerate(zip(old[::-1], new[::-1], strict=False)) if a != b)
    before = "\n".join(old[first : len(old) - last])
    after = "\n".join(new[first : len(new) - last])
    return Mutant(file, name, occurrence, first + 1, before, after)


def mutated(text: str, mutant: Mutant) -> str:
    """Return the text of a file with the change."""
    changed = mutate_code(text, _operators()[mutant.operator](), mutant.occurrence)
    if changed is None or mutant.before not in text:
        raise SystemExit(f"{mutant.file}: the mutant is of another version of this file")
    return changed


class Tests:
    """The tests of a covered run: which pass over a line, and how long each took."""

    def __init__(self, tree: Path, cover: Path) -> None:
        from coverage import CoverageData

        self.tree = tree
        self._data = CoverageData(str(cover / ".coverage"))
        self._data.read()
        self._seconds = _seconds(cover / "times.xml")

    def of(self, mutant: Mutant) -> list[str]:
        """Return the tests of a mutant in the order in which they run."""
        by_line = self._data.contexts_by_lineno(str(self.tree / mutant.file))
        over = {n for lines in self._statement(mutant) for n in by_line.get(lines, ())}
        if not any(over):  # the line runs at import: every test that uses the module
            over = {name for names in by_line.values() for name in names}
        names = {name.rpartition("|")[0] for name in over if name} & self._seconds.keys()
        own = "tests/" + mutant.file.split("/")[1] + "/"
        order = sorted(names, key=lambda n: (not n.startswith(own), self._seconds[n], n))
        chosen, seconds = [], 0.0
        for name in order:
            if (seconds := seconds + self._seconds[name]) > LIMIT and chosen:
                break
            chosen.append(name)
        return chosen

    def _statement(self, mutant: Mutant) -> range:
        """Return the lines of the innermost statement around a mutant's last line."""
        tree = ast.parse((self.tree / mutant.file).read_text())
        line = mutant.line + mutant.before.count("\n")  # blank lines go with a decorator
        around = [
            n
            for n in ast.walk(tree)
            if isinstance(n, ast.stmt) and _first(n) <= line <= (n.end_lineno or 0)
        ]
        inner = max(around, key=lambda n: (n.lineno, -(n.end_lineno or 0)))
        body = getattr(inner, "body", None)
        last = body[0].lineno - 1 if body else inner.end_lineno or inner.lineno
        return range(inner.lineno, max(last, inner.lineno) + 1)


def _first(node: ast.stmt) -> int:
    """Return the first line of a statement, that of its decorators included."""
    return min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", ()))])


def _seconds(path: Path) -> dict[str, float]:
    found = {}
    for case in ET.parse(path).iter("testcase"):
        if case.find("failure") is None and case.find("skipped") is None:
            parts = case.get("classname", "").split(".")
            file = "/".join(parts) + ".py"
            found[f"{file}::{case.get('name')}"] = float(case.get("time", 0))
    return found


def run(mutants: list[Mutant], tree: Path, cover: Path, out: Path, unless: Path | None) -> None:
    """Run the tests of each mutant that `out` does not have yet; a line of JSON for each."""
    done = set(_results(out)) if out.exists() else set()
    if unless is not None:
        done |= {key for key, noticed in _results(unless).items() if noticed}
    tests = Tests(tree, cover)
    for mutant in mutants:
        if _key(asdict(mutant)) in done:
            continue
        path = tree / mutant.file
        text = path.read_text()
        chosen = tests.of(mutant)
        try:
            path.write_text(mutated(text, mutant))
            result = _noticed(tree, chosen)
        finally:
            path.write_text(text)
        with out.open("a") as stream:
            line = {**asdict(mutant), "tests": len(chosen), "noticed": result}
            print(json.dumps(line), file=stream, flush=True)


def _results(path: Path) -> dict[tuple[object, ...], str | None]:
    return {_key(r): r["noticed"] for r in map(json.loads, path.read_text().splitlines())}


def _key(record: dict[str, object]) -> tuple[object, ...]:
    return record["file"], record["operator"], record["occurrence"]


def _noticed(tree: Path, tests: list[str]) -> str | None:
    """Return the first test that fails, or None."""
    if not tests:
        return None
    names = tree / ".mutant-tests"
    names.write_text("\n".join(tests))
    command = [
        sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-p", "no:randomly",
        "--no-header", "--tb=no", "--show-capture=no", "-rfE", "-o", f"timeout={TIMEOUT}",
        f"@{names.name}",
    ]  # fmt: skip
    environment = {"PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(
            command, cwd=tree, env=os.environ | environment, capture_output=True, text=True,
            check=False, timeout=8 * LIMIT,
        )  # fmt: skip
    except subprocess.TimeoutExpired:  # in a loop that no signal ends
        return "timeout"
    finally:
        names.unlink()
    if done.returncode == 0:
        return None
    lines = [x for x in done.stdout.splitlines() if x.startswith(("FAILED", "ERROR"))]
    return lines[0].split(" - ")[0] if lines else f"exit {done.returncode}"


def compare(mutants: list[Mutant], old: Path, new: Path) -> str:
    """Return a table of what the tests noticed before and after, and the mutants that they lost."""
    before, after = _results(old), _results(new)
    keys = [_key(asdict(m)) for m in mutants]
    lost = [m for m, k in zip(mutants, keys, strict=True) if before.get(k) and not after[k]]
    rows = [
        f"{len(keys)} mutants; noticed: {sum(after[k] is not None for k in keys)}; of the others"
        f" {len(lost)} were noticed before:"
    ]
    rows += [f"{m.file}:{m.line} {m.before.strip()!r} -> {m.after.strip()!r}" for m in lost]
    return "\n".join(rows)


def _read(path: Path) -> list[Mutant]:
    return [Mutant(**record) for record in json.loads(path.read_text())]


def main() -> None:
    """Run the verb of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    verb = verbs.add_parser("draw")
    verb.add_argument("--seed", type=int, required=True)
    verb.add_argument("--count", type=int, required=True)
    verb.add_argument("--folder", action="append", help="of the package; several may be given")
    verb = verbs.add_parser("run")
    verb.add_argument("list", type=Path)
    for option in ("--tree", "--cover", "--out"):
        verb.add_argument(option, type=Path, required=True)
    verb.add_argument("--unless", type=Path, help="results whose noticed mutants are left out")
    verb = verbs.add_parser("compare")
    for name in ("list", "old", "new"):
        verb.add_argument(name, type=Path)
    given = parser.parse_args()
    match given.verb:
        case "draw":
            drawn = draw(Path.cwd(), given.seed, given.count, given.folder or FOLDERS)
            print("[\n" + ",\n".join(json.dumps(asdict(m)) for m in drawn) + "\n]")
        case "run":
            run(_read(given.list), given.tree.resolve(), given.cover, given.out, given.unless)
        case "compare":
            print(compare(_read(given.list), given.old, given.new))


if __name__ == "__main__":
    main()
