"""`lnm analyze`: proofs about a neuron's step, or a report on a trained network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lnm_codegen.cli.options import (
    Degree,
    Meta,
    Settings,
    Subject,
    family_arguments,
    given_options,
    parse_format,
    parse_intervals,
    require_suffix,
    write_file,
)
from lnm_codegen.cli.output import print_json, print_sections
from lnm_codegen.errors import ModelError
from lnm_codegen.families import FAMILIES
from lnm_codegen.families.library import resolve
from lnm_codegen.options import SchemeName
from lnm_codegen.validation import Count, did_you_mean

if TYPE_CHECKING:
    pass

OF_A_FAMILY = ("--degree", "--set", "--x", "--state", "--format", "--rounding", "--scheme")


def analyze(
    subject: Subject,
    /,
    *,
    context: typer.Context,
    degree: Degree = None,
    set_: Settings = None,
    x: Annotated[list[str] | None, Meta("X|LOW,HIGH")] = None,
    state: Annotated[list[str] | None, Meta("NAME=LOW,HIGH")] = None,
    format_: Annotated[str | None, Meta("FORMAT")] = None,
    rounding: str | None = None,
    scheme: SchemeName = "horner",
    figure: Annotated[Path | None, Meta("FILE.png")] = None,
    html: Annotated[Path | None, Meta("FILE.html")] = None,
    baseline: Annotated[Path | None, Meta("RUN")] = None,
    samples: Annotated[Count | None, Meta("N")] = None,
    json: bool = False,
) -> None:
    """Prove properties of a neuron's step, or report on a run.

    For a family, print the range of every node and the fixed points of the charge, in exact
    arithmetic. For bounded input, print an interval that the states never leave, or an input
    sequence that drives them out. With --format, bound the error of a fixed-point step.

    For a run, print class of behaviour, fixed points, certificate, firing rates and visited
    interval of each layer, on the test samples. Print the energy of an inference; --baseline
    compares it with another run. Write an HTML report, with --json only if --html is given.
    If a run's family is a Python file or a module, its code is run.

    Options:
        x: Interval of every input: X for |x| <= X, or LOW,HIGH; NAME=LOW,HIGH for one of several
            inputs. A run's inputs are those of its test samples. [default: 1]
        state: Interval of a state, for the ranges. [default: the invariant interval]
        format_: Bound errors in fixed point: 16.12 (width.fraction) or Q4.12 for every node.
        figure: Plot of a family: charge, or poles, responses, firing rate and phase plane. Of a
            run: one panel per layer.
        html: HTML report of a run. [default: RUN/analysis.html]
        baseline: Run of the same network with another neuron, to compare energy.
        samples: Use only N test samples of a run.
    """
    require_suffix("analyze", "--figure", figure, ".png")
    given = given_options(context)
    if is_run(subject):
        _refuse(given, OF_A_FAMILY, f"applies to a family, but {subject} is a training run")
        from lnm_codegen.cli.analyze_run import analyze_folder

        analyze_folder(Path(subject), html, figure, baseline, samples, json)
        return
    of_a_run = ("--html", "--baseline", "--samples")
    conflict = f"applies to a run, but {subject} is a family"
    _refuse(given, of_a_run, conflict, _family_note(subject))
    from lnm_codegen.analysis.report import analyze as analyzed

    if rounding is not None and format_ is None:
        problem, remedy = "--rounding is for fixed point", "Add --format 16.12, say."
        raise ModelError("analyze", problem, remedy=remedy)
    spec = None if format_ is None else parse_format(format_, rounding or "half_up")
    neuron = resolve(subject, **family_arguments(set_, degree))
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
        from lnm_codegen.analysis.canvas import png
        from lnm_codegen.plot.family import family_figure

        write_file("analyze", "--figure", figure, png(family_figure(found), 150))
    if json:
        print_json(found.as_dict())
        return
    inputs = ", ".join(f"{n} in {i}" for n, i in found.inputs.items()) or "no inputs"
    print_sections(found.sections(), f"neuron {found.neuron.name}: {inputs}")
    if figure is not None:
        typer.echo(f"\n{figure}")


def _family_note(subject: str) -> str:
    """Return `folder_note`; raise ModelError if the subject is neither a family nor a path."""
    known = subject in FAMILIES or ":" in subject or subject.endswith((".toml", ".py"))
    if not known and not Path(subject).exists():
        files = "a .toml file, file.py:function, module:function; a folder that lnm train wrote"
        accepted = f"{', '.join(FAMILIES)}; {files}"
        hint = did_you_mean(subject, FAMILIES)
        raise ModelError("analyze", f"no family, file or folder {subject!r}", accepted, hint)
    return folder_note(subject)


def folder_note(subject: str) -> str:
    """Print a note if a folder has the name of the family, and return the remedy that names it."""
    if not Path(subject).is_dir():
        return ""
    typer.echo(f"note: {subject} is the family; give ./{subject} for the folder.", err=True)
    return f" Give ./{subject} for the folder."


def is_run(subject: str) -> bool:
    """Report whether a subject is a run: a folder whose name is not a family's."""
    return subject not in FAMILIES and Path(subject).is_dir()


def _refuse(given: list[str], unfit: Sequence[str], conflict: str, alternative: str = "") -> None:
    for option in given:
        if option in unfit:
            remedy = f"Omit {option}.{alternative}"
            raise ModelError("analyze", f"{option} {conflict}", remedy=remedy)
