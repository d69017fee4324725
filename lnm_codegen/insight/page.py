"""HTML report of an analysis, without scripts or external files; figures are embedded as PNG."""

from __future__ import annotations

import base64
import html

from lnm_codegen.backends.render import render
from lnm_codegen.insight.analysis import LayerAnalysis, RunAnalysis
from lnm_codegen.insight.figures import grid_figure, layer_figure, png
from lnm_codegen.insight.history import ABSENT
from lnm_codegen.insight.tables import (
    Table,
    certificate_line,
    classes_note,
    dynamics_table,
    energy_note,
    energy_table,
    layers_table,
    rows_note,
    typical_lines,
)


def page(found: RunAnalysis, notes: tuple[str, ...] = ()) -> str:
    """Return the page; `notes` follow the table of energies. Every text is escaped."""
    settings = Table(
        ("setting", "value"), tuple((k, str(v)) for k, v in found.config.items() if v is not None)
    )
    view = {
        "title": html.escape(str(found.folder)),
        "network": html.escape(found.network),
        "accuracy": f"{100 * found.accuracy:.2f} % of {found.samples} {found.split} samples",
        "diversity": html.escape(found.diversity),
        "equations": tuple(html.escape(line) for line in found.equations),
        "settings": _table(settings),
        "grid": _embedded(png(grid_figure(found), dpi=110)),
        "table": _table(layers_table(found)),
        "energy": _table(energy_table(found.energy)),
        "energy_notes": tuple(html.escape(n) for n in (energy_note(found.energy), *notes)),
        "note": html.escape(classes_note(found)),
        "curves": any(layer.modes is None for layer in found.layers),
        "poles": any(layer.modes is not None for layer in found.layers),
        "sections": tuple(_section(layer) for layer in found.layers),
    }
    return render("report/run.html.j2", view)


def _section(layer: LayerAnalysis) -> str:
    notes = [rows_note(layer), *typical_lines(layer)]
    if layer.history is None:
        notes.append(f"The history of the parameters is {ABSENT}.")
    notes.append(layer.advice)
    lost = 0 if layer.activity is None else layer.activity.charged.lost
    if lost:
        problem = "not finite, or 2**20 or more in magnitude"
        notes.append(f"{lost} charged potentials are excluded from the histogram: {problem}.")
    view = {
        "name": html.escape(layer.name),
        "poles": layer.modes is not None,
        "learned": html.escape(layer.learned),
        "figure": _embedded(png(layer_figure(layer), dpi=90)),
        "dynamics": "" if layer.labels else html.escape(str(layer.dynamics)),
        "points": _table(dynamics_table(layer)),
        "certificate": html.escape(certificate_line(layer)),
        "notes": tuple(html.escape(note) for note in notes if note),
    }
    return render("report/layer.html.j2", view)


def _table(table: Table) -> str:
    rows = tuple(tuple(html.escape(cell) for cell in row) for row in table.rows)
    header = tuple(html.escape(word) for word in table.header)
    return render("report/table.html.j2", {"header": header, "rows": rows})


def _embedded(data: bytes) -> str:
    return base64.b64encode(data).decode()
