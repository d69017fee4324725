"""`lnm quantize`: search of small word lengths that meet a target."""

from __future__ import annotations

from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from lnm_codegen.backends.base import Source
from lnm_codegen.cli.analyze import folder_note, is_run
from lnm_codegen.cli.options import (
    DegreeOption,
    JsonOption,
    RoundingOption,
    SchemeOption,
    SetOption,
    SubjectArgument,
    family_arguments,
    parse_intervals,
    require_folder,
    x_option,
)
from lnm_codegen.cli.output import print_heading, print_json, print_table, write_together
from lnm_codegen.cli.quantize_run import (
    AccuracyOptions,
    BitsOption,
    EpochsOption,
    LostOption,
    SamplesOption,
    ScaleOption,
    quantize_run,
)
from lnm_codegen.compiler.formats import spec_text
from lnm_codegen.errors import ModelError
from lnm_codegen.families.library import resolve
from lnm_codegen.hardware.notes import width_note
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.options import RoundingName

if TYPE_CHECKING:
    from lnm_codegen.hardware.wordlength.search import PrecisionTarget, SearchOptions, WordLengths
    from lnm_codegen.hardware.wordlength.select import FormatSelection


def quantize(
    subject: SubjectArgument,
    degree: DegreeOption = None,
    settings: SetOption = None,
    x: Annotated[
        list[str] | None, x_option(" [default: 2, or 2 times a power of 2 at which it spikes]")
    ] = None,
    error: Annotated[
        float | None,
        typer.Option(
            "--error",
            help="Target: largest error of a state after one step from the same state, where every"
            " comparison has the outcome of exact arithmetic.",
        ),
    ] = None,
    mismatch: Annotated[
        float | None,
        typer.Option(
            "--mismatch", help="Target: largest share of spikes that differ.  [default: 0.001]"
        ),
    ] = None,
    rounding: RoundingOption = "half_up",
    most: Annotated[
        int, typer.Option("--most", metavar="BITS", min=2, max=32, help="Largest width of a node.")
    ] = 32,
    scheme: SchemeOption = "horner",
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="DIR", file_okay=False, help="Write each format as DIR/<name>.toml."
        ),
    ] = None,
    json: JsonOption = False,
    lost: LostOption = None,
    samples: SamplesOption = None,
    weights: BitsOption = None,
    scale: ScaleOption = None,
    epochs: EpochsOption = None,
) -> None:
    """Search small word lengths that meet a target.

    For a RUN, the target is the accuracy: small widths of weights, neurons and input that break at
    most --lost percent of the held-out or test samples of the search: those are correct in float
    and wrong in integers. --out DIR gets the network in integers, for `lnm emit --run RUN --network
    --format DIR`. Exits with 3 if --weights or --epochs miss the target; DIR is written all the
    same. With --error or --mismatch, and for a FAMILY:

    Integer bits hold the range of each node. The range is proven if the states have an invariant
    interval for inputs in --x. Otherwise it is recorded on simulated steps, or on held-out samples
    of a run. The search then removes fraction bits from each node while the target holds, until no
    single fraction bit can be removed. An error is that of one step from the same state, where
    every comparison has the outcome of exact arithmetic; errors of later steps add up. It is proven
    where ranges are proven, and confirmed by simulation. A mismatch is counted against float64 on
    runs of at most 8 steps from the same states; over longer free runs more spikes differ.
    """
    from lnm_codegen.hardware.wordlength.search import PrecisionTarget, SearchOptions

    accuracy = AccuracyOptions(lost, samples, weights, scale, epochs)
    of_run = is_run(subject)
    note = "" if of_run else folder_note(subject)
    require_folder("quantize", out)
    if of_run:
        _refuse_family_options(subject, degree, settings, x)
    if of_run and error is None and mismatch is None:
        _refuse_search_options(rounding, most, scheme)
        quantize_run(Path(subject), accuracy, out, json)
        return
    if accuracy.given:
        option, folder = accuracy.given[0], Path(subject)
        if len(folder.parts) > 1 and not folder.is_dir():
            remedy = "Name the folder that lnm train wrote."
            raise ModelError(f"quantize: {subject}", "no such folder", remedy=remedy)
        problem = f"{option} is for a run and its accuracy"
        remedy = f"Omit {option}, or --error and --mismatch.{note}"
        raise ModelError("quantize", problem, remedy=remedy)
    if error is None and mismatch is None:
        mismatch = 1e-3
    target = PrecisionTarget(error, mismatch)
    options = SearchOptions(cast("RoundingName", rounding), scheme, most)
    if of_run:
        found = _of_run(Path(subject), target, options)
    else:
        neuron = resolve(subject, **family_arguments(settings, degree))
        found = {neuron.name: _of_family(neuron, x, target, options)}
    if out is not None:
        files = {f"{name}.toml": _text(name, chosen) for name, chosen in found.items()}
        write_together({Path("."): Source(files, next(iter(files)))}, out, "quantize")
    if json:
        print_json({name: _as_dict(chosen) for name, chosen in found.items()})
        return
    for name, chosen in found.items():
        _print(name, chosen)
    if out is not None:
        typer.echo("")
        typer.echo("\n".join(str(out / f"{name}.toml") for name in found))


def _refuse_family_options(
    folder: str, degree: int | None, settings: list[str] | None, x: list[str] | None
) -> None:
    values = {"--degree": degree, "--set": settings, "--x": x}
    given = ", ".join(word for word, value in values.items() if value not in (None, []))
    if given:
        problem = f"{folder} is a run, which has its neurons and the samples for their inputs"
        raise ModelError("quantize", problem, remedy=f"Omit {given}.")


def _refuse_search_options(rounding: str, most: int, scheme: str) -> None:
    """Refuse what the search for the accuracy of a run does not read."""
    given = (("--rounding", rounding != "half_up"), ("--most", most != 32))
    words = [word for word, is_given in (*given, ("--scheme", scheme != "horner")) if is_given]
    if words:
        problem = f"{words[0]} is for a search with --error or --mismatch"
        raise ModelError("quantize", problem, remedy=f"Give one of them, or omit {words[0]}.")


def _of_family(
    neuron: Neuron, x: list[str] | None, target: PrecisionTarget, options: SearchOptions
) -> FormatSelection:
    from lnm_codegen.hardware.wordlength.select import select_for_intervals, spiking_inputs

    names = [s.name for s in neuron.inputs]
    given = parse_intervals("--x", x, names, symmetric=True) if x else None
    inputs = spiking_inputs(neuron) if given is None else given
    return select_for_intervals(neuron, inputs, target, options=options)


def _of_run(
    folder: Path, target: PrecisionTarget, options: SearchOptions
) -> dict[str, FormatSelection]:
    from lnm_codegen.deploy.network import layer_parameters, neuron_layers, trace_layers
    from lnm_codegen.deploy.ranges import target_of
    from lnm_codegen.hardware.wordlength.select import select_for_data
    from lnm_codegen.train.runs.saved import load_run

    run = load_run(folder)
    images, _ = next(iter(run.data.batches(run.data.test, 64)))
    _, traces = trace_layers(run.network, images)
    return {
        name: select_for_data(
            layer.neuron,
            traces[name].x_seq.double().numpy(),
            target=target_of(layer, traces[name].x_seq, target),
            values=layer_parameters(layer),
            options=options,
        )
        for name, layer in neuron_layers(run.network).items()
    }


def _print(name: str, chosen: FormatSelection) -> None:
    words = chosen.words
    print_heading(f"{name}: {words.total} bits in all nodes, for {words.target}")
    rows = []
    for node in words.nodes:
        bound = "" if node.bound is None else f"{node.bound:.3g}".replace("inf", "none")
        rows.append(
            [node.name, str(node.range), str(node.fixed), node.fixed.width, bound,
             f"{node.observed:.3g}", f"{100 * node.saturated:.3g} %"]
        )  # fmt: skip
    header = ["node", "range", "format", "bits", "proven error", "observed", "saturated"]
    print_table(header, rows)
    given = ", ".join(f"{n} in [{low:g}, {high:g}]" for n, (low, high) in chosen.inputs.items())
    rates = ", ".join(f"{spike} in {100 * r:.3g} %" for spike, r in chosen.rates.items())
    typer.echo(f"inputs: {given}" + (f"; {rates} of the sample's steps" if rates else ""))
    for line in _origins(chosen):
        typer.echo(line)
    bounded = isfinite(words.error)
    error = f"{words.error:.3g}" if bounded else f"{words.observed:.3g} in simulation"
    typer.echo(f"largest error {error}, spike mismatch {words.mismatch:.3g}")
    if (note := width_note(words.program)) is not None:
        typer.echo(f"note: {note}.")


def _origins(chosen: FormatSelection) -> list[str]:
    """Return the sources of ranges, errors and the mismatch, and the condition of the errors."""
    from lnm_codegen.hardware.wordlength.sample import MISMATCH_NOTE

    words, origin = chosen.words, _origin(chosen)
    may_differ = words.differing is not None and not (words.proven and words.margin == 0)
    if not words.proven:
        lines = [f"ranges and errors: {origin}"]
    elif isfinite(words.error):
        one = "proven for one step from the same state in these intervals"
        agreeing = ", where every comparison has the outcome of exact arithmetic" * may_differ
        lines = [f"ranges: {origin}", f"errors: {one}{agreeing}"]
    else:
        none = "no bound is proven, as nodes may saturate where no bound is listed"
        lines = [f"ranges: {origin}", f"errors: {none}"]
    if may_differ:
        limit = f"; their operands differ by at most {words.margin:.3g} there"
        limit *= words.proven and isfinite(words.margin)
        share = f"{100 * (words.differing or 0):.3g} % of the sample's steps"
        lines += [f"comparisons: outcomes differ in {share}, whose errors are not counted{limit}"]
    return lines + [MISMATCH_NOTE] * bool(chosen.rates)


def _origin(chosen: FormatSelection) -> str:
    """Return the source of the ranges, as text."""
    from lnm_codegen.analysis import Invariant, Undecided

    match chosen.invariant:
        case Invariant(states=states):
            kept = ", ".join(f"{name} in {interval}" for name, interval in states.items())
            return f"proven, as the states stay in {kept}"
        case Undecided(reason):
            return f"of simulated steps; no invariant interval is known: {reason}"
        case None:
            return "recorded on held-out samples of the run"
        case escape:
            return f"of simulated steps; there is no invariant interval: {escape}"


def _text(name: str, chosen: FormatSelection) -> str:
    words: WordLengths = chosen.words
    comments = [
        f"Formats of `{name}`, {words.total} bits in all nodes, for: {words.target}.",
        *(f"{line[0].upper()}{line[1:]}." for line in _origins(chosen)),
    ]
    return spec_text(words.spec, comments)


def _as_dict(chosen: FormatSelection) -> dict[str, Any]:
    words = chosen.words
    return {
        "target": str(words.target),
        "inputs": chosen.inputs,
        "spike_rates": chosen.rates,
        "proven": words.proven,
        "ranges": _origin(chosen),
        "total_bits": words.total,
        "error": words.error,
        "observed_error": words.observed,
        "margin": words.margin,
        "comparisons_differ": words.differing,
        "mismatch": words.mismatch,
        "default": str(words.spec.default),
        "nodes": {
            node.name: {
                "range": [float(node.range.low), float(node.range.high)],
                "format": str(node.fixed),
                "width": node.fixed.width,
                "frac": node.fixed.frac,
                "bound": node.bound,
                "observed": node.observed,
                "saturated": node.saturated,
            }
            for node in words.nodes
        },
    }
