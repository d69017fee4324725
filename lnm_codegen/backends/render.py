"""Templates to text, and the layout of generated Python. The only module that imports Jinja."""

from __future__ import annotations

import keyword
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import cache

import jinja2
from jinja2 import meta, nodes

from lnm_codegen.errors import InternalError
from lnm_codegen.ir.declarations import Param

# Templates to text. The only module that imports Jinja.
#
# A view is a mapping from the names that a template reads to text, numbers, booleans, sequences of
# them, and records such as a plan. Templates loop and test; Python decides types and operators.


@cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("lnm_codegen", "templates"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )


def render(template: str, view: Mapping[str, object]) -> str:
    """Return a template filled from a view; "file:macro" names a macro without arguments of a file.

    Raises:
        InternalError: The view lacks a name that the template reads, in any branch, or has one
            that it does not read; a record lacks an attribute that the template reads.
    """
    return render_files({template: template}, view)[template]


def render_files(templates: Mapping[str, str], view: Mapping[str, object]) -> dict[str, str]:
    """Return path -> text for templates, given by path, that share one view.

    Raises:
        InternalError: The view lacks a name that a template reads, or has one that none reads.
    """
    where = f"render: {', '.join(templates.values())}"
    read = frozenset[tuple[str, str]]().union(*map(_reads, templates.values()))
    names = {name for name, _ in read}
    if names != view.keys():
        problem = f"the view lacks {sorted(names - view.keys())} and no template reads"
        raise InternalError(where, f"{problem} {sorted(view.keys() - names)}")
    for name, attribute in read:
        if attribute and not _has(view[name], attribute):
            raise InternalError(where, f"{name} has no attribute {attribute!r}")
    return {path: _filled(template, view) for path, template in templates.items()}


def _filled(template: str, view: Mapping[str, object]) -> str:
    file, _, macro = template.partition(":")
    loaded = _environment().get_template(file)
    return str(getattr(loaded.make_module(dict(view)), macro)()) if macro else loaded.render(view)


def _has(record: object, attribute: str) -> bool:
    """Report whether a record has an attribute, without reading it; True for what is no record."""
    if not is_dataclass(record) or isinstance(record, type):
        return True
    return hasattr(type(record), attribute) or attribute in {f.name for f in fields(record)}


@cache
def _reads(template: str) -> frozenset[tuple[str, str]]:
    """Return (name, "") and (name, attribute) of what a template reads of its view.

    Included templates count, and the macros that are called.
    """
    file, _, macro = template.partition(":")
    environment = _environment()
    assert environment.loader is not None
    tree = environment.parse(environment.loader.get_source(environment, file)[0])
    macros = {node.name: node for node in tree.body if isinstance(node, nodes.Macro)}
    others = []
    own = meta.find_undeclared_variables(tree)
    if macro:
        imported = {n for node in tree.find_all(nodes.FromImport) for n in node.names}
        tree = nodes.Template([macros[macro]])
        tree.set_environment(environment)
        named = meta.find_undeclared_variables(tree)
        others = [f"{file}:{name}" for name in named & macros.keys()]
        own = {name for name in named if name not in macros and name not in imported}
    for node in tree.find_all(nodes.Include):
        if isinstance(node.template, nodes.Const):
            others.append(node.template.value)
    attributes = {
        (node.node.name, node.attr)
        for node in tree.find_all(nodes.Getattr)
        if isinstance(node.node, nodes.Name) and node.node.name in own
    }
    found = frozenset((name, "") for name in own) | attributes
    return found.union(*map(_reads, others))


# Layout of generated text: words as lines; for Python lines of at most 100 columns, tuples, names.


def in_lines(words: Sequence[str], width: int, between: str = " ") -> tuple[str, ...]:
    """Return words as lines of at most `width` columns. A word stays whole, with its spaces."""
    text = between.join(word.replace(" ", "\0") for word in words)
    lines = textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)
    return tuple(line.replace("\0", " ") for line in lines)


def call(
    targets: Sequence[str], function: str, arguments: Sequence[str], indent: int = 0
) -> tuple[str, ...]:
    """Return `a, b = function(c, d)` as lines of at most 100 columns, `indent` included."""
    given = ", ".join(targets)
    line = f"{given} = {function}({', '.join(arguments)})"
    if len(line) + indent <= 100:
        return (line,)
    head: tuple[str, ...] = (f"{given} = {function}(",)
    if len(head[0]) + indent > 100:
        head = ("(", *filled(targets, indent + 4), f") = {function}(")
    return (*head, *filled(arguments, indent + 4), ")")


def filled(words: Sequence[str], indent: int) -> tuple[str, ...]:
    """Return words between commas as lines, indented by four columns.

    Lines have at most 100 columns, `indent` included.
    """
    return tuple(f"    {line}" for line in in_lines([f"{w}," for w in words], 100 - indent))


def enclosed(head: str, words: Sequence[str], tail: str = "", indent: int = 0) -> tuple[str, ...]:
    """Return `head a, b tail` as one line, or as several lines in parentheses."""
    line = f"{head}{', '.join(words)}{tail}"
    if len(line) + indent <= 100:
        return (line,)
    opened, closed = (head, tail) if head.endswith("(") else (f"{head}(", f"){tail}")
    return (opened, *filled(words, indent + 4), closed)


def tuple_text(words: Sequence[str]) -> str:
    """Return words as a Python tuple."""
    return f"({', '.join(words)}{',' if len(words) == 1 else ''})"


def shape_text(p: Param, channels: str, inner: str) -> str:
    """Return the shape of a parameter in words; `channels` and `inner` name the axes."""
    rows = {"layer": (), "channel": (channels,), "neuron": (channels, inner)}[p.per]
    shape = (*rows, str(p.size)) if p.size is not None else rows
    text = tuple_text(shape) if shape else "A number"
    return text if p.learnable else f"{text}; has no gradient"


def function_name(name: str) -> str:
    """Return the name of a neuron's function: `if_` for a keyword of Python."""
    return f"{name}_" if keyword.iskeyword(name) else name
