"""HTML pages: one file with inline figures. A page runs no script and loads no other file."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from lnm_codegen.backends.render import render
from lnm_codegen.insight.analysis import RunAnalysis
from lnm_codegen.insight.figures import panel_figure
from lnm_codegen.insight.tables import sections, summary
from lnm_codegen.plot.axes import CLASS_COLORS, COOL, INK
from lnm_codegen.sections import Detail, Lines, Part, Section, Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure


# Figures of matplotlib as compact inline SVG.
#
# Text stays text. Black, white and the shades of `COLORS` become CSS variables of the page, so that
# a figure follows its colour scheme. Coordinates have one decimal of 1/72 inch.


COLORS = {
    "#000000": "currentColor", "#1b1b1b": "currentColor", "#ffffff": "var(--paper)",
    COOL: "var(--cool)", "#cccccc": "var(--rule)", "#7a4fa3": "var(--path)",
    INK.lower(): "var(--blue)", CLASS_COLORS["unstable but reset"]: "var(--brown)",
}  # fmt: skip
"""Colour of a figure -> colour of the page."""
_SVG_NUMBER = re.compile(r"-?\d+\.\d+(?:e-?\d+)?")
_SHARED = ("fill", "stroke", "style", "stroke-width", "stroke-opacity", "fill-opacity", "href")
_IGNORED = {"stroke-linecap", "stroke-linejoin", "stroke-miterlimit", "font", "mix-blend-mode"}
_FONT_SIZE = re.compile(r"(?:^|[\s:])([\d.]+)px")


def inline_svg(figure: Figure, text: str, prefix: str) -> str:
    """Return a figure as an `svg` element for HTML.

    Args:
        figure: The figure.
        text: Its alternative text.
        prefix: Begins the identifiers of the figure; each figure of a page has its own.
    """
    import matplotlib

    data = io.BytesIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": prefix}):
        figure.savefig(data, format="svg", transparent=True, metadata={"Date": None})
    root = ElementTree.fromstring(data.getvalue())
    box = " ".join(f"{float(number):g}" for number in root.attrib["viewBox"].split())
    svg = Element("svg", {"viewBox": box, "role": "img", "aria-label": text})
    svg.extend(_merged([part for child in root for part in _compact(child, prefix)]))
    return ElementTree.tostring(svg, encoding="unicode", short_empty_elements=True)


def _compact(element: Element, prefix: str, places: int = 1) -> Iterator[Element]:
    """Yield an element without namespaces, metadata and groups that have no attributes."""
    tag = element.tag.rpartition("}")[2]
    if tag in ("metadata", "style"):
        return
    attributes = dict(_attributes(element, tag, prefix, places))
    inner = 2 if tag == "defs" else places
    children = _merged([part for child in element for part in _compact(child, prefix, inner)])
    if tag == "defs" and not children:
        return
    if tag == "g" and not attributes:
        yield from children
        return
    if tag == "g" and not children:
        return
    if attributes.get("d") == "":
        return
    found = Element(tag, attributes)
    found.text = (element.text or "").strip() or None
    found.extend(children)
    if tag == "g":
        _share_path(found)
    yield found


def _attributes(element: Element, tag: str, prefix: str, places: int) -> Iterator[tuple[str, str]]:
    for key, value in element.attrib.items():
        name = key.rpartition("}")[2]
        if name == "style":
            yield from _styles(value)
        elif name == "id":
            if tag in ("path", "clipPath"):
                yield "id", prefix + value
        elif name == "href":
            yield "href", f"#{prefix}{value[1:]}"
        elif name == "clip-path":
            yield "clip-path", value.replace("url(#", f"url(#{prefix}")
        elif name == "d":
            yield "d", _path(value, places)
        elif name not in ("type", "space"):
            yield name, _rounded(value, places)


def _styles(text: str) -> Iterator[tuple[str, str]]:
    """Yield the properties of a style as attributes; a variable of CSS stays in a style."""
    variables = []
    for part in text.split(";"):
        name, _, value = (word.strip() for word in part.partition(":"))
        size = _FONT_SIZE.search(value) if name == "font" else None
        if size:
            yield "font-size", size[1]
        if not name or name in _IGNORED:
            continue
        value = COLORS.get(value.lower(), value)
        if value.startswith("var("):
            variables.append(f"{name}:{value}")
        else:
            yield name, _rounded(value, 2)
    if variables:
        yield "style", ";".join(variables)


def _rounded(text: str, places: int) -> str:
    return _SVG_NUMBER.sub(lambda found: _short_path(float(found[0]), places), text)


def _short_path(value: float, places: int) -> str:
    text = f"{value:.{places}f}".rstrip("0").rstrip(".") if places else f"{value:.0f}"
    return "0" if text in ("-0", "") else text


def _path(text: str, places: int) -> str:
    """Return path data with rounded numbers; a line to the present point is left out."""
    parts: list[str] = []
    command, at = "", ""
    for found in re.finditer(r"([MLQCZz])([^MLQCZz]*)", text):
        point = " ".join(_short_path(float(word), places) for word in found[2].split())
        if found[1] == "L" and point == at:
            continue
        parts.append(f" {point}" if found[1] == "L" and command in "ML" and command
                     else found[1] + point)  # fmt: skip
        command, at = found[1], " ".join(point.split()[-2:])
    return "".join(parts)


def _merged(elements: list[Element]) -> list[Element]:
    """Join neighbouring paths whose other attributes are equal."""
    found: list[Element] = []
    for element in elements:
        last = found[-1] if found else None
        if last is not None and last.tag == element.tag == "path" and "id" not in element.attrib:
            rest = [{k: v for k, v in one.attrib.items() if k != "d"} for one in (last, element)]
            if rest[0] == rest[1]:
                last.attrib["d"] += element.attrib["d"]
                continue
        found.append(element)
    return found


def _share_path(group: Element) -> None:
    """Move attributes that all children of a group have to the group."""
    children = list(group)
    for name in _SHARED:
        values = {child.attrib.get(name) for child in children}
        if len(values) == 1 and None not in values and name != "href" and name not in group.attrib:
            group.attrib[name] = str(values.pop())
            for child in children:
                del child.attrib[name]


# The document, its sections, tables and figures. Every text is escaped here.


_LONG = 26
"""Characters of a cell that is not broken into lines."""
_NUMBER = re.compile(r"-|[-+]?[\d,.]+(e[-+]?\d+)?( %)?")


def document(
    title: str, kind: str, summary: Iterable[tuple[str, str]], sections: Iterable[Section]
) -> str:
    """Return a page.

    Args:
        title: Its title.
        kind: A few words on what it describes.
        summary: Titles and texts of the lines of the summary.
        sections: The sections, first to last, also their details.

    Raises:
        ToolError: matplotlib is not installed.
    """
    view = {
        "title": html.escape(title),
        "kind": html.escape(kind),
        "summary": tuple((html.escape(name), html.escape(text)) for name, text in summary),
        "sections": tuple(
            (_anchor(s.title), html.escape(s.title), _content(s.parts, f"f{k}"))
            for k, s in enumerate(sections)
        ),
    }
    return render("report/page.html.j2", view)


def _anchor(title: str) -> str:
    return re.sub(r"\W+", "-", title.partition(":")[0].lower())


def _content(parts: Iterable[Part], prefix: str) -> str:
    found = []
    for part in parts:
        if isinstance(part, Lines):
            text = html.escape("\n".join(part.lines))
            found.append(f'<pre tabindex="0">{text}</pre>')
        elif isinstance(part, Detail):
            found += [_figures(part, prefix), _content(part.parts, prefix)]
        elif isinstance(part, Table):
            found.append(_table(part))
        elif part:
            found.append(f"<p>{html.escape(part)}</p>")
    return "\n".join(text for text in found if text)


def _table(content: Table) -> str:
    """Return a table in a box that scrolls, or "" without rows."""
    if not content.rows:
        return ""
    rows = [[str(cell) for cell in row] for row in content.rows]
    numbers = [
        all(not cell or _NUMBER.fullmatch(cell) for cell in column)
        for column in zip(*rows, strict=True)
    ]
    kinds = [' class="number"' if number else "" for number in numbers]
    cells = tuple(
        tuple(
            (html.escape(cell), kind or (' class="long"' if len(cell) > _LONG else ""))
            for cell, kind in zip(row, kinds, strict=True)
        )
        for row in rows
    )
    header = tuple(zip(map(html.escape, content.header), kinds, strict=True))
    view = {"header": header, "rows": cells, "caption": html.escape(content.caption)}
    return render("report/table.html.j2", view)


def _figures(detail: Detail, prefix: str) -> str:
    """Return a grid of figures, or "" without any; the prefix begins their identifiers."""
    found = []
    for k, panel in enumerate(detail.panels):
        title, figure = panel_figure(panel)
        svg = inline_svg(figure, f"{panel.text}. {detail.where}", f"{prefix}-{k}-")
        found.append((svg, html.escape(title)))
    return render("report/figures.html.j2", {"figures": tuple(found)}) if found else ""


def run_page(found: RunAnalysis, notes: Sequence[str] = ()) -> str:
    """Return the page of `lnm analyze RUN`; `notes` follow the table of energies."""
    name = found.folder.resolve().name  # "." has none
    return document(name, "lnm analyze", summary(found), sections(found, notes))
