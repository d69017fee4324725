"""`lnm analyze`: what can be proven of a neuron's step, or what a trained network has learned."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lnm_codegen.cli.options import (
    DegreeOption,
    JsonOption,
    SchemeOption,
    SetOption,
    family_arguments,
    parse_format,
    parse_intervals,
)
from lnm_codegen.cli.output import print_json
from lnm_codegen.errors import ModelError
from lnm_codegen.families import FAMILIES
from lnm_codegen.families.library import resolve
from lnm_codegen.files import unwritable, write_whole
from lnm_codegen.validation import did_you_mean

if TYPE_CHECKING:
    from lnm_codegen.analysis.report import Analysis


def analyze(
    subject: Annotated[
        str,
        typer.Argument(
            metavar="FAMILY|RUN",
            help="A built-in name, a .toml file, file.py:function or module:function; or a folder"
            " that `lnm train` wrote.",
        ),
    ],
    degree: DegreeOption = None,
    settings: SetOption = None,
    x: Annotated[
        list[str] | None,
        typer.Option(
            "--x",
            metavar="X|LOW,HIGH",
            help="What every input may be: |x| <= X, or an interval; NAME=LOW,HIGH for one of"
            " several. 1 by default. A run's inputs are those of its test samples.",
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
        typer.Option(
            "--figure",
            metavar="FILE.png",
            help="Draw the charge against the diagonal; of a run, that of every layer.",
        ),
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(
            "--html", metavar="FILE.html", help="Of a run: its page; RUN/analysis.html by default."
        ),
    ] = None,
    baseline: Annotated[
        Path | None,
        typer.Option(
            "--baseline", metavar="RUN", help="Of a run: the same network with another neuron."
        ),
    ] = None,
    samples: Annotated[
        int | None,
        typer.Option("--samples", metavar="N", help="Of a run: use only N test samples."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Prove what a neuron's step does, or show what a run learned.

    Of a family, in exact arithmetic: the range of every node; for bounded input an interval that
    the states never leave, or an input sequence that drives them out; the fixed points of the
    charge with their slopes. With --format also how far a fixed-point step may be from the exact
    one.

    Of a run: for each layer the class of behaviour, fixed points, a certificate, firing rates and
    what was visited on the test samples, and the energy of an inference, with --baseline beside
    that of another run. A page with figures is written into the run, or with --html elsewhere; with
    --json nothing is written unless asked for.
    """
    if figure is not None and figure.suffix.lower() != ".png":
        raise ModelError("analyze", f"--figure {str(figure)!r}: accepted: a file that ends in .png")
    if is_run(subject):
        given = {"--degree": degree, "--set": settings, "--x": x, "--state": state,
                 "--format": format_}  # fmt: skip
        _refuse(given, f"{subject} is a run, whose neurons are trained")
        from lnm_codegen.cli.analyze_run import Options, analyze_folder

        analyze_folder(Path(subject), Options(html, figure, baseline, samples, json))
        return
    _refuse({"--html": html, "--baseline": baseline, "--samples": samples}, _no_run(subject))
    from lnm_codegen.analysis.report import analyze as analyzed
    from lnm_codegen.cli.analysis_output import as_dict, print_analysis

    spec = None if format_ is None else parse_format(format_, rounding)
    neuron = resolve(subject, **family_arguments(settings, degree))
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


def _no_run(subject: str) -> str:
    """Say that a subject is a family; refuse a path that is nothing."""
    known = subject in FAMILIES or ":" in subject or subject.endswith((".toml", ".py"))
    if not known and not Path(subject).exists():
        raise ModelError(
            f"analyze: {subject}",
            "no such family, file or folder",
            (
                f"{', '.join(FAMILIES)}; a .toml file, file.py:function, module:function; a folder "
                "that lnm train wrote"
            ),
            did_you_mean(subject, FAMILIES),
        )
    if not Path(subject).is_dir():
        return f"{subject} is a family, not the folder of a run"
    typer.echo(f"note: {subject} is taken as the family; the folder is ./{subject}.", err=True)
    return f"{subject} is a family, not the folder of a run, which is ./{subject}"


def is_run(subject: str) -> bool:
    """Say whether the command was given a run: a folder, unless a family has its name."""
    return subject not in FAMILIES and Path(subject).is_dir()


def _refuse(options: dict[str, Any], what: str) -> None:
    for option, value in options.items():
        if value is not None:
            raise ModelError("analyze", str(what), remedy=f"Leave {option} out.")


def _draw(found: Analysis, path: Path) -> None:
    from lnm_codegen.analysis.figure import charge_figure

    data = io.BytesIO()
    charge_figure(found).savefig(data, format="png", dpi=150)
    try:
        write_whole(path, data.getvalue())
    except OSError as error:
        remedy = "Choose another file with --figure."
        raise unwritable("analyze", path, error, remedy) from None
