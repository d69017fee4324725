"""`lnm quantize RUN`: formats of a trained network for a target in accuracy."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lnm_codegen.backends.base import Source
from lnm_codegen.cli.output import print_heading, print_json, print_table, write_together
from lnm_codegen.cli.runs import RANGED, WEIGHT_BITS, read_run, real_of
from lnm_codegen.compiler.formats import spec_text
from lnm_codegen.errors import ModelError, UnsupportedError
from lnm_codegen.validation import require_integer, require_number, require_one_of

if TYPE_CHECKING:
    from lnm_codegen.deploy.integers.convert import NetworkFormats, RealNetwork
    from lnm_codegen.deploy.integers.search import Batches, IntegerAccuracy
    from lnm_codegen.deploy.integers.tune import Tuned
    from lnm_codegen.ir.network.nodes import IntegerNetwork
    from lnm_codegen.train.runs.saved import Run

LOST, SAMPLES, RATE = 0.5, 1000, 1e-3
"""Defaults: points lost, held-out samples, learning rate of fine-tuning."""
SCALES = ("channel", "layer", "multiplier")

LostOption = Annotated[
    float | None,
    typer.Option(
        "--lost",
        metavar="POINTS",
        help="Target of a RUN: largest percentage of the samples of the search that are correct in"
        f" float and wrong in integers.  [default: {LOST}]",
    ),
]
SamplesOption = Annotated[
    int | None,
    typer.Option(
        "--samples",
        metavar="N",
        help="Test samples of a RUN: every second one for the search, the others for the reported"
        " accuracy. If the RUN holds out training samples (validation): so many of these for the"
        f" search, and so many test samples for the report.  [default: {SAMPLES}]",
    ),
]
BitsOption = Annotated[
    int | None,
    typer.Option("--weights", metavar="BITS", help="Bits of every weight of a RUN; not searched."),
]
ScaleOption = Annotated[
    str | None,
    typer.Option(
        "--scale",
        help="Scale of the weights of a RUN: a power of two per channel or per layer, or an"
        " integer multiplier and a shift per channel (multiplier).  [default: channel]",
    ),
]
EpochsOption = Annotated[
    int | None,
    typer.Option(
        "--epochs",
        metavar="N",
        help="Fine-tune a RUN in these integers for N epochs.  [default: 0]",
    ),
]


@dataclass(frozen=True)
class AccuracyOptions:
    """Options of `lnm quantize RUN`; None is the default."""

    lost: float | None = None
    samples: int | None = None
    weights: int | None = None
    scale: str | None = None
    epochs: int | None = None

    @property
    def given(self) -> list[str]:
        """The options that are given."""
        return [f"--{word}" for word, value in vars(self).items() if value is not None]

    def validated(self) -> None:
        """Raise ModelError where a value is not accepted."""
        require_number("quantize", "--lost", LOST if self.lost is None else self.lost, low=0)
        ends = {"samples": (2, None), "weights": (2, 16), "epochs": (0, None)}
        for word, (low, high) in ends.items():
            if (value := getattr(self, word)) is not None:
                require_integer("quantize", f"--{word}", value, low, high)
        if self.scale is not None:
            require_one_of("quantize", "--scale", self.scale, SCALES)


def quantize_run(folder: Path, options: AccuracyOptions, out: Path | None, json: bool) -> None:
    """Choose formats, fine-tune, print the accuracy, and write the network into `out`."""
    from lnm_codegen.deploy.integers.convert import integer_network, zero_notes
    from lnm_codegen.deploy.integers.real import WeightFormat
    from lnm_codegen.deploy.integers.search import WidthSearch, integer_accuracy

    options.validated()
    run = read_run(folder)
    try:
        real = real_of(run)
    except UnsupportedError as error:
        remedy = "Give --mismatch 0.001 to choose formats of the neurons alone."
        raise UnsupportedError(error.where, error.problem, error.accepted, remedy) from None
    chosen_on, reported_on = _held_out(run, real, options.samples or SAMPLES)
    ranged, _ = next(run.data.batches(run.data.train, RANGED))
    scale = options.scale or SCALES[0]
    per: Any = "layer" if scale == "layer" else "channel"
    form = WeightFormat(options.weights or WEIGHT_BITS, per, scale == "multiplier")
    lost = LOST if options.lost is None else options.lost
    search = WidthSearch(real, ranged, chosen_on, lost, form, options.weights is not None)
    chosen = search.result()
    network, title = integer_network(real, chosen.formats), ""
    kept: dict[str, object] = {}
    if options.epochs:
        tuned = _tuned(run, real, chosen.formats, options.epochs, chosen_on)
        network, title = tuned.network, _title(tuned, options.epochs)
        kept = {"fine_tuning": {"epochs": options.epochs, "kept_epoch": tuned.epoch}}
    found = {
        "chosen": integer_accuracy(run.network, network, chosen_on),
        "reported": integer_accuracy(run.network, network, reported_on),
    }
    if out is not None:
        _write(out, run, network, chosen.formats)
    if json:
        print_json(_as_dict(network, chosen.formats, found) | kept)
    else:
        _print(network, chosen.formats, found, title, lost)
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
        for k, part in enumerate(found[: len(labels)]):  # the last batch may have one sample
            own = x[k::2] if real.repeated else x[:, k::2]
            part.append((own, labels[k::2]))
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


def _print(
    network: IntegerNetwork,
    formats: NetworkFormats,
    found: dict[str, IntegerAccuracy],
    title: str,
    lost: float,
) -> None:
    print_heading(f"{network.name} in integers{title}")
    print_table(["layer", "kind", "format"], _rows(network, formats))
    chosen, reported = found["chosen"], found["reported"]
    typer.echo(f"samples of the search: {chosen}")
    typer.echo(f"other samples:         {reported}")
    typer.echo("broken, that is, correct in float and wrong in integers:")
    typer.echo(f"  samples of the search: {_broken(chosen, lost)}")
    note = "; the target bounds the samples of the search only" * (reported.points_broken > lost)
    typer.echo(f"  other samples:         {_broken(reported, lost)}{note}")


def _title(tuned: Tuned, epochs: int) -> str:
    """Return the result of fine-tuning, for the heading."""
    if tuned.epoch:
        return f", fine-tuned: the best of {epochs} epochs is {tuned.epoch}"
    return f", not fine-tuned: none of {epochs} epochs is better than the start, which is kept"


def _broken(found: IntegerAccuracy, lost: float) -> str:
    count, most = found.samples, found.most_broken(lost)
    target = f"target {lost:g} %, that is, at most {most} of {count} samples"
    return f"{found.points_broken:.2f} %, {found.broken} samples ({target})"


def _as_dict(
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
