"""Views and templates: every name is on both sides, in any branch and in included templates."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import jinja2
import pytest

from lnm_codegen.backends import render as module
from lnm_codegen.backends.render import render, render_files
from lnm_codegen.errors import InternalError
from tests.refusals import refused

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


@pytest.fixture(autouse=True)
def _templates(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    environment = jinja2.Environment(
        loader=jinja2.DictLoader(TEMPLATES), undefined=jinja2.StrictUndefined
    )
    monkeypatch.setattr(module, "_environment", lambda: environment)
    module._reads.cache_clear()
    yield
    module._reads.cache_clear()


def test_a_template_is_filled() -> None:
    """Loop variables belong to the template; a template without names takes an empty view."""
    assert render("plain", {"a": 1, "rows": ("x", "y")}) == "1 x y"
    assert render("outer", {"a": 1, "deep": 2}) == "1 2"
    assert render("fixed", {}) == "no names"


@pytest.mark.parametrize(
    ("template", "view", "lacks"),
    [
        ("plain", {"a": 1}, ["rows"]),
        ("branch", {"a": 1, "flag": True}, ["rare"]),
        ("outer", {"a": 1}, ["deep"]),
    ],
)
def test_a_missing_name_is_an_error(
    template: str, view: dict[str, object], lacks: list[str]
) -> None:
    """Also in a branch that is not taken, and in an included template."""
    with refused(InternalError, f"render: {template}", f"the view lacks {lacks} and"):
        render(template, view)


def test_a_name_that_no_template_reads_is_an_error() -> None:
    """A leftover in a view is found as well."""
    view = {"a": 1, "rows": (), "b": 2, "more": 3}
    with refused(InternalError, "render: plain", "no template reads ['b', 'more']"):
        render("plain", view)


def test_templates_share_a_view() -> None:
    """Each name is read by one of them at least."""
    view = {"a": 1, "rows": (), "deep": 2}
    texts = render_files({"one": "plain", "two": "inner"}, view)
    assert texts == {"one": "1", "two": "2"}
    with refused(InternalError, "render: plain, inner", "reads ['flag']"):
        render_files({"one": "plain", "two": "inner"}, view | {"flag": True})


def test_a_record_has_the_attributes_that_a_template_reads() -> None:
    """Also in a branch that is not taken; no property is computed for the check."""
    assert render("record", {"flag": False, "item": Item(3)}) == "3"
    with refused(InternalError, "render: record", "item has no attribute 'rare'"):
        render("record", {"flag": False, "item": Other(3)})


@dataclass(frozen=True)
class Other:
    """A record without `rare`."""

    size: int


def test_a_macro_of_a_file_is_a_template() -> None:
    """It takes what it and the macros that it calls read, and nothing that others read."""
    assert render("parts:one", {"a": 1, "b": 2, "end": "."}) == "12."
    assert render("parts:other", {"c": 3}) == "3"
    with refused(InternalError, "render: parts:one", "the view lacks ['end'] and"):
        render("parts:one", {"a": 1, "b": 2})
