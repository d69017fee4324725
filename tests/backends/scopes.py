"""Scopes of generated code, read from its text: an oracle for those that backends declare."""

from __future__ import annotations

import ast
import re
import threading
from collections.abc import Mapping

from lnm_codegen.backends.names import Scope

_PARSING = threading.Lock()
"""CPython 3.11 counts the depth of a tree once for all threads: `ast.parse` in two of them, with
another switch of threads during garbage collection, raises SystemError."""


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
