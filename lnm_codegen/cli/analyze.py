"""`lnm analyze`: what can be proven of a neuron's step."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lnm_codegen.backends.base import unwritable, write_whole
from lnm_codegen.cli.options import (
    DegreeOption,
    FamilyArgument,
    JsonOption,
    SchemeOption,
    SetOption,
    family_arguments,
    parse_format,
    parse_intervals,
)
from lnm_codegen.cli.output import print_json
from lnm_codegen.errors import ModelError
from lnm_codegen.library import resolve

if TYPE_CHECKING:
    from lnm_codegen.analysis.report import Analysis


def analyze(
    family: FamilyArgument,
    degree: DegreeOption = None,
    settings: SetOption = None,
    x: Annotated[
        list[str] | None,
        typer.Option(
            "--x",
            metavar="X|LOW,HIGH",
            help="What every input may be: |x| <= X, or an interval; NAME=LOW,HIGH for one of"
            " several. 1 by default.",
        ),
    ] = None,
    state: Annotated[
        list[str] | None,
        typer.Option(
            "--state",
            metavar="NAME=LOW,HIGH",
            help="A state's interval for the ranges; the invariant one by default.",
        ),
    ] = None,
    format_: Annotated[
        str | None,
        typer.Option(
            "--format", metavar="FORMAT", help="Bound errors in fixed point: 16.12, or Q4.12."
        ),
    ] = None,
    rounding: Annotated[
        str, typer.Option("--rounding", help="half_up, truncate or convergent.")
    ] = "half_up",
    scheme: SchemeOption = "horner",
    figure: Annotated[
        Path | None,
        typer.Option("--figure", metavar="FILE.png", help="Draw the charge against the diagonal."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Prove ranges, invariant intervals, fixed points, errors.

    In exact arithmetic: the range of every node; for bounded input an interval that the states
    never leave, or an input sequence that drives them out; the fixed points of the charge with
    their slopes. With --format also how far a fixed-point step may be from the exact one.
    """
    from lnm_codegen.analysis.report import analyze as analyzed
    from lnm_codegen.cli.analysis_output import as_dict, print_analysis

    if figure is not None and figure.suffix.lower() != ".png":
        raise ModelError(f"analyze: --figure {str(figure)!r}: accepted: a file that ends in .png.")
    spec = None if format_ is None else parse_format(format_, rounding)
    neuron = resolve(family, **family_arguments(settings, degree))
    found = analyzed(
        neuron,
        parse_intervals("--x", x or ["1"], [s.name for s in neuron.inputs], symmetric=True),
        states=parse_intervals("--state", state, [s.name for s in neuron.states])
        if state
        else None,
        spec=spec,
        scheme=scheme,
    )
    if figure is not None:
        _draw(found, figure)
    if json:
        print_json(as_dict(found))
        return
    print_analysis(found)
    if figure is not None:
        typer.echo(f"\n{figure}")


def _draw(found: Analysis, path: Path) -> None:
    from lnm_codegen.analysis.figure import charge_figure

    data = io.BytesIO()
    charge_figure(found).savefig(data, format="png", dpi=150)
    try:
        write_whole(path, data.getvalue())
    except OSError as error:
        remedy = "Choose another file with --figure."
        raise unwritable(f"analyze: cannot write {path}", error, remedy) from None
