"""HTML pages: one file with inline figures. A page runs no script and loads no other file."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeAlias
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from lnm_codegen.backends.render import render
from lnm_codegen.deploy.arrays import LayerReport, NetworkReport
from lnm_codegen.deploy.mismatch import LayerCounts, QuantizationMismatch
from lnm_codegen.insight.analysis import RunAnalysis
from lnm_codegen.insight.figures import panel_figure
from lnm_codegen.insight.tables import interval_text, sample_interval, sections, summary
from lnm_codegen.plot.axes import CLASS_COLORS, COOL, INK, STATE_COLORS
from lnm_codegen.sections import Detail, Lines, Panel, Part, Section, Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
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


# Tables and sections of two networks in fixed point: `lnm report`.


_NO_POWER = "Power and energy are not reported, since no open tool estimates them."
Cell: TypeAlias = Callable[[LayerReport], str]


@dataclass(frozen=True)
class FixedComparison:
    """Two networks in fixed point that differ in their neuron.

    Attributes:
        names: Folders of the run and of its baseline.
        reports: Their reports, with the same layers.
        data: Name of the data set.
        format: Format of the nodes, as given.
        device: Name of the chip.
        note: Why resources are not measured, or None.
    """

    names: tuple[str, str]
    reports: tuple[NetworkReport, NetworkReport]
    data: str
    format: str
    device: str
    note: str | None

    @property
    def title(self) -> str:
        """Neurons and number of samples."""
        run, baseline = self.reports
        return f"{run.neuron} against {baseline.neuron}, {run.mismatch.images} test samples"

    @property
    def layers(self) -> dict[str, str]:
        """Path of each layer -> its title."""
        return {
            path: f"{path}, {layer.array.neurons * layer.array.copies} neurons"
            for path, layer in self.reports[0].layers.items()
        }

    @property
    def source(self) -> str:
        """Origin of the resources."""
        return self.note or f"resources and Fmax: of the array, on {self.device}"


def whole_table(found: FixedComparison) -> Table:
    """Return the table of the networks, with a column for each run."""
    rows = [(title, *(cell(r.mismatch) for r in found.reports)) for title, cell in _WHOLE]
    return Table(("", *found.names), rows, "Networks", numbers=True)


def layer_table(found: FixedComparison, path: str) -> Table:
    """Return the table of a layer, with a column for each run."""
    layers = [r.layers[path] for r in found.reports]
    rows = [(title, *(cell(layer) for layer in layers)) for title, cell in _LAYER]
    return Table(("", *found.names), rows, found.layers[path], numbers=True)


def comparison_sections(found: FixedComparison) -> list[Section]:
    """Return a section for the networks, one for each layer, and one for the resources."""
    whole = (whole_table(found), Detail((), _panels(found), found.title))
    layers = [
        Section(f"Layer {k}: {title}", (layer_table(found, path),))
        for k, (path, title) in enumerate(found.layers.items(), start=1)
    ]
    return [Section("Networks", whole), *layers, Section("Resources", (_NO_POWER, found.source))]


def comparison_summary(found: FixedComparison) -> tuple[tuple[str, str], ...]:
    """Return the title and the text of each of five lines."""
    accuracy = (_accuracy(r.mismatch) for r in found.reports)
    differ = (f"{_percent(r.mismatch.free_running_mismatch, 4)}" for r in found.reports)
    bits = (f"{sum(_memory_bits(x) for x in r.layers.values()):,}" for r in found.reports)
    rates = (_percent_or_dash(_rate(r), 2) for r in found.reports)
    return (
        ("Compared", f"{found.title} of {found.data}, format {found.format}"),
        ("Accuracy in fixed point", " against ".join(accuracy)),
        ("Outputs that differ", f"{' against '.join(differ)} of the steps, free running"),
        ("Circuit", f"{_circuit(found)}; {' against '.join(bits)} bits of states"),
        ("Spikes", f"{' against '.join(rates)} of the steps, in fixed point"),
    )


def _panels(found: FixedComparison) -> list[Panel]:
    """Return bars for each layer: differing outputs, firing rates, LUT where measured."""
    kinds: list[tuple[str, str, Callable[[LayerReport], float | None]]] = [
        ("outputs that differ, free running", "% of the steps",
         lambda r: 100 * r.counts.share("free_running")),
        ("firing rate in fixed point", "% of the steps",
         _fired_percent),
    ]  # fmt: skip
    if found.note is None:
        kinds.append(("LUT of the array", "LUT", _lut))
    made = []
    for title, unit, value in kinds:
        values = tuple([value(x) for x in r.layers.values()] for r in found.reports)
        text = f"Bars for each layer: {title}"
        draw = partial(_draw_bars, title=title, unit=unit, names=found.names, values=values)
        made.append(Panel(text, draw))
    return made


def _draw_bars(
    axis: Axes,
    title: str,
    unit: str,
    names: Sequence[str],
    values: Sequence[Sequence[float | None]],
) -> None:
    axis.set_title(title)
    for k, (name, own) in enumerate(zip(names, values, strict=True)):
        bars = {n + 1 + 0.4 * (k - 0.5): v for n, v in enumerate(own) if v is not None}
        axis.bar(
            list(bars),
            list(bars.values()),
            0.36,
            color=STATE_COLORS[k],
            label=f"{k + 1}: {_short(name)}",
        )
    axis.set_xlabel("layer")
    axis.set_ylabel(unit)
    axis.locator_params(axis="x", integer=True)


def _short(name: str) -> str:
    """Return the end of a path, without the mark of a formula."""
    return name.replace("$", "")[-24:]


def _accuracy(found: QuantizationMismatch) -> str:
    """Return the accuracy in fixed point, with its interval if it has one, and in float."""
    interval = sample_interval(found.correct_fixed, found.predictions, found.images)
    spread = f"{found.predictions:,} predictions"
    if interval is not None:
        spread = f"95 % interval {interval_text(interval)}"
    return f"{_percent(found.accuracy_fixed)} ({spread}; float {_percent(found.accuracy)})"


def _circuit(found: FixedComparison) -> str:
    if found.note is not None:
        return found.note
    sums = (
        f"{sum(_lut(x) * x.array.copies for x in r.layers.values()):,.0f}" for r in found.reports
    )
    return f"{' against '.join(sums)} LUT in all arrays, on {found.device}"


def _lut(layer: LayerReport) -> float:
    return 0.0 if layer.measured is None else float(layer.measured.resources.lut)


def _memory_bits(layer: LayerReport) -> int:
    return layer.state_bits * layer.array.neurons * layer.array.copies


def _rate(report: NetworkReport) -> float | None:
    """Return the firing rate of the layers with spikes, or None if there are none."""
    every = [x.counts for x in report.layers.values() if x.counts.fired_fixed is not None]
    return sum(every, LayerCounts()).rate("fired_fixed") if every else None


def _fired_percent(layer: LayerReport) -> float | None:
    rate = layer.counts.rate("fired_fixed")
    return None if rate is None else 100 * rate


def _percent(share: float, places: int = 2) -> str:
    return f"{100 * share:.{places}f} %"


def _percent_or_dash(share: float | None, places: int = 2) -> str:
    return "-" if share is None else _percent(share, places)


def _cost(word: str) -> Cell:
    def cell(layer: LayerReport) -> str:
        return "-" if layer.measured is None else str(layer.measured.resources.as_dict()[word])

    return cell


def _fmax(layer: LayerReport) -> str:
    median = None if layer.measured is None else layer.measured.median
    return "-" if median is None else f"{median:.0f}"


def _share(word: str) -> Cell:
    return lambda layer: _percent(layer.counts.share(word), 4)


def _firing(word: str) -> Cell:
    return lambda layer: _percent_or_dash(layer.counts.rate(word))


_WHOLE: tuple[tuple[str, Callable[[QuantizationMismatch], str]], ...] = (
    ("accuracy in float", lambda a: _percent(a.accuracy)),
    ("accuracy in fixed point", lambda a: _percent(a.accuracy_fixed)),
    ("outputs equal: one step from the same state", lambda a: _percent(1 - a.one_step_mismatch, 4)),
    ("outputs equal: free running", lambda a: _percent(1 - a.free_running_mismatch, 4)),
)
"""Rows of a network's table: title, cell."""

_LAYER: tuple[tuple[str, Cell], ...] = (
    ("format of x", lambda r: str(r.array.input_format)),
    ("bits of a neuron's states", lambda r: str(r.state_bits)),
    ("bits of all coefficients", lambda r: str(r.coefficient_bits)),
    *((word, _cost(word)) for word in ("LUT", "FF", "DSP", "BRAM")),
    ("Fmax, MHz", _fmax),
    ("cycles of a sample", lambda r: str(r.array.cycles)),
    ("operations of a neuron and step", lambda r: str(sum(r.operations.values()))),
    ("firing rate in float", _firing("fired")),
    ("firing rate in fixed point", _firing("fired_fixed")),
    ("outputs that differ: one step", _share("one_step")),
    ("outputs that differ: free running", _share("free_running")),
    ("outputs that differ: in the network", _share("in_network")),
    ("inputs that saturate", _share("saturated")),
)
"""Rows of a layer's table: title, cell."""
