"""`lnm analyze RUN`: what the neurons of a trained network have learned, and what they cost."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from lnm_codegen.cli.output import print_heading, print_json, print_table
from lnm_codegen.errors import ModelError
from lnm_codegen.files import unwritable, write_whole

if TYPE_CHECKING:
    from lnm_codegen.insight import RunAnalysis
    from lnm_codegen.insight.compare import Comparison
    from lnm_codegen.insight.tables import Table
    from lnm_codegen.train.runs.saved import Run

PAGE = "analysis.html"


@dataclass(frozen=True)
class Options:
    """What the command was told.

    Attributes:
        html: Where the page goes; None for `PAGE` in the run, or with --json nowhere.
        figure: Where the grid figure goes; None for nowhere.
        baseline: Another run to compare energy with.
        samples: Use only so many test samples.
        json: Print JSON.
    """

    html: Path | None
    figure: Path | None
    baseline: Path | None
    samples: int | None
    json: bool


def analyze_folder(folder: Path, options: Options) -> None:
    """Analyse a run, write its page and figure, and print what was found."""
    if options.html is not None and options.html.suffix.lower() not in (".html", ".htm"):
        raise ModelError(
            "analyze", f"--html {str(options.html)!r}: accepted: a file that ends in .html"
        )
    if options.samples is not None and options.samples < 1:
        raise ModelError("analyze", f"--samples {options.samples}: accepted: an integer >= 1")
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # idle threads sleep between layers
    from lnm_codegen.insight import analyze_run
    from lnm_codegen.insight.plain import as_dict
    from lnm_codegen.train.runs.saved import load_run

    run = load_run(folder)
    found = analyze_run(run, options.samples)
    beside = None if options.baseline is None else _compared(run, found, options)
    written = _written(found, beside, options)
    if options.json:
        more: dict[str, Any] = {"overhead": None if beside is None else beside.as_dict()}
        print_json({**as_dict(found), **more, "files": [str(path) for path in written]})
        return
    _print(found, beside)
    typer.echo("")
    typer.echo("\n".join(str(path) for path in written))


def _compared(run: Run, found: RunAnalysis, options: Options) -> Comparison:
    from lnm_codegen.insight.analysis import samples_of
    from lnm_codegen.insight.compare import compared
    from lnm_codegen.insight.energy.report import energy
    from lnm_codegen.train.runs.saved import load_run

    assert options.baseline is not None
    other = load_run(options.baseline)
    counts = energy(other.network, samples_of(other, options.samples))
    neurons = [r.network.neurons[0].neuron for r in (run, other)]
    return compared(found.energy, neurons[0], counts, neurons[1], options.baseline)


def _written(found: RunAnalysis, beside: Comparison | None, options: Options) -> list[Path]:
    """Write what was asked for; return the paths."""
    from lnm_codegen.insight.figures import grid_figure, png
    from lnm_codegen.insight.page import page

    where = options.html
    if where is None and not options.json:
        where = found.folder / PAGE
    written = []
    if where is not None:
        _write(where, page(found, () if beside is None else beside.lines).encode(), "--html")
        written.append(where)
    if options.figure is not None:
        _write(options.figure, png(grid_figure(found), dpi=200), "--figure")
        written.append(options.figure)
    return written


def _write(path: Path, data: bytes, option: str) -> None:
    try:
        write_whole(path, data)
    except OSError as error:
        remedy = f"Choose another file with {option}."
        raise unwritable("analyze", path, error, remedy) from None


def _print(found: RunAnalysis, beside: Comparison | None) -> None:
    from lnm_codegen.insight.tables import energy_note, energy_table, layers_table

    typer.secho(f"run {found.folder}: {found.network}", bold=True)
    typer.echo(f"  accuracy {100 * found.accuracy:.2f} % of {found.samples} {found.split} samples")
    for line in found.equations:
        typer.echo(f"  {line}")
    print_heading("Neuron layers")
    _table(layers_table(found))
    for layer in found.layers:
        typer.echo(f"{layer.name}: {layer.learned}")
        if isinstance(layer.dynamics, str):
            typer.echo(f"{layer.name}: no classes: {layer.dynamics}")
    typer.echo(found.diversity)
    print_heading("Energy of an inference")
    _table(energy_table(found.energy))
    typer.echo(energy_note(found.energy))
    for line in () if beside is None else beside.lines:
        typer.echo(line)


def _table(table: Table) -> None:
    print_table(table.header, table.rows, numbers=True)
