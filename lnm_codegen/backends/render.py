"""Templates to text. The only module that imports Jinja.

Templates receive frozen views made of strings and tuples of strings. They loop, and they test a
boolean; every decision about types, operators and names is made in Python before.
"""

from __future__ import annotations

from dataclasses import fields
from functools import cache
from typing import Any

import jinja2


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


def render(template: str, view: Any) -> str:
    """Return a template filled from the fields of a dataclass."""
    values = {f.name: getattr(view, f.name) for f in fields(view)}
    return _environment().get_template(template).render(values)
