"""`lnm analyze`: proofs about a neuron's step, or a report on a trained network."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lnm_codegen.cli.options import (
    FAMILY_HELP,
    DegreeOption,
    JsonOption,
    SchemeOption,
    SetOption,
    family_arguments,
    parse_format,
    parse_intervals,
    require_suffix,
    write_file,
)
from lnm_codegen.cli.output import print_json
from lnm_codegen.errors import ModelError
from lnm_codegen.families import FAMILIES
from lnm_codegen.families.library import resolve
from lnm_codegen.validation import did_you_mean

if TYPE_CHECKING:
    from lnm_codegen.analysis.report import Analysis


def analyze(
    subject: Annotated[
        str,
        typer.Argument(
            metavar="FAMILY|RUN",
            help=f"{FAMILY_HELP}; or a folder that `lnm train` wrote.",
        ),
    ],
    degree: DegreeOption = None,
    settings: SetOption = None,
    x: Annotated[
        list[str] | None,
        typer.Option(
            "--x",
            metavar="X|LOW,HIGH",
            help="Interval of every input: X for |x| <= X, or LOW,HIGH; NAME=LOW,HIGH for one of"
            " several inputs. A run's inputs are those of its test samples.  [default: 1]",
        ),
    ] = None,
    state: Annotated[
        list[str] | None,
        typer.Option(
            "--state",
            metavar="NAME=LOW,HIGH",
            help="Interval of a state, for the ranges.  [default: the invariant interval]",
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
            help="Draw the charge and the diagonal; of a run, for every layer.",
        ),
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(
            "--html", metavar="FILE.html", help="Page of a run.  [default: RUN/analysis.html]"
        ),
    ] = None,
    baseline: Annotated[
        Path | None,
        typer.Option("--baseline", metavar="RUN", help="The same network with another neuron."),
    ] = None,
    samples: Annotated[
        int | None,
        typer.Option("--samples", metavar="N", help="Use only N test samples of a run."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Prove properties of a neuron's step, or show what a run learned.

    For a family, in exact arithmetic: the range of every node; for bounded input an interval that
    the states never leave, or an input sequence that drives them out; the fixed points of the
    charge and their slopes. With --format also a bound on the error of a fixed-point step.

    For a run: the class of behaviour, fixed points, a certificate, firing rates and the visited
    interval of each layer, on the test samples, and the energy of an inference, with --baseline
    beside that of another run. A page with figures goes into the run, or to --html. With --json
    the page is written only if --html is given.
    """
    require_suffix("analyze", "--figure", figure, ".png")
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
    """Return the reason why a subject is not a run. Refuse a subject that is neither."""
    known = subject in FAMILIES or ":" in subject or subject.endswith((".toml", ".py"))
    if not known and not Path(subject).exists():
        raise ModelError(
            "analyze",
            f"no family, file or folder {subject!r}",
            (
                f"{', '.join(FAMILIES)}; a .toml file, file.py:function, module:function; a folder "
                "that lnm train wrote"
            ),
            did_you_mean(subject, FAMILIES),
        )
    if not Path(subject).is_dir():
        return f"{subject} is a family, not the folder of a run"
    typer.echo(f"note: {subject} is the family; give ./{subject} for the folder.", err=True)
    return f"{subject} is a family, not the folder of a run, which is ./{subject}"


def is_run(subject: str) -> bool:
    """Report whether a subject is a run: a folder whose name is not a family's."""
    return subject not in FAMILIES and Path(subject).is_dir()


def _refuse(options: dict[str, Any], what: str) -> None:
    for option, value in options.items():
        if value is not None:
            raise ModelError("analyze", what, remedy=f"Omit {option}.")


def _draw(found: Analysis, path: Path) -> None:
    from lnm_codegen.analysis.figure import charge_figure

    data = io.BytesIO()
    charge_figure(found).savefig(data, format="png", dpi=150)
    write_file("analyze", "--figure", path, data.getvalue())
