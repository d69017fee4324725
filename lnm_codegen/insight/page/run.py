"""Page on what a trained network learned: `lnm analyze RUN`."""

from __future__ import annotations

import json

from lnm_codegen.backends.render import render
from lnm_codegen.insight.analysis import RunAnalysis
from lnm_codegen.insight.history import ABSENT
from lnm_codegen.insight.layer import LayerAnalysis
from lnm_codegen.insight.page.document import (
    Section,
    document,
    figures,
    lines,
    paragraphs,
    table,
)
from lnm_codegen.insight.panels import panels
from lnm_codegen.insight.summary import summary
from lnm_codegen.insight.tables import (
    Table,
    certificate_line,
    classes_note,
    dynamics_table,
    energy_note,
    energy_table,
    layers_table,
    learned_table,
    rows_note,
    typical_lines,
)


def run_page(found: RunAnalysis, notes: tuple[str, ...] = ()) -> str:
    """Return the page; `notes` follow the table of energies.

    Raises:
        ToolError: matplotlib is not installed.
    """
    kept = {key: value for key, value in found.config.items() if value is not None}
    values = (value if isinstance(value, str) else json.dumps(value) for value in kept.values())
    settings = Table(("setting", "value"), tuple(zip(kept, values, strict=True)))
    energies = table(energy_table(found.energy), "Energy of an inference")
    sections = (
        Section("neuron", "Neuron", lines(found.equations)),
        Section("layers", "Layers", _layers(found)),
        Section("energy", "Energy of an inference",
                energies + paragraphs((energy_note(found.energy), *notes))),
        *(
            Section(f"layer-{k}", f"Layer {k}: {layer.name}", _layer(layer, f"f{k}"))
            for k, layer in enumerate(found.layers, start=1)
        ),
        Section("settings", "Settings of the run", table(settings, "Settings of the run")),
    )  # fmt: skip
    return document(found.folder.resolve().name, "lnm analyze", summary(found), sections)


def _layers(found: RunAnalysis) -> str:
    view = {
        "table": table(layers_table(found), "Neuron layers"),
        "note": paragraphs([classes_note(found)]),
        "curves": any(layer.modes is None for layer in found.layers),
        "poles": any(layer.modes is not None for layer in found.layers),
    }
    return render("report/layers.html.j2", view)


def _layer(layer: LayerAnalysis, prefix: str) -> str:
    learned = learned_table([layer])
    notes = [rows_note(layer), *typical_lines(layer)]
    if layer.history is None:
        notes.append(f"The history of the parameters is {ABSENT}.")
    notes.append(layer.advice)
    lost = 0 if layer.activity is None else layer.activity.charged.lost
    if lost:
        problem = "not finite, or 2**20 or more in magnitude"
        notes.append(f"{lost} charged potentials are excluded from the histogram: {problem}.")
    name = "Poles" if layer.modes is not None else "Fixed points"
    points = (
        table(dynamics_table(layer), f"{name} of {layer.name}")
        if layer.labels
        else paragraphs([f"No fixed points and no class: {layer.dynamics}"])
    )
    parts = (
        paragraphs([layer.learned, f"Certificate: {certificate_line(layer)}"]),
        table(learned, f"Learned numbers of {layer.name}") if learned.rows else "",
        figures(panels(layer), prefix, layer.name),
        points,
        paragraphs(notes),
    )
    return "\n".join(parts)
