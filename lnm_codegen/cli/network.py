"""`lnm emit --run RUN --network`: a trained network in integers, and its source."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from lnm_codegen.backends.network_c.layers import ACCUMULATIONS, Accumulation
from lnm_codegen.backends.network_verilog.layers import LANES, MOST_LANES, layers_of
from lnm_codegen.cli.run_arrays import read_run, specs_of
from lnm_codegen.cli.writing import write_together
from lnm_codegen.errors import ModelError, UnsupportedError
from lnm_codegen.language.names import require_name
from lnm_codegen.validation import require_integer, require_one_of, wrong

if TYPE_CHECKING:
    from lnm_codegen.backends.base import Source
    from lnm_codegen.deploy.integers.convert import RealNetwork
    from lnm_codegen.ir.network.nodes import IntegerNetwork, Integers
    from lnm_codegen.train.data import Dataset
    from lnm_codegen.train.runs.saved import Run

BACKENDS = ("c", "verilog")
"""Targets of a network."""
RANGED, TESTED, MOST_VECTORS = 256, 1000, 10_000
"""Training samples for ranges; test samples for the accuracy without --all, which a folder of
Verilog keeps for `lnm verify`; most samples of an example or a testbench."""
GOLDEN = {"c": 4, "verilog": 8}
"""Samples of the example in C, and of a testbench."""
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
LanesOption = Annotated[
    int | None,
    typer.Option(
        "--lanes",
        metavar="N",
        help=f"Weights that a layer in Verilog adds in a cycle, 1 to {MOST_LANES}."
        f"  [default: {LANES}]",
    ),
]
AllOption = Annotated[
    bool,
    typer.Option(
        "--all",
        help="With --network: every test sample for the accuracy and for `lnm verify`, instead of"
        f" {TESTED:,}.",
    ),
]
LoadPortOption = Annotated[
    bool,
    typer.Option("--load-port", help="A port in Verilog by which weights are loaded."),
]


@dataclass(frozen=True, slots=True)
class NetworkOptions:
    """Options of `lnm emit --network`, as given."""

    weights: int | None
    accumulate: str | None
    lanes: int | None
    load_port: bool
    every: bool
    vectors: int | None

    def values(self) -> dict[str, object]:
        """Return option -> its value; None, or False for a flag, if it is not given."""
        return {
            "--weights": self.weights,
            "--accumulate": self.accumulate,
            "--lanes": self.lanes,
            "--load-port": self.load_port,
            "--all": self.every,
        }

    def given(self) -> dict[str, bool]:
        """Return option -> whether it is given."""
        values = self.values()
        return {word: values[word] is not None and values[word] is not False for word in values}


ONLY_FOR = {"--accumulate": "c", "--lanes": "verilog", "--load-port": "verilog"}
"""Option -> the only backend that it applies to."""


def require_network(run: Path | None, network: bool, options: NetworkOptions) -> None:
    """Refuse options that apply only to `--network`, or `--network` without a run."""
    if network and run is None:
        raise ModelError("emit", "--network without --run", remedy="Add --run RUN.")
    for option, is_given in options.given().items():
        if is_given and not network:
            problem = f"{option} is for a network"
            raise ModelError("emit", problem, remedy=f"Add --network, or omit {option}.")


def emit_network(
    folder: Path,
    out: Path,
    backend: str,
    name: str | None,
    format_: str | None,
    options: NetworkOptions,
) -> None:
    """Write the network of a run in integers into `out`, and print its sizes and accuracy."""
    from lnm_codegen.cli import network_readme as readme
    from lnm_codegen.deploy.integers import inputs
    from lnm_codegen.deploy.integers.accuracy import integer_accuracy
    from lnm_codegen.deploy.integers.source import FILE, run_file
    from lnm_codegen.deploy.integers.zeros import zero_notes
    from lnm_codegen.ir.network.exchange import network_files

    if backend not in BACKENDS:
        problem = f"--network with --backend {backend}"
        raise ModelError("emit", problem, f"one of {', '.join(BACKENDS)}", "Add --backend c.")
    for option, only in ONLY_FOR.items():
        if options.given()[option] and backend != only:
            problem, remedy = f"{option} with --backend {backend}", f"Omit {option}."
            raise ModelError("emit", problem, f"--backend {only}", remedy)
    count = GOLDEN[backend] if options.vectors is None else options.vectors
    require_integer("emit", "--vectors", count, 1, MOST_VECTORS)
    accumulate = "events" if options.accumulate is None else options.accumulate
    word = require_one_of("emit", "--accumulate", accumulate, ACCUMULATIONS)
    lanes = require_integer(
        "emit", "--lanes", LANES if options.lanes is None else options.lanes, 1, MOST_LANES
    )
    if options.weights is not None:
        require_integer("emit", "--weights", options.weights, 2, 16)
    run = read_run(folder)
    tested = _tested(run, options.every)
    _require_samples(tested, options)
    real = real_of(run, name)
    integers, is_of_run = _network_of(run, real, name, format_, options.weights)
    if backend == "c":
        source, sizes = _c(tested, integers, count, cast("Accumulation", word))
        more: dict[str, str | bytes] = {}
    else:
        source, sizes, more = _verilog(tested, integers, count, lanes, options.load_port)
    values = {"--name": name, "--format": format_, "--vectors": options.vectors}
    command = readme.command_of(folder, backend, out, values | options.values())
    accuracy = integer_accuracy(run.network, integers, tested.batches(tested.test, RANGED))
    scale = inputs.input_scale(tested.name, tested.scale, tested.test.images)
    files = {**network_files(integers), inputs.FILE: scale.file(), **more}
    if is_of_run:
        files[FILE] = run_file(run.network)
    sections = (readme.run_section(run, integers, accuracy), readme.input_section(scale, integers))
    files[readme.README] = readme.completed(source.files[readme.README], sections, files, command)
    paths = write_together({Path(): source}, out, more={Path(p): d for p, d in files.items()})
    for note in zero_notes(integers, real):
        typer.echo(f"note: {note}.", err=True)
    typer.echo(
        f"{len(paths)} files written to {out}\n"
        f"{integers.name}: {len(integers.stages)} stages, {integers.time_steps} time steps,"
        f" {integers.classes} classes\n{sizes}\naccuracy: {accuracy}"
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
    run: Run, real: RealNetwork, name: str | None, format_: str | None, weights: int | None
) -> tuple[IntegerNetwork, bool]:
    """Return the network in the formats of the options, and whether its weights are the run's."""
    from lnm_codegen.deploy.integers.convert import default_formats, integer_network
    from lnm_codegen.deploy.integers.weights import WeightFormat
    from lnm_codegen.ir.network.exchange import JSON

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
    return integer_network(real, formats), True


def _read(folder: Path, real: RealNetwork, name: str | None) -> tuple[IntegerNetwork, bool]:
    """Return the network of a folder, one of the run, and whether weights were compared."""
    from dataclasses import replace

    from lnm_codegen.deploy.integers.source import FILE, require_run
    from lnm_codegen.ir.network.exchange import read_network

    found = read_network(folder)
    is_of_run = require_run(folder, found, real)
    if not is_of_run:
        note = f"note: --format {folder} has no {FILE}: its weights were not compared with the run."
        typer.echo(note, err=True)
    return (found if name is None else replace(found, name=real.name)), is_of_run


def _tested(run: Run, every: bool) -> Dataset:
    """Return the data of a run with the first test samples, or with all of them."""
    from dataclasses import replace

    from lnm_codegen.train.runs.saved import test_data

    data = test_data(run)
    return data if every else replace(data, test=data.test.first(TESTED))


def _require_samples(tested: Dataset, options: NetworkOptions) -> None:
    """Refuse more golden vectors than test samples."""
    kept = len(tested.test)
    if options.vectors is not None and options.vectors > kept:
        remedy = "Add --all, for every test sample." if kept == TESTED and not options.every else ""
        accepted = f"an integer from 1 to {kept}, the number of test samples"
        raise wrong("emit", "--vectors", options.vectors, accepted, remedy)


def _c(
    data: Dataset, integers: IntegerNetwork, count: int, accumulation: Accumulation
) -> tuple[Source, str]:
    """Return the C of a network with its first `count` test samples, and a line about bytes."""
    from lnm_codegen.backends.network_c.backend import emit_network as emitted
    from lnm_codegen.hardware.microcontroller import program_size
    from lnm_codegen.ir.network.interpret import interpret_network, sample_rows

    samples = _samples(data, integers, count)
    scores = interpret_network(integers, samples).scores
    made = emitted(integers, sample_rows(integers, samples), scores, accumulation)
    size = program_size(made.source.files, f"{integers.name}.c")
    code = "arm-none-eabi-gcc not found" if size is None else f"{size.code} bytes"
    line = f"constants {made.constants} bytes, RAM {made.memory} bytes"
    return made.source, f"Cortex-M4: code {code}, {line}"


def _verilog(
    data: Dataset, integers: IntegerNetwork, vectors: int, lanes: int, load_port: bool
) -> tuple[Source, str, dict[str, str | bytes]]:
    """Return the Verilog of a network, a line about its sizes, and the samples for its tests."""
    from lnm_codegen.backends.network_verilog.backend import emit_circuit, sample_file

    layers_of(integers)  # refuses before the data are read
    tested = _samples(data, integers, len(data.test))
    golden = tested[:vectors] if integers.repeated else tested[:, :vectors]
    made = emit_circuit(integers, golden, lanes, load_port)
    memory = sum(x.depth * x.lanes * x.stage.bits for x in made.layers)
    count = len({array.name for array in made.arrays.values()})
    events = ", ".join(f"{x.stage.name} {x.rows}" for x in made.layers)
    line = (
        f"Verilog: weights {memory} bits, arrays of neurons {count},"
        f" at most {made.most_cycles} cycles a sample; cycles an event: {events}"
    )
    return made.source, line, sample_file(tested)


def _samples(data: Dataset, integers: IntegerNetwork, count: int) -> Integers:
    """Return the first test samples in integers."""
    from lnm_codegen.deploy.integers.convert import integer_samples

    x, _ = next(data.batches(data.test, count))
    return integer_samples(integers, x.numpy())
