"""`lnm quantize`: search of small word lengths that meet a target."""

from __future__ import annotations

from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from lnm_codegen.backends.base import Source
from lnm_codegen.cli.analyze import folder_note, is_run
from lnm_codegen.cli.options import (
    Degree,
    Meta,
    Settings,
    Subject,
    family_arguments,
    given_options,
    parse_intervals,
    require_folder,
)
from lnm_codegen.cli.output import print_json, print_sections, write_together
from lnm_codegen.cli.runs import RANGED, WEIGHT_BITS, WeightBits, read_run, real_of
from lnm_codegen.compiler.formats import spec_text
from lnm_codegen.errors import ModelError, UnsupportedError
from lnm_codegen.families.library import resolve
from lnm_codegen.hardware.notes import width_note
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.options import RoundingName, SchemeName
from lnm_codegen.sections import Part, Section, Table
from lnm_codegen.validation import Accepted

if TYPE_CHECKING:
    from lnm_codegen.deploy.integers.convert import NetworkFormats, RealNetwork
    from lnm_codegen.deploy.integers.search import Batches, IntegerAccuracy
    from lnm_codegen.deploy.integers.tune import Tuned
    from lnm_codegen.hardware.wordlength.search import PrecisionTarget, SearchOptions, WordLengths
    from lnm_codegen.hardware.wordlength.select import FormatSelection
    from lnm_codegen.ir.network.nodes import IntegerNetwork
    from lnm_codegen.train.runs.saved import Run

LOST, SAMPLES, RATE = 0.5, 1000, 1e-3
"""Defaults: points lost, held-out samples, learning rate of fine-tuning."""
OF_AN_ACCURACY = ("--lost", "--samples", "--weights", "--scale", "--epochs")
OF_A_FAMILY = ("--degree", "--set", "--x")
OF_A_SEARCH = ("--rounding", "--most", "--scheme")


def quantize(
    subject: Subject,
    /,
    *,
    context: typer.Context,
    degree: Degree = None,
    set_: Settings = None,
    x: Annotated[list[str] | None, Meta("X|LOW,HIGH")] = None,
    error: Annotated[float | None, Meta("X")] = None,
    mismatch: Annotated[float | None, Meta("X")] = None,
    rounding: RoundingName = "half_up",
    most: Annotated[int, Accepted(low=2, high=32), Meta("BITS")] = 32,
    scheme: SchemeName = "horner",
    out: Annotated[Path | None, Meta("DIR")] = None,
    json: bool = False,
    lost: Annotated[float | None, Accepted(low=0), Meta("POINTS")] = None,
    samples: Annotated[int | None, Accepted(low=2), Meta("N")] = None,
    weights: Annotated[WeightBits | None, Meta("BITS")] = None,
    scale: Annotated[Literal["channel", "layer", "multiplier"], Accepted()] = "channel",
    epochs: Annotated[int | None, Accepted(low=0), Meta("N")] = None,
) -> None:
    """Search small word lengths that meet a target.

    For a RUN, the target is the accuracy: small widths of weights, neurons and input that break at
    most --lost percent of the held-out or test samples of the search: those are correct in float
    and wrong in integers. --out DIR gets the network in integers, for `lnm deploy RUN --format
    DIR`. Exits with 3 if --weights or --epochs miss the target; DIR is written all the same. With
    --error or --mismatch, and for a FAMILY:

    Integer bits hold the range of each node. The range is proven if the states have an invariant
    interval for inputs in --x. Otherwise it is recorded on simulated steps, or on held-out samples
    of a run. The search then removes fraction bits from each node while the target holds, until no
    single fraction bit can be removed. An error is that of one step from the same state, where
    every comparison has the outcome of exact arithmetic; errors of later steps add up. It is proven
    where ranges are proven, and confirmed by simulation. A mismatch is counted against float64 on
    runs of at most 8 steps from the same states; over longer free runs more spikes differ.

    Options:
        x: Interval of every input: X for |x| <= X, or LOW,HIGH; NAME=LOW,HIGH for one of several
            inputs. [default: 2, or 2 times a power of 2 at which it spikes]
        error: Target: largest error of a state after one step from the same state, where every
            comparison has the outcome of exact arithmetic.
        mismatch: Target: largest share of spikes that differ. [default: 0.001]
        rounding: Rounding of every node.
        most: Largest width of a node.
        out: Write each format as DIR/<name>.toml.
        lost: Target of a RUN: largest percentage of the samples of the search that are correct in
            float and wrong in integers. [default: 0.5]
        samples: Test samples of a RUN: every second one for the search, the others for the
            reported accuracy. If the RUN holds out training samples (validation): so many of these
            for the search, and so many test samples for the report. [default: 1000]
        weights: Bits of every weight of a RUN; not searched.
        scale: Scale of the weights of a RUN: a power of two per channel or per layer, or an
            integer multiplier and a shift per channel (multiplier).
        epochs: Fine-tune a RUN in these integers for N epochs. [default: 0]
    """
    from lnm_codegen.hardware.wordlength.search import PrecisionTarget, SearchOptions

    given = given_options(context)
    of_run = is_run(subject)
    note = "" if of_run else folder_note(subject)
    require_folder("quantize", out)
    if unfit := [word for word in given if of_run and word in OF_A_FAMILY]:
        problem = f"{subject} is a run, which has its neurons and the samples for their inputs"
        raise ModelError("quantize", problem, remedy=f"Omit {', '.join(unfit)}.")
    if of_run and error is None and mismatch is None:
        if unfit := [word for word in given if word in OF_A_SEARCH]:
            problem = f"{unfit[0]} is for a search with --error or --mismatch"
            raise ModelError("quantize", problem, remedy=f"Give one of them, or omit {unfit[0]}.")
        points = LOST if lost is None else lost
        _quantize_run(
            Path(subject), points, samples or SAMPLES, weights, scale, epochs or 0, out, json
        )
        return
    if unfit := [word for word in given if word in OF_AN_ACCURACY]:
        folder = Path(subject)
        if len(folder.parts) > 1 and not folder.is_dir():
            remedy = "Name the folder that lnm train wrote."
            raise ModelError(f"quantize: {subject}", "no such folder", remedy=remedy)
        problem = f"{unfit[0]} is for a run and its accuracy"
        remedy = f"Omit {unfit[0]}, or --error and --mismatch.{note}"
        raise ModelError("quantize", problem, remedy=remedy)
    if error is None and mismatch is None:
        mismatch = 1e-3
    target = PrecisionTarget(error, mismatch)
    options = SearchOptions(rounding, scheme, most)
    if of_run:
        found = _of_run(Path(subject), target, options)
    else:
        neuron = resolve(subject, **family_arguments(set_, degree))
        found = {neuron.name: _of_family(neuron, x, target, options)}
    if out is not None:
        files = {f"{name}.toml": _text(name, chosen) for name, chosen in found.items()}
        write_together({Path("."): Source(files, next(iter(files)))}, out, "quantize")
    if json:
        print_json({name: _as_dict(chosen) for name, chosen in found.items()})
        return
    print_sections(_section(name, chosen) for name, chosen in found.items())
    if out is not None:
        typer.echo("")
        typer.echo("\n".join(str(out / f"{name}.toml") for name in found))


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

    run = read_run(folder)
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


def _section(name: str, chosen: FormatSelection) -> Section:
    words, rows = chosen.words, []
    for node in words.nodes:
        bound = "" if node.bound is None else f"{node.bound:.3g}".replace("inf", "none")
        rows.append(
            [node.name, str(node.range), str(node.fixed), node.fixed.width, bound,
             f"{node.observed:.3g}", f"{100 * node.saturated:.3g} %"]
        )  # fmt: skip
    header = ["node", "range", "format", "bits", "proven error", "observed", "saturated"]
    given = ", ".join(f"{n} in [{low:g}, {high:g}]" for n, (low, high) in chosen.inputs.items())
    rates = ", ".join(f"{spike} in {100 * r:.3g} %" for spike, r in chosen.rates.items())
    inputs = f"inputs: {given}" + (f"; {rates} of the sample's steps" if rates else "")
    bounded = isfinite(words.error)
    error = f"{words.error:.3g}" if bounded else f"{words.observed:.3g} in simulation"
    largest = f"largest error {error}, spike mismatch {words.mismatch:.3g}"
    note = width_note(words.program)
    parts: list[Part] = [
        Table(header, rows),
        inputs,
        *_origins(chosen),
        largest,
        f"note: {note}." if note else "",
    ]
    return Section(f"{name}: {words.total} bits in all nodes, for {words.target}", parts)


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
    from lnm_codegen.analysis.invariant import Invariant, Undecided

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


# `lnm quantize RUN`: formats of a trained network for a target in accuracy.


def _quantize_run(
    folder: Path,
    lost: float,
    samples: int,
    weights: int | None,
    scale: str,
    epochs: int,
    out: Path | None,
    json: bool,
) -> None:
    """Choose formats, fine-tune, print the accuracy, and write the network into `out`."""
    from lnm_codegen.deploy.integers.convert import integer_network, zero_notes
    from lnm_codegen.deploy.integers.real import WeightFormat
    from lnm_codegen.deploy.integers.search import WidthSearch, integer_accuracy

    run = read_run(folder)
    try:
        real = real_of(run)
    except UnsupportedError as error:
        remedy = "Give --mismatch 0.001 to choose formats of the neurons alone."
        raise UnsupportedError(error.where, error.problem, error.accepted, remedy) from None
    chosen_on, reported_on = _held_out(run, real, samples)
    ranged, _ = next(run.data.batches(run.data.train, RANGED))
    per: Any = "layer" if scale == "layer" else "channel"
    form = WeightFormat(weights or WEIGHT_BITS, per, scale == "multiplier")
    search = WidthSearch(real, ranged, chosen_on, lost, form, weights is not None)
    chosen = search.result()
    network, title = integer_network(real, chosen.formats), ""
    kept: dict[str, object] = {}
    if epochs:
        tuned = _tuned(run, real, chosen.formats, epochs, chosen_on)
        network, title = tuned.network, _title(tuned, epochs)
        kept = {"fine_tuning": {"epochs": epochs, "kept_epoch": tuned.epoch}}
    found = {
        "chosen": integer_accuracy(run.network, network, chosen_on),
        "reported": integer_accuracy(run.network, network, reported_on),
    }
    if out is not None:
        _write(out, run, network, chosen.formats)
    if json:
        print_json(_network_as_dict(network, chosen.formats, found) | kept)
    else:
        _print_network(network, chosen.formats, found, title, lost)
        if out is not None:
            typer.echo(f"\n{out / 'network.json'}")
    for note in zero_notes(network, real.neurons):
        typer.echo(f"note: {note}.", err=True)
    broken = found["chosen"].points_broken
    if broken > lost:
        problem = f"the target is missed: {broken:.2f} % broken, {lost:g} % allowed"
        typer.echo(f"quantize: {problem}. Give more bits with --weights, or --epochs.", err=True)
        raise typer.Exit(3)


def _held_out(run: Run, real: RealNetwork, count: int) -> tuple[Batches, Batches]:
    """Return the samples of the search and those of the report.

    Those of a run with `validation` are its held-out training samples, and the test set. Otherwise
    they are every second test sample.
    """
    from lnm_codegen.train.runs.saved import test_data

    if run.data.is_held_out:
        held_out, unseen = (
            list(data.batches(data.test.first(count), RANGED))
            for data in (run.data, test_data(run))
        )
        return held_out, unseen
    split = run.data.test.first(count)
    if len(split) < 2:
        raise ModelError("quantize", f"{len(split)} test samples", "2 or more")
    found: tuple[Any, Any] = ([], [])
    for x, labels in run.data.batches(split, RANGED):
        count = labels.shape[-1]
        for k, part in enumerate(found[:count]):  # the last batch may have one sample
            own = x[k::2] if real.repeated else x[:, k::2]
            part.append((own, labels[..., k::2]))
    return found


def _tuned(
    run: Run, real: RealNetwork, formats: NetworkFormats, epochs: int, held_out: Batches
) -> Tuned:
    from lnm_codegen.deploy.integers.search import is_correct_in_integers
    from lnm_codegen.deploy.integers.tune import IntegerTwin, fine_tune, shuffling

    generator = shuffling(run.config.seed)

    def batches() -> Any:
        return run.data.batches(run.data.train, run.config.batch, generator)

    def shown(epoch: int, correct: int) -> None:
        typer.echo(f"epoch {epoch}/{epochs}  {correct} correct on held-out samples", err=True)

    return fine_tune(
        IntegerTwin(real, formats),
        epochs,
        batches,
        lambda network: int(is_correct_in_integers(network, held_out).sum()),
        RATE,
        shown,
    )


def _rows(network: IntegerNetwork, formats: NetworkFormats) -> list[list[str]]:
    """Return layer, kind and format, in the order of the network."""
    from lnm_codegen.ir.network.nodes import NeuronStage, WeightStage

    rows = [["input", "values", "spikes" if formats.input is None else str(formats.input)]]
    for stage in network.stages:
        if isinstance(stage, WeightStage):
            text = f"{stage.bits} bits, accumulator {stage.accumulator} bits"
            rows.append([stage.name, "weights", text])
        elif isinstance(stage, NeuronStage):
            rows.append([stage.name, "neurons", str(formats.neurons[stage.name].default)])
    return rows


def _print_network(
    network: IntegerNetwork,
    formats: NetworkFormats,
    found: dict[str, IntegerAccuracy],
    title: str,
    lost: float,
) -> None:
    chosen, reported = found["chosen"], found["reported"]
    note = "; the target bounds the samples of the search only" * (reported.points_broken > lost)
    parts = (
        Table(["layer", "kind", "format"], _rows(network, formats)),
        f"samples of the search: {chosen}",
        f"other samples:         {reported}",
        "broken, that is, correct in float and wrong in integers:",
        f"  samples of the search: {_broken(chosen, lost)}",
        f"  other samples:         {_broken(reported, lost)}{note}",
    )
    print_sections([Section(f"{network.name} in integers{title}", parts)])


def _title(tuned: Tuned, epochs: int) -> str:
    """Return the result of fine-tuning, for the heading."""
    if tuned.epoch:
        return f", fine-tuned: the best of {epochs} epochs is {tuned.epoch}"
    return f", not fine-tuned: none of {epochs} epochs is better than the start, which is kept"


def _broken(found: IntegerAccuracy, lost: float) -> str:
    count, most = found.samples, found.most_broken(lost)
    target = f"target {lost:g} %, that is, at most {most} of {count} {found.unit}"
    return f"{found.points_broken:.2f} %, {found.broken} {found.unit} ({target})"


def _network_as_dict(
    network: IntegerNetwork, formats: NetworkFormats, found: dict[str, IntegerAccuracy]
) -> dict[str, object]:
    names = ("layer", "kind", "format")
    rows = [dict(zip(names, row, strict=True)) for row in _rows(network, formats)]
    return {"name": network.name, "formats": rows} | {
        word: {
            "samples": a.samples, "accuracy": a.accuracy,
            "accuracy_integers": a.accuracy_integers, "points_lost": a.lost,
            "points_broken": a.points_broken,
        }
        for word, a in found.items()
    }  # fmt: skip


def _write(out: Path, run: Run, network: IntegerNetwork, formats: NetworkFormats) -> None:
    from lnm_codegen.deploy.integers.source import FILE, run_file
    from lnm_codegen.ir.network.exchange import network_files

    comments = [f"Formats of the network {network.name}."]
    texts = {f"{n}.toml": spec_text(spec, comments) for n, spec in formats.neurons.items()}
    more = {Path(name): data for name, data in network_files(network).items()}
    texts[FILE] = run_file(run.network)
    write_together({Path("."): Source(texts, "")}, out, "quantize", more)
