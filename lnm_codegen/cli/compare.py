"""`lnm compare`: neurons over seeds and settings, from a plan to a table and a figure."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from lnm_codegen.cli.options import Meta, require_place, require_suffix, write_file
from lnm_codegen.cli.output import json_text, print_json, print_table
from lnm_codegen.files import write_all
from lnm_codegen.sections import Table


def compare(
    plan: Annotated[Path, Meta("PLAN.toml")],
    /,
    *,
    out: Annotated[Path | None, Meta("DIR")] = None,
    results: Annotated[Path | None, Meta("FILE.csv")] = None,
    jobs: Annotated[int, Meta("N")] = 1,
    row: Annotated[str | None, Meta("ROW")] = None,
    seed: Annotated[int | None, Meta("N")] = None,
    seeds: Annotated[int | None, Meta("N")] = None,
    phase: Annotated[str | None, Meta("PHASE")] = None,
    minutes: Annotated[float | None, Meta("N")] = None,
    data_dir: Annotated[Path | None, Meta("DIR")] = None,
    reference: Annotated[str | None, Meta("ROW")] = None,
    figure: Annotated[Path | None, Meta("FILE")] = None,
    table: bool = False,
    search: bool = False,
    json: bool = False,
) -> None:
    """Compare neurons over seeds, on any data of `lnm train`.

    Searches the settings of each neuron on held-out samples, trains the best one with each seed on
    all training samples, and tests it once. May be stopped at any moment: the same command goes on.
    Writes a run folder for each run, results.csv, table.md, table.json and figure.svg. If a row
    names a Python file, that file is run.

    Options:
        plan: Neurons, searched settings and seeds.
        out: Folder of runs, table and figure. [default: runs/PLAN]
        results: Results. [default: results.csv in the folder]
        jobs: Number of processes.
        row: A row, or a text in names of several rows.
        seed: Only final runs of this seed.
        seeds: Only the first N seeds of the plan.
        phase: Only this phase: search or final.
        minutes: Begin no run after N minutes.
        data_dir: Folder of the data, if they need one.
        reference: Row that the others are compared with; the plan's.
        figure: Also write the figure here: .svg, .pdf or .png.
        table: Print the table of the results so far; run nothing.
        search: Print every searched setting; run nothing.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # idle threads sleep between layers
    if figure is not None:
        require_suffix("compare", "--figure", figure, ".svg", ".pdf", ".png")
        require_place("compare", "--figure", figure)
    from lnm_codegen.train.comparison.queue import RunSelection, runs_of
    from lnm_codegen.train.comparison.queue import compare as run_all
    from lnm_codegen.train.comparison.table import (
        accuracy_figure,
        figure_data,
        search_table,
        table_of,
    )

    runs = runs_of(plan, out, results, data_dir=data_dir)
    if search:
        header, lines = search_table(runs.plan, runs.results.read())
        if json:
            print_json([dict(zip(header, line, strict=True)) for line in lines])
        else:
            print_table(Table(header, lines))
        return
    if table:
        found = table_of(runs.plan, runs.results.read(), reference)
    else:
        from lnm_codegen.nn.memory import keep_pages

        keep_pages()  # each step allocates and frees the same tensors
        try:
            found = run_all(
                runs.plan, runs.out, results=runs.results.path, data_dir=data_dir,
                selection=RunSelection(row, seed, seeds, phase), reference=reference, jobs=jobs,
                minutes=minutes, progress=True,
            )  # fmt: skip
        except KeyboardInterrupt:
            typer.echo("stopped. The same command goes on.", err=True)
            raise typer.Exit(130) from None
    drawn = any(r.ended for r in found.rows)
    files: dict[Path, str | bytes] = {Path("table.md"): found.markdown()}
    files[Path("table.json")] = json_text(found.as_dict())
    if drawn:
        files[Path("figure.svg")] = figure_data(lambda: accuracy_figure(found.rows))
    written = write_all("compare", runs.out, files, "Give another folder with --out.")
    if figure is not None and drawn:
        data = figure_data(lambda: accuracy_figure(found.rows), figure.suffix[1:].lower())
        write_file("compare", "--figure", figure, data)
        written.append(figure)
    if json:
        print_json({**found.as_dict(), "files": [str(file) for file in written]})
        return
    print_table(Table(found.header, found.cells()))
    typer.echo("")
    for line in (*found.notes(), *map(str, written)):
        typer.echo(line)
