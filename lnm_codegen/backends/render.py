"""Templates to text, and the layout of generated Python. The only module that imports Jinja."""

from __future__ import annotations

import keyword
import textwrap
from collections.abc import Mapping, Sequence
from functools import cache

import jinja2
import jinja2.meta

from lnm_codegen.errors import InternalError
from lnm_codegen.ir.declarations import Param

# Templates to text. The only module that imports Jinja.
#
# A view is a mapping from the names that a template reads to text, numbers, booleans and sequences
# of them. Templates loop and test booleans; Python decides types, operators and names before.


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
    """Return a template filled from a view.

    Raises:
        InternalError: The view lacks a name that the template reads, in any branch, or has one
            that it does not read.
    """
    return render_files({template: template}, view)[template]


def render_files(templates: Mapping[str, str], view: Mapping[str, object]) -> dict[str, str]:
    """Return path -> text for templates, given by path, that share one view.

    Raises:
        InternalError: The view lacks a name that a template reads, or has one that none reads.
    """
    read = frozenset[str]().union(*map(_names, templates.values()))
    if read != view.keys():
        raise InternalError(
            f"render: {', '.join(templates.values())}",
            f"the view lacks {sorted(read - view.keys())} and no template reads"
            f" {sorted(view.keys() - read)}",
        )
    environment = _environment()
    return {path: environment.get_template(name).render(view) for path, name in templates.items()}


@cache
def _names(template: str) -> frozenset[str]:
    """Return the names that a template and the templates it includes read."""
    environment = _environment()
    assert environment.loader is not None
    source, _, _ = environment.loader.get_source(environment, template)
    tree = environment.parse(source)
    included = (name for name in jinja2.meta.find_referenced_templates(tree) if name)
    return frozenset(jinja2.meta.find_undeclared_variables(tree)).union(*map(_names, included))


# Layout of generated Python: lines of at most 100 columns, tuples, names.


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
    whole = ", ".join(word.replace(" ", "\0") for word in words) + ","
    wrapped = textwrap.wrap(whole, 100 - indent, break_long_words=False, break_on_hyphens=False)
    return tuple("    " + line.replace("\0", " ") for line in wrapped)


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
