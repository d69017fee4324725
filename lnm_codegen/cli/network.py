"""`lnm emit --run RUN --network`: a trained network in integers, and its source."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast, get_args

import typer

from lnm_codegen.backends.network_verilog.layers import LANES, MOST_LANES, layers_of
from lnm_codegen.cli.output import write_together
from lnm_codegen.cli.runs import RANGED, WEIGHT_BITS, read_run, real_of, run_rows, specs_of
from lnm_codegen.errors import ModelError
from lnm_codegen.options import NetworkTargetName
from lnm_codegen.validation import require_integer, wrong

if TYPE_CHECKING:
    from lnm_codegen.backends.network_c import Accumulation
    from lnm_codegen.deploy.integers.convert import RealNetwork
    from lnm_codegen.deploy.integers.emit import EmittedNetwork, NetworkTarget
    from lnm_codegen.ir.network.nodes import IntegerNetwork
    from lnm_codegen.train.data import Dataset
    from lnm_codegen.train.runs.saved import Run

BACKENDS = get_args(NetworkTargetName)
TESTED = 1000
"""Test samples for the accuracy without --all, which a folder of Verilog keeps for `lnm verify`."""

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

    def target(self, backend: str) -> NetworkTarget:
        """Return the target of these options, or raise ModelError where one is not accepted."""
        from lnm_codegen.deploy.integers.emit import NetworkTarget

        if backend not in BACKENDS:
            problem = f"--network with --backend {backend}"
            raise ModelError("emit", problem, f"one of {', '.join(BACKENDS)}", "Add --backend c.")
        found = NetworkTarget(
            backend=cast("NetworkTargetName", backend),
            vectors=self.vectors,
            accumulate=cast("Accumulation | None", self.accumulate),
            lanes=self.lanes,
            load_port=self.load_port,
        )
        found.require("emit", lambda word: f"--{word.replace('_', '-')}")
        return found


def require_network(run: Path | None, network: bool, options: NetworkOptions) -> None:
    """Refuse options that apply only to `--network`, or `--network` without a run."""
    if network and run is None:
        raise ModelError("emit", "--network without --run", remedy="Add --run RUN.")
    for option, is_given in options.given().items():
        if is_given and not network:
            problem = f"{option} is for a network"
            raise ModelError("emit", problem, remedy=f"Add --network, or omit {option}.")


def write_network(
    folder: Path,
    out: Path,
    backend: str,
    name: str | None,
    format_: str | None,
    options: NetworkOptions,
) -> None:
    """Write the network of a run in integers into `out`, and print its sizes and accuracy."""
    from lnm_codegen.deploy.integers import emit as inputs
    from lnm_codegen.deploy.integers import emit as readme
    from lnm_codegen.deploy.integers.search import integer_accuracy
    from lnm_codegen.deploy.integers.source import FILE, run_file

    target = options.target(backend)
    if options.weights is not None:
        require_integer("emit", "--weights", options.weights, 2, 16)
    run = read_run(folder)
    tested = _tested(run, options.every)
    _require_samples(tested, options)
    real = real_of(run, name)
    integers, is_of_run = _network_of(run, real, name, format_, options.weights)
    emitted = _emitted(tested, integers, real, target)
    sizes = _sizes(emitted)
    accuracy = integer_accuracy(run.network, integers, tested.batches(tested.test, RANGED))
    scale = inputs.input_scale(tested.name, tested.scale, tested.test.images)
    more = {inputs.FILE: scale.file()} | ({FILE: run_file(run.network)} if is_of_run else {})
    rows = run_rows(run)
    rows.append(("formats", readme.formats_text(integers)))
    rows.append(("accuracy", f"{accuracy}, when this folder was written"))
    sections = (
        readme.network_section("Run", rows, run.network),
        readme.input_section(scale, integers),
    )
    values = {"--name": name, "--format": format_, "--vectors": options.vectors}
    command = _command(folder, backend, out, values | options.values())
    files = emitted.files(sections, more, _command_section(command))
    paths = write_together({}, out, more={Path(path): data for path, data in files.items()})
    for note in emitted.notes:
        typer.echo(f"note: {note}.", err=True)
    typer.echo(
        f"{len(paths)} files written to {out}\n"
        f"{integers.name}: {len(integers.stages)} stages, {integers.time_steps} time steps,"
        f" {integers.classes} classes\n{sizes}\naccuracy: {accuracy}"
    )


def _command(run: object, backend: str, out: object, given: Mapping[str, object]) -> str:
    """Return the line of `lnm emit --network`, with paths as they were given.

    Args:
        run: `--run`.
        backend: `--backend`.
        out: `--out`.
        given: Further options: a value, True for an option without one; None or False is omitted.
    """
    words = ["lnm", "emit", "--run", str(run), "--network", "--backend", backend]
    for option, value in given.items():
        if value is None or value is False:
            continue
        words += [option] if value is True else [option, str(value)]
    return shlex.join([*words, "--out", str(out)])


def _command_section(command: str) -> str:
    return f"\n## Command\n\nThis command wrote the folder:\n\n```sh\n{command}\n```\n"


def _network_of(
    run: Run, real: RealNetwork, name: str | None, format_: str | None, weights: int | None
) -> tuple[IntegerNetwork, bool]:
    """Return the network in the formats of the options, and whether its weights are the run's."""
    from lnm_codegen.deploy.integers.convert import default_network
    from lnm_codegen.deploy.integers.real import WeightFormat
    from lnm_codegen.ir.network.exchange import JSON

    if format_ is not None and (Path(format_) / JSON).exists():
        if weights is not None:
            problem = f"--weights with --format {format_}, which has the weights"
            raise ModelError("emit", problem, remedy="Omit --weights.")
        return _read(Path(format_), real, name)
    samples, _ = next(run.data.batches(run.data.train, RANGED))
    neurons = None if format_ is None else specs_of(run, format_)
    return default_network(real, samples, WeightFormat(weights or WEIGHT_BITS), neurons), True


def _read(folder: Path, real: RealNetwork, name: str | None) -> tuple[IntegerNetwork, bool]:
    """Return the network of a folder, one of the run, and whether weights were compared."""
    from dataclasses import replace

    from lnm_codegen.deploy.integers.source import FILE, require_formats, require_run
    from lnm_codegen.ir.network.exchange import read_network

    found = read_network(folder)
    is_of_run = require_run(folder, found, real)
    require_formats(folder, found)
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


def _emitted(
    data: Dataset, integers: IntegerNetwork, real: RealNetwork, target: NetworkTarget
) -> EmittedNetwork:
    """Return the source of a network, with its test samples; in C those of the example alone."""
    from lnm_codegen.deploy.integers.convert import zero_notes
    from lnm_codegen.deploy.integers.emit import emit_integers

    is_circuit = target.backend == "verilog"
    if is_circuit:
        layers_of(integers)  # refuses before the data are read
    samples, _ = next(data.batches(data.test, len(data.test) if is_circuit else target.count))
    return emit_integers(integers, samples, target, zero_notes(integers, real.neurons))


def _sizes(emitted: EmittedNetwork) -> str:
    """Return the line about bytes, or about the memories and cycles of a circuit."""
    from lnm_codegen.backends.network_c import NetworkSource
    from lnm_codegen.hardware.microcontroller import program_size

    made = emitted.made
    if isinstance(made, NetworkSource):
        size = program_size(made.source.files, made.source.entry)
        code = "arm-none-eabi-gcc not found" if size is None else f"{size.code} bytes"
        line = f"constants {made.constants} bytes, RAM {made.memory} bytes"
        return f"Cortex-M4: code {code}, {line}"
    memory = sum(x.depth * x.lanes * x.stage.bits for x in made.layers)
    count = len({array.name for array in made.arrays.values()})
    events = ", ".join(f"{x.stage.name} {x.rows}" for x in made.layers)
    return (
        f"Verilog: weights {memory} bits, arrays of neurons {count},"
        f" at most {made.most_cycles} cycles a sample; cycles an event: {events}"
    )
