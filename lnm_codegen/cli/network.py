"""`lnm emit --run RUN --network`: a trained network in integers, and its source."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from lnm_codegen.backends.network_c.layers import ACCUMULATIONS, Accumulation
from lnm_codegen.cli.run_arrays import read_run, specs_of
from lnm_codegen.cli.writing import write_together
from lnm_codegen.errors import ModelError, UnsupportedError
from lnm_codegen.language.names import require_name
from lnm_codegen.validation import require_integer, require_one_of

if TYPE_CHECKING:
    from lnm_codegen.backends.network_c.backend import NetworkSource
    from lnm_codegen.deploy.integers.convert import RealNetwork
    from lnm_codegen.ir.network.nodes import IntegerNetwork
    from lnm_codegen.train.runs.saved import Run

BACKENDS = ("c",)
"""Targets of a network."""
RANGED, VECTORS, TESTED = 256, 4, 1000
"""Training samples for ranges; samples of the example; test samples for the accuracy."""
WEIGHT_BITS = 8

NetworkOption = Annotated[
    bool,
    typer.Option(
        "--network",
        help="With --run: the whole network in integers. DIR itself is its folder; --backend is"
        f" {', '.join(BACKENDS)}. --format is 16.12 for the neurons, or the folder of"
        " `lnm quantize RUN --out`; by default formats follow from the run's training samples.",
    ),
]
WeightsOption = Annotated[
    int | None,
    typer.Option(
        "--weights", metavar="BITS", help=f"Bits of a weight, 2 to 16.  [default: {WEIGHT_BITS}]"
    ),
]
AccumulateOption = Annotated[
    str | None,
    typer.Option(
        "--accumulate",
        help="Sums in C: events adds the weights of inputs that are not zero, dense multiplies"
        " all.  [default: events]",
    ),
]


def require_network(
    run: Path | None, network: bool, weights: int | None, accumulate: str | None
) -> None:
    """Refuse options that apply only to `--network`, or `--network` without a run."""
    if network and run is None:
        raise ModelError("emit", "--network without --run", remedy="Add --run RUN.")
    for option, value in (("--weights", weights), ("--accumulate", accumulate)):
        if value is not None and not network:
            problem = f"{option} is for a network"
            raise ModelError("emit", problem, remedy=f"Add --network, or omit {option}.")


def emit_network(
    folder: Path,
    out: Path,
    backend: str,
    name: str | None,
    format_: str | None,
    weights: int | None,
    accumulate: str | None,
) -> None:
    """Write the network of a run in integers into `out`, and print its files and bytes."""
    from lnm_codegen.deploy.integers.accuracy import integer_accuracy
    from lnm_codegen.hardware.microcontroller import program_size
    from lnm_codegen.ir.network.exchange import network_files

    if backend not in BACKENDS:
        problem = f"--network with --backend {backend}"
        raise ModelError("emit", problem, BACKENDS, "Add --backend c.")
    word = require_one_of("emit", "--accumulate", accumulate or "events", ACCUMULATIONS)
    if weights is not None:
        require_integer("emit", "--weights", weights, 2, 16)
    run = read_run(folder)
    integers = _network_of(run, name, format_, weights)
    made = _source(run, integers, cast("Accumulation", word))
    more = {Path(path): data for path, data in network_files(integers).items()}
    for path in write_together({Path("."): made.source}, out, more=more):
        typer.echo(path)
    size = program_size(made.source.files, f"{integers.name}.c")
    code = "arm-none-eabi-gcc not found" if size is None else f"{size.code} bytes"
    accuracy = integer_accuracy(
        run.network, integers, run.data.batches(run.data.test.first(TESTED), RANGED)
    )
    typer.echo(
        f"\n{integers.name}: {len(integers.stages)} stages, {integers.time_steps} time steps,"
        f" {integers.classes} classes\nCortex-M4: code {code}, constants {made.constants} bytes,"
        f" RAM {made.memory} bytes\naccuracy: {accuracy}"
    )


def real_of(run: Run, name: str | None = None) -> RealNetwork:
    """Return the network of a run as real stages.

    Raises:
        UnsupportedError: It has no form in integers.
    """
    from lnm_codegen.deploy.integers.convert import real_network

    if run.data.per_step:
        problem = f"data {run.config.data!r} have a label for each time step"
        raise UnsupportedError("network", problem, "data with a label for each sample")
    neuron = run.network.neurons[0].neuron.name
    default = re.sub(r"\W", "_", f"{run.config.data}_{neuron}", flags=re.ASCII).lower()
    title = require_name("--name", name) if name is not None else default
    return real_network(title, run.network, run.network.chain(), run.data.sample)


def _network_of(
    run: Run, name: str | None, format_: str | None, weights: int | None
) -> IntegerNetwork:
    """Return the network in the formats of the options."""
    from lnm_codegen.deploy.integers.convert import default_formats, integer_network
    from lnm_codegen.deploy.integers.weights import WeightFormat
    from lnm_codegen.ir.network.exchange import JSON

    real = real_of(run, name)
    if format_ is not None and (Path(format_) / JSON).exists():
        if weights is not None:
            problem = f"--weights with --format {format_}, which has the weights"
            raise ModelError("emit", problem, remedy="Omit --weights.")
        return _read(Path(format_), real, name)
    samples, _ = next(run.data.batches(run.data.train, RANGED))
    formats = default_formats(real, samples, WeightFormat(weights or WEIGHT_BITS))
    if format_ is not None:
        from dataclasses import replace

        formats = replace(formats, neurons=specs_of(run, format_))
    return integer_network(real, formats)


def _read(folder: Path, real: RealNetwork, name: str | None) -> IntegerNetwork:
    """Return the network of a folder, which must be one of the run."""
    from dataclasses import replace

    from lnm_codegen.ir.network.exchange import read_network

    found = read_network(folder)
    own = [s.name for s in found.stages if hasattr(s, "name")]
    expected = [s.name for s in real.stages if hasattr(s, "name")]
    if own != expected or found.input_shape != real.input_shape:
        remedy = "Name the folder that lnm quantize wrote for this run."
        accepted = f"layers {', '.join(expected)}"
        raise ModelError(f"--format {folder}", "it is the network of another run", accepted, remedy)
    return found if name is None else replace(found, name=real.name)


def _source(run: Run, integers: IntegerNetwork, accumulation: Accumulation) -> NetworkSource:
    """Return the C of a network, with the first test samples."""
    from lnm_codegen.backends.network_c.backend import emit_network as emitted
    from lnm_codegen.deploy.integers.convert import integer_samples, sample_rows
    from lnm_codegen.ir.network.interpret import interpret_network

    x, _ = next(run.data.batches(run.data.test, VECTORS))
    samples = integer_samples(integers, x.numpy())
    scores = interpret_network(integers, samples).scores
    return emitted(integers, sample_rows(integers, samples), scores, accumulation)
