"""`lnm analyze RUN`: report on what a trained network learned, and its energy."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lnm_codegen.analysis.canvas import require_matplotlib
from lnm_codegen.cli.options import require_page, require_place, write_file
from lnm_codegen.cli.output import print_json, print_sections
from lnm_codegen.sections import Section

if TYPE_CHECKING:
    from lnm_codegen.insight.analysis import RunAnalysis
    from lnm_codegen.insight.energy.table import Comparison
    from lnm_codegen.train.runs.saved import Run

PAGE = "analysis.html"


def analyze_folder(
    folder: Path,
    html: Path | None,
    figure: Path | None,
    baseline: Path | None,
    samples: int | None,
    json: bool,
) -> None:
    """Analyse a run, write its page and figure, and print the results; see `analyze`."""
    place = folder / PAGE if html is None and not json else html
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # idle threads sleep between layers
    from lnm_codegen.insight.analysis import analyze_run
    from lnm_codegen.insight.tables import as_dict, sections, summary
    from lnm_codegen.train.runs.saved import load_run

    run = load_run(folder)
    other = None if baseline is None else _baseline(run, baseline)
    if place is not None:
        require_page("analyze", "--html", place)
    if figure is not None:
        require_place("analyze", "--figure", figure)
        require_matplotlib("analyze")
    found = analyze_run(run, samples)
    beside = None if other is None else _compared(run, found, other, samples)
    notes = () if beside is None else beside.lines
    written = _written(found, notes, place, figure)
    if json:
        more: dict[str, Any] = {"overhead": None if beside is None else beside.as_dict()}
        print_json({**as_dict(found), **more, "files": [str(path) for path in written]})
        return
    head = Section("", [f"{name}: {text}" for name, text in summary(found)])
    shown = [head, *sections(found, notes), Section("Files", [str(path) for path in written])]
    print_sections(shown, f"run {found.folder}: {found.network}")


def _baseline(run: Run, folder: Path) -> Run:
    """Return the run to compare with, or raise ModelError where more than the neuron differs."""
    from lnm_codegen.insight.energy.table import require_same_network
    from lnm_codegen.train.runs.saved import load_run

    other = load_run(folder)
    require_same_network("analyze", run, other)
    return other


def _compared(run: Run, found: RunAnalysis, baseline: Run, samples: int | None) -> Comparison:
    from lnm_codegen.insight.analysis import samples_of
    from lnm_codegen.insight.energy.report import energy
    from lnm_codegen.insight.energy.table import compare_energy
    from lnm_codegen.train.models.base import neurons_of

    counts = energy(baseline.network, samples_of(baseline, samples))
    neurons = [neurons_of(r.network)[0].neuron for r in (run, baseline)]
    return compare_energy(found.energy, neurons[0], counts, neurons[1], baseline.folder)


def _written(
    found: RunAnalysis, notes: Sequence[str], place: Path | None, figure: Path | None
) -> list[Path]:
    """Write page and figure, after both are complete; return their paths."""
    from lnm_codegen.analysis.canvas import png
    from lnm_codegen.insight.figures import grid_figure
    from lnm_codegen.insight.page import run_page

    files: list[tuple[str, Path, bytes]] = []
    if place is not None:
        files.append(("--html", place, run_page(found, notes).encode()))
    if figure is not None:
        files.append(("--figure", figure, png(grid_figure(found), dpi=200)))
    for option, path, content in files:
        write_file("analyze", option, path, content)
    return [path for _, path, _ in files]
