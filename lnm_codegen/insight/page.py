"""The report of an analysis as one HTML page: figures embedded as PNG, no script, no reference."""

from __future__ import annotations

import base64
import html
from dataclasses import dataclass

from lnm_codegen.backends.render import render
from lnm_codegen.insight.analysis import LayerAnalysis, RunAnalysis
from lnm_codegen.insight.figures import grid_figure, layer_figure, png
from lnm_codegen.insight.history import ABSENT
from lnm_codegen.insight.tables import (
    Table,
    certificate_line,
    energy_note,
    energy_table,
    layers_table,
    points_table,
)


@dataclass(frozen=True)
class TableView:
    """A table whose cells are escaped."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class LayerView:
    """A section of the page; every text is escaped."""

    name: str
    learned: str
    figure: str
    dynamics: str
    points: TableView
    certificate: str
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Page:
    """The page; every text is escaped, figures are base64."""

    title: str
    network: str
    accuracy: str
    diversity: str
    equations: tuple[str, ...]
    settings: TableView
    grid: str
    table: TableView
    energy: TableView
    energy_notes: tuple[str, ...]
    layers: tuple[LayerView, ...]


def page(found: RunAnalysis, notes: tuple[str, ...] = ()) -> str:
    """Return the page's text; `notes` stand below the table of energies."""
    settings = Table(
        ("setting", "value"), tuple((k, str(v)) for k, v in found.config.items() if v is not None)
    )
    view = Page(
        title=html.escape(str(found.folder)),
        network=html.escape(found.network),
        accuracy=f"{100 * found.accuracy:.2f} % of {found.samples} {found.split} samples",
        diversity=html.escape(found.diversity),
        equations=tuple(html.escape(line) for line in found.equations),
        settings=_escaped(settings),
        grid=_embedded(png(grid_figure(found), dpi=110)),
        table=_escaped(layers_table(found)),
        energy=_escaped(energy_table(found.energy)),
        energy_notes=tuple(html.escape(n) for n in (energy_note(found.energy), *notes)),
        layers=tuple(_section(layer) for layer in found.layers),
    )
    return render("report/run.html.j2", view)


def _section(layer: LayerAnalysis) -> LayerView:
    notes = []
    if len(layer.chosen) < len(layer.rows):
        notes.append(
            f"{len(layer.chosen)} of {len(layer.rows)} rows, evenly spread, were looked at."
        )
    if layer.history is None:
        notes.append(f"How its parameters moved in training is {ABSENT}.")
    if layer.seen is not None and layer.seen.charged.lost:
        notes.append(f"{layer.seen.charged.lost} potentials were not finite, or beyond 2**20.")
    return LayerView(
        name=html.escape(layer.name),
        learned=html.escape(layer.learned),
        figure=_embedded(png(layer_figure(layer), dpi=90)),
        dynamics=html.escape(layer.dynamics) if isinstance(layer.dynamics, str) else "",
        points=_escaped(points_table(layer)),
        certificate=html.escape(certificate_line(layer)),
        notes=tuple(html.escape(note) for note in notes),
    )


def _escaped(table: Table) -> TableView:
    rows = tuple(tuple(html.escape(cell) for cell in row) for row in table.rows)
    return TableView(tuple(html.escape(word) for word in table.header), rows)


def _embedded(data: bytes) -> str:
    return base64.b64encode(data).decode()
