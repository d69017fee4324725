"""Names of a model in generated code, compared with the names that the code itself has.

The code is generated once more from a model whose names carry a mark. Two identifiers of one scope
collide if they are equal without the mark. An identifier with a mark collides with the target
language if it is a word of the language without the mark.
"""

from __future__ import annotations

import ast
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import PurePath
from typing import Any, cast

from lnm_codegen.backends.base import Model
from lnm_codegen.errors import UnsupportedError
from lnm_codegen.ir import nodes as ir
from lnm_codegen.ir.kernel import K, Variable, map_children

MARK = "ñ"
"""A letter of no template and no name of a model, which are ASCII."""

Scope = set[str]
"""The identifiers that are visible together."""

_PARSING = threading.Lock()
"""CPython 3.11 counts the depth of a tree once for all threads: `ast.parse` in two of them, with
another switch of threads during garbage collection, raises SystemError."""


def renamed(model: Model, new: Callable[[str], str]) -> Model:
    """Return a model with a new name for itself and for every name in it.

    Prefixes and suffixes that the compiler adds (`grad_`, `sum_`, `_next`, `_0`) stay outside.
    """
    params = tuple(replace(p, name=new(p.name)) for p in model.params)
    elements = {
        old: element
        for p, q in zip(model.params, params, strict=True)
        for old, element in zip(p.element_names, q.element_names, strict=True)
    }

    def name(old: str) -> str:
        return elements.get(old) or variable_name(old, lambda b: elements.get(b) or new(b))

    program = model.program
    kernels = ("prepare", "prepare_backward", "forward", "backward")
    return replace(
        model,
        name=new(model.name),
        program=replace(program, **{k: with_names(getattr(program, k), name) for k in kernels}),
        states=tuple(replace(s, name=new(s.name)) for s in model.states),
        inputs=tuple(map(new, model.inputs)),
        params=params,
        outputs=tuple(map(new, model.outputs)),
    )


def variable_name(old: str, new: Callable[[str], str]) -> str:
    """Return a variable's name with `new` applied, except to the compiler's prefix and suffix."""
    head = next((h for h in ("grad_", "sum_") if old.startswith(h)), "")
    tail = "_next" if old.endswith("_next") else ""
    return head + new(old[len(head) : len(old) - len(tail)]) + tail


def with_names(kernel: K, name: Callable[[str], str]) -> K:
    """Return a kernel with a new name for each variable."""

    def value(e: Any) -> Any:
        if isinstance(e, Variable):
            return replace(cast("Any", e), name=name(e.name))
        e = map_children(e, value)
        return replace(e, slope=value(e.slope)) if isinstance(e, ir.Spike) else e

    def ports(of: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(replace(p, var=value(p.var)) for p in of)

    body = tuple(replace(x, target=value(x.target), value=value(x.value)) for x in kernel.body)
    return replace(kernel, inputs=ports(kernel.inputs), body=body, results=ports(kernel.results))


def marked(name: str) -> str:
    """Return a name between two marks."""
    return f"{MARK}{name}{MARK}"


def collisions(scopes: Iterable[Scope]) -> list[str]:
    """Return the identifiers that stand for two things in a scope, marks removed."""
    plain = (Counter(map(_plain, scope)) for scope in scopes)
    return sorted({word for counts in plain for word, count in counts.items() if count > 1})


def require_no_collision(
    where: str, scopes: Sequence[Scope], meaning: Callable[[str], str] = lambda word: ""
) -> None:
    """Raise UnsupportedError if an identifier of code with marks collides.

    Args:
        where: Place in the message.
        scopes: Scopes of the code.
        meaning: Meaning of a word in the target language; empty if the language has no such word.
    """
    given = {_plain(w) for scope in scopes for w in scope if w != _plain(w)}
    problems = [f"{w!r} is {meaning(w)}" for w in sorted(given) if meaning(w)]
    problems += [
        f"the generated code has another variable or function with the name {w!r}"
        for w in collisions(scopes)
    ]
    for problem in problems:
        remedy = "Rename the state, input, output, parameter or bound value."
        raise UnsupportedError(where, problem, remedy=remedy)


HEADERS = frozenset(
    """assert complex ctype errno fenv float inttypes iso646 limits locale math setjmp signal
    stdalign stdarg stdatomic stdbit stdbool stdckdint stddef stdint stdio stdlib stdnoreturn string
    tgmath threads time uchar wchar wctype alloca endian features malloc pthread sched strings
    syslimits unistd""".split()
)
"""Headers of C and of its usual library, which other headers include by `<name.h>`."""


def require_no_header(where: str, files: Iterable[str]) -> None:
    """Raise UnsupportedError if a file would hide a header of C, where its folder is searched."""
    for path in map(PurePath, files):
        if path.suffix == ".h" and path.stem.lower() in HEADERS:
            problem = f"the file {path.name} would hide the header of C with this name"
            raise UnsupportedError(where, problem, remedy="Give another name.")


def _plain(identifier: str) -> str:
    """Return an identifier without marks."""
    return re.sub(MARK, "", identifier, flags=re.I)


def require_distinct(where: str, arguments: list[str]) -> None:
    """Raise UnsupportedError unless the arguments of a kernel have different names."""
    for word in arguments:
        if arguments.count(word) > 1:
            raise UnsupportedError(
                where,
                f"two arguments of the kernels have the name {word!r}",
                remedy="Rename a state, an input, an output or a parameter.",
            )


def c_scopes(files: Mapping[str, str]) -> list[Scope]:
    """Return the scopes of C, C++ and CUDA files: every function and every struct.

    Members of structs count where they are declared, not where they are read. A scope lacks the
    names of its own function or struct, which its other names may hide, and names after `::`.
    Every scope has the macros.
    """
    scopes: list[Scope] = [set()]
    macros: Scope = set()
    for text in files.values():
        macros.update(re.findall(r"^#define (\w+)", text, flags=re.M))
        text = re.sub(r'/\*.*?\*/|//[^\n]*|"[^"\n]*"|^#[^\n]*', " ", text, flags=re.S | re.M)
        for line in text.splitlines():
            line = re.sub(r"^(?:(struct .*\b)\w+ \{|(\S[^(]*\b)\w+\()", r"\1\2(", line)
            scopes[-1].update(re.findall(r"(?<![\w.>:])[^\W\d]\w*", line))
            if re.match(r"\}|\S.*;$", line):  # the end of a block, or a declaration by itself
                scopes.append(set())
    return [scope | macros for scope in scopes]


def python_scopes(text: str) -> tuple[dict[str, Scope], Scope]:
    """Return function -> its identifiers, and the scope of the module.

    The scope of the module has its own names, the modules that it imports, and the names that
    functions read from outside.
    """
    with _PARSING:
        tree = ast.parse(text)
    functions: dict[str, Scope] = {}
    outer: Scope = set()
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef():
                names = [n for n in ast.walk(node) if isinstance(n, ast.Name)]
                bound = {n.id for n in names if isinstance(n.ctx, ast.Store)}
                bound |= {n.arg for n in ast.walk(node) if isinstance(n, ast.arg)}
                functions[node.name] = functions.get(node.name, set()) | bound
                functions[node.name] |= {n.id for n in names}
                outer |= {n.id for n in names} - bound
            case ast.ImportFrom(module=str(module), level=0):
                outer.add(module.split(".")[0])
    for statement in tree.body:
        match statement:
            case ast.FunctionDef() | ast.ClassDef():
                outer.add(statement.name)
            case ast.Import() | ast.ImportFrom():
                outer |= {(a.asname or a.name).split(".")[0] for a in statement.names}
            case ast.Assign():
                outer |= {n.id for n in ast.walk(statement) if isinstance(n, ast.Name)}
    return functions, outer
