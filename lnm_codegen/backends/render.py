"""Templates to text. The only module that imports Jinja.

A view is a mapping from the names that a template reads to text, numbers, booleans and sequences of
them. Templates loop and test booleans; Python decides types, operators and names before.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import jinja2
import jinja2.meta

from lnm_codegen.errors import InternalError


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
