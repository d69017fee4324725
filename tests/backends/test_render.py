"""Views and templates: every name is on both sides, in any branch and in included templates."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import jinja2
import pytest

from lnm_codegen.backends import render as module
from lnm_codegen.backends.render import render, render_files
from lnm_codegen.errors import InternalError
from tests.refusals import assert_refused

TEMPLATES = {
    "plain": "{{ a }}{% for b in rows %} {{ b }}{% endfor %}",
    "branch": "{% if flag %}{{ a }}{% else %}{{ rare }}{% endif %}",
    "outer": "{{ a }} {% include 'inner' %}",
    "inner": "{{ deep }}",
    "fixed": "no names",
    "record": "{% if flag %}{{ item.rare }}{% else %}{{ item.size }}{% endif %}",
    "parts": "{% macro line(x) %}{{ x }}{{ end }}{% endmacro %}"
    "{% macro one() %}{{ a }}{{ line(b) }}{% endmacro %}{% macro other() %}{{ c }}{% endmacro %}",
}


@dataclass(frozen=True)
class Item:
    """A record of a view."""

    size: int

    @property
    def rare(self) -> int:
        """Nothing reads it before it is needed."""
        raise AssertionError


@dataclass(frozen=True)
class Other:
    """A record without `rare`."""

    size: int


@pytest.fixture(autouse=True)
def _templates(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    environment = jinja2.Environment(
        loader=jinja2.DictLoader(TEMPLATES), undefined=jinja2.StrictUndefined
    )
    monkeypatch.setattr(module, "_environment", lambda: environment)
    module._reads.cache_clear()
    yield
    module._reads.cache_clear()


def test_templates_are_filled() -> None:
    """Loop variables belong to a template; one without names takes an empty view.

    A macro of a file takes what it and the macros that it calls read. No property of a record is
    computed for the check.
    """
    assert render("plain", {"a": 1, "rows": ("x", "y")}) == "1 x y"
    assert render("outer", {"a": 1, "deep": 2}) == "1 2"
    assert render("fixed", {}) == "no names"
    view = {"a": 1, "rows": (), "deep": 2}
    assert render_files({"one": "plain", "two": "inner"}, view) == {"one": "1", "two": "2"}
    assert render("record", {"flag": False, "item": Item(3)}) == "3"
    assert render("parts:one", {"a": 1, "b": 2, "end": "."}) == "12."
    assert render("parts:other", {"c": 3}) == "3"


def test_every_name_is_on_both_sides() -> None:
    """Also in a branch that is not taken, in an included template, and in a record."""
    table = """
render: plain
    render("plain", {"a": 1}) >> the view lacks ['rows'] and
    render("plain", {"a": 1, "rows": (), "b": 2, "more": 3}) >> no template reads ['b', 'more']
render: branch
    render("branch", {"a": 1, "flag": True}) >> the view lacks ['rare'] and
render: outer
    render("outer", {"a": 1}) >> the view lacks ['deep'] and
render: plain, inner
    render_files({"one": "plain", "two": "inner"}, {"a": 1, "rows": (), "deep": 2, "flag": True})
        >> reads ['flag']
render: record
    render("record", {"flag": False, "item": Other(3)}) >> item has no attribute 'rare'
render: parts:one
    render("parts:one", {"a": 1, "b": 2}) >> the view lacks ['end'] and
"""
    assert_refused(table, globals(), InternalError)
