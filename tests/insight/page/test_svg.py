"""Figures as inline SVG: the same lines as matplotlib's, in the colours of the page."""

from __future__ import annotations

import itertools
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure

from lnm_codegen.analysis.canvas import new_figure
from lnm_codegen.insight.page import COLORS, inline_svg
from lnm_codegen.plot.axes import INK

HOSTILE = "<script>alert('x')</script>\"&amp;"


def drawn(text: str = "spike") -> Figure:
    figure = new_figure("test", 3, 2)
    axes = figure.subplots()
    axes.plot([0, 1, 2], [0, 1, 0], "o-", color=INK, label="line", clip_on=True)
    axes.fill_between([0, 1, 2], [0, 1, 0], alpha=0.2)
    axes.set_xlabel(text)
    return figure


@settings(deadline=None, max_examples=15)
@given(st.lists(st.floats(0, 1, width=32), min_size=3, max_size=20))
def test_a_line_is_where_matplotlib_draws_it(values: list[float]) -> None:
    """Every vertex is within the rounding, 0.05 of 1/72 inch in each direction."""
    figure = new_figure("test", 3, 2)
    axes = figure.subplots()
    x = np.linspace(0, 1, len(values))
    axes.plot(x, values, color="#123456")
    axes.set_axis_off()
    svg = ElementTree.fromstring(inline_svg(figure, "line", "a"))
    (path,) = (e for e in svg.iter("path") if e.get("stroke") == "#123456")
    found = np.array([float(n) for n in re.findall(r"-?[\d.]+", path.attrib["d"])]).reshape(-1, 2)
    wanted = axes.transData.transform(np.column_stack([x, values])) * 72 / figure.dpi
    wanted[:, 1] = 144 - wanted[:, 1]
    for point in wanted:  # matplotlib leaves out points within a line
        ends = itertools.pairwise(found)
        assert min(_distance(point, *pair) for pair in ends) < 0.2
    for point in found:
        ends = itertools.pairwise(wanted)
        assert min(_distance(point, *pair) for pair in ends) < 0.2


def _distance(p: np.ndarray, a: np.ndarray, b: np.ndarray) -> float:
    along = b - a
    t = np.clip(np.dot(p - a, along) / max(np.dot(along, along), 1e-12), 0, 1)
    return float(np.hypot(*(a + t * along - p)))


def test_text_stays_text_and_is_escaped() -> None:
    svg = inline_svg(drawn(HOSTILE), HOSTILE, "a")
    assert "<script" not in svg
    root = ElementTree.fromstring(svg)
    assert root.attrib["aria-label"] == HOSTILE
    assert root.attrib["role"] == "img"
    assert HOSTILE in [element.text for element in root.iter("text")]
    assert "http" not in svg


def test_colours_are_those_of_the_page() -> None:
    """No black and no white remains: both follow the colour scheme."""
    svg = inline_svg(drawn(), "line", "a")
    assert not [color for color in COLORS if color in svg.lower()]
    assert "currentColor" in svg
    assert COLORS[INK.lower()] in svg


def test_identifiers_of_two_figures_differ() -> None:
    """Each reference leads to an element of its own figure; the text depends on nothing else."""
    first, second = (inline_svg(drawn(), "line", prefix) for prefix in ("a-", "b-"))
    ids = [set(re.findall(r' id="([^"]+)"', svg)) for svg in (first, second)]
    assert ids[0]
    assert not ids[0] & ids[1]
    for svg, own in zip((first, second), ids, strict=True):
        assert set(re.findall(r'(?:href="#|url\(#)([^")]+)', svg)) == own
    assert inline_svg(drawn(), "line", "a-") == first


@pytest.mark.parametrize("rows", [1, 40])
def test_equal_lines_are_one_path(rows: int) -> None:
    figure = new_figure("test", 3, 2)
    axes = figure.subplots()
    for k in range(rows):
        axes.plot([0, 1], [k, k + 1], color="#123456", linewidth=0.5)
    root = ElementTree.fromstring(inline_svg(figure, "lines", "a"))
    (path,) = (e for e in root.iter("path") if e.get("stroke") == "#123456")
    assert path.attrib["d"].count("M") == rows
