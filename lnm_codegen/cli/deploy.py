"""`lnm deploy` and `lnm arrays`: circuits and C of a trained network."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from lnm_codegen.cli.options import Meta
from lnm_codegen.cli.output import write_together
from lnm_codegen.cli.runs import (
    RANGED,
    WEIGHT_BITS,
    WeightBits,
    read_run,
    real_of,
    run_rows,
    specs_of,
)
from lnm_codegen.errors import ModelError
from lnm_codegen.options import NetworkTargetName
from lnm_codegen.validation import Accepted, wrong

if TYPE_CHECKING:
    from lnm_codegen.deploy.integers.convert import RealNetwork
    from lnm_codegen.deploy.integers.emit import EmittedNetwork, NetworkTarget
    from lnm_codegen.hardware.folder import Circuit
    from lnm_codegen.ir.network.nodes import IntegerNetwork
    from lnm_codegen.train.data.dataset import Dataset
    from lnm_codegen.train.runs.saved import Run

TESTED = 1000
"""Test samples for the accuracy without --all, which a folder of Verilog keeps for `lnm verify`."""


def deploy(
    run: Path,
    /,
    *,
    backend: Annotated[NetworkTargetName, Accepted()],
    out: Annotated[Path, Meta("DIR")],
    name: Annotated[str | None, Meta("NAME")] = None,
    format_: Annotated[str | None, Meta("FORMAT|DIR")] = None,
    weights: Annotated[WeightBits | None, Meta("BITS")] = None,
    accumulate: Literal["events", "dense"] | None = None,
    lanes: Annotated[int | None, Meta("N")] = None,
    neurons_per_cycle: Annotated[int | None, Meta("N")] = None,
    load_port: bool = False,
    axi: bool = False,
    reload: Annotated[Path | None, Meta("DIR")] = None,
    vectors: Annotated[int | None, Meta("N")] = None,
    measure: bool = False,
    all_: bool = False,
) -> None:
    """Write a trained network in integers, as C or Verilog.

    DIR becomes the folder of the network: network.json, its source, test samples and a README.
    Prints its sizes and its accuracy. If a family is a Python file, that file is run.

    Options:
        backend: Language of the source.
        out: Folder to write into.
        name: Name of files, functions and modules. [default: <data>_<neuron>, in Verilog with a
            digest behind it]
        format_: 16.12 for the neurons, or the folder of `lnm quantize RUN --out`. By default
            formats follow from the run's training samples.
        weights: Bits of a weight. [default: 8]
        accumulate: Sums in C: events adds the weights of inputs that are not zero, dense
            multiplies all. [default: events]
        lanes: Weights that a layer in Verilog adds in a cycle, 1 to 64. With 1, the neurons of a
            layer share one multiplier. [default: 4]
        neurons_per_cycle: Most neurons of a layer in Verilog that are updated in a cycle, 1 to 16.
            [default: 1]
        load_port: A port in Verilog by which trained numbers are loaded.
        axi: A wrapper in Verilog for a system bus: AXI4-Stream and registers on AXI4-Lite.
        reload: A folder that was written with --load-port: write the image by which its circuit
            gets the numbers of this run, in its formats.
        vectors: Test samples of the example in C, or of the testbench. [default: 4, up to 8]
        measure: Run the test samples of the folder in Verilator, and state the mean cycles of a
            sample in README and manifest.
        all_: Every test sample for the accuracy and for `lnm verify`, instead of 1,000.
    """
    from lnm_codegen.deploy.integers import emit as folder
    from lnm_codegen.deploy.integers.search import integer_accuracy
    from lnm_codegen.deploy.integers.source import FILE, run_file

    options = {
        "--name": name, "--format": format_, "--vectors": vectors, "--weights": weights,
        "--accumulate": accumulate, "--lanes": lanes, "--neurons-per-cycle": neurons_per_cycle,
        "--load-port": load_port, "--axi": axi, "--reload": reload, "--measure": measure,
        "--all": all_,
    }  # fmt: skip
    given = {option: v for option, v in options.items() if v is not None and v is not False}
    target = folder.NetworkTarget(
        backend, vectors, accumulate, lanes, neurons_per_cycle, load_port, axi
    )
    target.require("deploy", lambda word: f"--{word.replace('_', '-')}")
    if measure and (backend != "verilog" or reload is not None):
        problem = "--measure without a circuit to write"
        raise ModelError("deploy", problem, "--backend verilog, no --reload", "Omit --measure.")
    circuit = None if reload is None else _circuit_of(reload, backend, given, out)
    trained = read_run(run)
    tested = _tested(trained, vectors, all_)
    real = real_of(trained, name)
    if circuit is not None and format_ is None:
        integers, is_of_run = _in_formats_of(real, circuit), True
    else:
        integers, is_of_run = _network_of(trained, real, name, format_, weights)
    if name is None and circuit is None:
        integers = folder.with_unique_name(integers, target)
    emitted = _emitted(tested, integers, real, target, circuit, measure)
    sizes = _sizes(emitted)
    accuracy = integer_accuracy(trained.network, integers, tested.batches(tested.test, RANGED))
    scale = folder.input_scale(tested.name, tested.scale, tested.test.images)
    more = {folder.FILE: scale.file()}
    if is_of_run:
        more[FILE] = run_file(trained.network)
    rows = [
        *run_rows(trained),
        ("formats", folder.formats_text(integers)),
        ("accuracy", f"{accuracy}, when this folder was written"),
    ]
    sections = (
        folder.network_section("Run", rows, trained.network),
        folder.input_section(scale, integers),
    )
    end = _command(["lnm", "deploy", str(run), "--backend", backend], given, out)
    files = {Path(p): data for p, data in emitted.files(sections, more, end).items()}
    paths = write_together({}, out, "deploy", files)
    for note in emitted.notes:
        typer.echo(f"note: {note}.", err=True)
    typer.echo(
        f"{len(paths)} files written to {out}\n"
        f"{emitted.network.name}: {len(integers.stages)} stages, {integers.time_steps} time steps,"
        f" {integers.classes} classes\n{sizes}\naccuracy: {accuracy}"
    )


def _tested(run: Run, vectors: int | None, whole: bool) -> Dataset:
    """Return the data of a run with the test samples that count."""
    from lnm_codegen.train.runs.saved import test_data

    data = test_data(run)
    data = data if whole else replace(data, test=data.test.first(TESTED))
    kept = len(data.test)
    if vectors is not None and vectors > kept:
        remedy = "Add --all, for every test sample." if kept == TESTED and not whole else ""
        accepted = f"an integer from 1 to {kept}, the number of test samples"
        raise wrong("deploy", "--vectors", vectors, accepted, remedy)
    return data


def _command(words: list[str], given: Mapping[str, object], out: Path) -> str:
    """Return the section of the README with the command of a folder."""
    for option, value in given.items():
        words += [option] if value is True else [option, str(value)]
    command = shlex.join([*words, "--out", str(out)])
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
            raise ModelError("deploy", problem, remedy="Omit --weights.")
        return _read(Path(format_), real, name)
    samples, _ = next(run.data.batches(run.data.train, RANGED))
    neurons = None if format_ is None else specs_of(run, format_)
    return default_network(real, samples, WeightFormat(weights or WEIGHT_BITS), neurons), True


def _read(folder: Path, real: RealNetwork, name: str | None) -> tuple[IntegerNetwork, bool]:
    """Return the network of a folder, one of the run, and whether weights were compared."""
    from lnm_codegen.deploy.integers.source import FILE, require_formats, require_run
    from lnm_codegen.ir.network.exchange import read_network

    found = read_network(folder)
    is_of_run = require_run(folder, found, real)
    require_formats(folder, found)
    if not is_of_run:
        note = f"note: --format {folder} has no {FILE}: its weights were not compared with the run."
        typer.echo(note, err=True)
    return (found if name is None else replace(found, name=real.name)), is_of_run


OF_IMAGES = ("--format", "--accumulate", "--reload", "--all")
"""Options that --reload does not determine."""


def _circuit_of(folder: Path, backend: str, given: Mapping[str, object], out: Path) -> Circuit:
    """Return the circuit of --reload; refuse options that it determines."""
    from lnm_codegen.hardware.folder import read_circuit

    for option in given:
        if option not in OF_IMAGES:
            problem = f"{option} with --reload, whose circuit determines it"
            raise ModelError("deploy", problem, remedy=f"Omit {option}.")
    if backend != "verilog":
        problem = f"--reload with --backend {backend}"
        raise ModelError("deploy", problem, "--backend verilog", "Omit --reload.")
    remedy = "Write one: lnm deploy RUN --backend verilog --load-port --out DIR."
    try:
        circuit = read_circuit(folder, "deploy: --reload")
    except ModelError as error:
        raise ModelError(error.where, error.problem, error.accepted, remedy) from None
    if not (circuit.is_network and circuit.manifest["load_port"]):
        accepted = "a folder of lnm deploy --backend verilog --load-port"
        raise ModelError(f"deploy: --reload {folder}", "no circuit with a load port", accepted)
    if out.resolve() == circuit.folder.resolve():
        problem = f"--out {out} is the circuit of --reload, which the image would replace"
        raise ModelError("deploy", problem, "another folder")
    return circuit


def _in_formats_of(real: RealNetwork, circuit: Circuit) -> IntegerNetwork:
    """Return the network of a run in the formats of a circuit."""
    from lnm_codegen.deploy.integers.convert import formats_of, integer_network
    from lnm_codegen.ir.network.exchange import read_network

    formats = formats_of(read_network(circuit.folder))
    own = {stage.name for stage in real.weights} | {stage.name for stage in real.neurons}
    other = {*formats.weights, *formats.neurons}
    if own != other:
        problem = f"the run has layers {', '.join(sorted(own))}"
        raise ModelError("reload", problem, f"{', '.join(sorted(other))}, as in the circuit")
    return integer_network(real, formats)


def _emitted(
    data: Dataset,
    integers: IntegerNetwork,
    real: RealNetwork,
    target: NetworkTarget,
    circuit: Circuit | None,
    measure: bool,
) -> EmittedNetwork:
    """Return the source of a network, with its test samples; in C those of the example alone."""
    from lnm_codegen.backends.network_verilog.layers import layers_of
    from lnm_codegen.deploy.integers.convert import zero_notes
    from lnm_codegen.deploy.integers.emit import emit_integers, emit_reload
    from lnm_codegen.hardware.folder import read_circuit
    from lnm_codegen.hardware.tools import temporary_folder
    from lnm_codegen.hardware.verify.network import mean_cycles

    if circuit is not None:
        count = min(circuit.manifest["vectors"], len(data.test))
        samples, _ = next(data.batches(data.test, count))
        return emit_reload(circuit, integers, samples, zero_notes(integers, real.neurons))
    is_circuit = target.backend == "verilog"
    if is_circuit:
        layers_of(integers)  # refuses before the data are read
    samples, _ = next(data.batches(data.test, len(data.test) if is_circuit else target.count()))
    notes = zero_notes(integers, real.neurons)
    emitted = emit_integers(integers, samples, target, notes)
    if not measure:
        return emitted
    with temporary_folder() as folder:
        emitted.write(folder)
        mean = mean_cycles(read_circuit(folder, "deploy"))
    return emit_integers(integers, samples, target, notes, mean)


def _sizes(emitted: EmittedNetwork) -> str:
    """Return the line about bytes, or about the memories and cycles of a circuit."""
    from lnm_codegen.backends.network_c import NetworkSource
    from lnm_codegen.backends.network_verilog.backend import LoadImage
    from lnm_codegen.hardware.microcontroller import program_size

    made = emitted.made
    if isinstance(made, NetworkSource):
        size = program_size(made.source.files, made.source.entry)
        code = "arm-none-eabi-gcc not found" if size is None else f"{size.code} bytes"
        line = f"constants {made.constants} bytes, RAM {made.memory} bytes"
        return f"Cortex-M4: code {code}, {line}"
    if isinstance(made, LoadImage):
        return f"Image: {made.writes} writes for the load port of {made.design.name}"
    memory = sum(x.depth * x.lanes * x.stage.bits for x in made.layers)
    count = len({array.name for array in made.arrays.values()})
    mean = f", {made.mean.cycles} measured between samples" if made.mean else ""
    first = (x for x in made.layers if x.slice.is_first)
    events = ", ".join(f"{x.stage.name.removesuffix(x.slice.title)} {x.event_rows}" for x in first)
    return (
        f"Verilog: weights {memory} bits, arrays of neurons {count},"
        f" at most {made.most_cycles} cycles a sample{mean}; cycles an event: {events}"
    )
