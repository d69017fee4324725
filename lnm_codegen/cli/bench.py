"""`lnm bench` and `lnm bench-network`: times of layers and networks, beside other libraries."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lnm_codegen.analysis.canvas import require_matplotlib
from lnm_codegen.cli.options import (
    Degree,
    Meta,
    Settings,
    family_arguments,
    parse_integers,
    require_folder,
)
from lnm_codegen.cli.output import print_json, print_table
from lnm_codegen.families.library import resolve
from lnm_codegen.files import unwritable
from lnm_codegen.language.neuron import require_one_port
from lnm_codegen.options import DtypeName, MemoryFormatName, PrecisionName
from lnm_codegen.sections import Table
from lnm_codegen.validation import Count

if TYPE_CHECKING:
    from lnm_codegen.bench.suite import Case


def bench(
    family: str = "lnm",
    /,
    *,
    degree: Degree = None,
    set_: Settings = None,
    steps: Annotated[str, Meta("T,...")] = "4,16,64",
    neurons: Annotated[str, Meta("N,C,...")] = "32,128,256",
    dtype: DtypeName = "float32",
    device: str = "cpu",
    rounds: Count = 9,
    loops: bool = True,
    compile_: bool = True,
    peers: bool = True,
    starts: bool = True,
    out: Annotated[Path | None, Meta("DIR")] = None,
    json: bool = False,
) -> None:
    """Time a neuron beside the floor and other libraries.

    Options:
        steps: Sequence lengths.
        neurons: Shape of a step.
        rounds: Rounds of the round-robin.
        loops: Time eager PyTorch loops.
        compile_: Time the loop under torch.compile.
        peers: Time other libraries, if installed.
        starts: Time cold and cached starts.
        out: Folder for bench.csv and bench.png.
    """
    arguments = family_arguments(set_, degree)
    neuron = resolve(family, **arguments)
    lengths = _lengths("bench", steps)
    _require_places("bench", device, out)
    shape = parse_integers("bench", "neurons", neurons, "N,C,... >= 1, such as 32,128,256", count=2)
    require_one_port("bench", neuron)
    if out is not None:
        require_matplotlib("bench")
    from lnm_codegen.bench.suite import Case
    from lnm_codegen.nn.arguments import require_dtype

    # Another process gets the neuron by name, with arguments as text.
    has_start = starts and family.isidentifier() and arguments.get("surrogate") is None
    cases = [
        Case(
            neuron=neuron,
            label=family if degree is None else f"{family} degree {degree}",
            shape=(length, *shape),
            dtype=require_dtype("bench", dtype),
            device=device,
            loops=loops,
            compile=compile_,
            peers=peers,
            start=(family, arguments) if has_start else None,
            rounds=rounds,
        )
        for length in lengths
    ]
    _bench_layers(cases, out, json)


def bench_network(
    network: str,
    family: str = "lif",
    /,
    *,
    degree: Degree = None,
    set_: Settings = None,
    steps: Annotated[str | None, Meta("T,...")] = None,
    batch: Count | None = None,
    size: Count | None = None,
    net: Settings = None,
    device: str = "cpu",
    precision: PrecisionName = "float32",
    memory_format: MemoryFormatName = "contiguous",
    rounds: Count = 9,
    compile_: bool = True,
    peers: bool = True,
    out: Annotated[Path | None, Meta("DIR")] = None,
    json: bool = False,
) -> None:
    """Time training steps of a network beside other libraries.

    Options:
        network: conv, resnet18, sew_resnet18, vgg11 or feedforward.
        steps: Sequence lengths; by default those of the network.
        batch: Samples in a step.
        size: Side of the images, or the features.
        net: An option of the network; repeat it.
        precision: float32, or autocast to bfloat16 or float16, of every subject.
        memory_format: Layout of convolutions: contiguous or channels_last.
        rounds: Rounds of the round-robin.
        compile_: Time other libraries under torch.compile too.
        peers: Time other libraries, if installed.
        out: Folder for network.csv.
    """
    neuron = resolve(family, **family_arguments(set_, degree))
    lengths = None if steps is None else _lengths("bench-network", steps)
    _require_places("bench-network", device, out)
    from lnm_codegen.bench import steps as measured
    from lnm_codegen.bench.table import write_csv

    options = family_arguments(net, option="--net")
    report = measured.measure_steps(
        measured.StepCase(
            network, neuron, lengths, batch, size, device, precision, memory_format, options,
            peers, compile_, rounds,
        )
    )  # fmt: skip
    if json:
        print_json(asdict(report))
    else:
        print_table(Table(measured.HEADER, measured.table(report.rows), numbers=True))
        load = " and ".join(f"{value:.1f}" for value in report.load)
        lines = [measured.LEGEND, f"Load of the machine before and after: {load}."]
        typer.echo("\n".join(["", *lines, *(f"Left out: {note}" for note in report.left_out)]))
    if out is not None:
        try:
            write_csv(report.rows, out / "network.csv")
        except OSError as error:
            raise unwritable("bench-network", out, error) from None


def _lengths(verb: str, steps: str) -> tuple[int, ...]:
    return parse_integers(verb, "steps", steps, "integers >= 1 with commas")


def _require_places(verb: str, device: str, out: Path | None) -> None:
    """Refuse a device that is not here and a folder that cannot be written; settle the cache."""
    from lnm_codegen.bench import measure
    from lnm_codegen.nn.bits import settle_cache

    measure.require_device(device)
    require_folder(verb, out)
    settle_cache()


def _bench_layers(cases: list[Case], out: Path | None, json: bool) -> None:
    """Time a neuron; print its rows and write them into a folder."""
    from lnm_codegen.bench import suite, table

    rows = suite.measure_all(cases)
    if json:
        print_json({"layers": [asdict(r) for r in rows]})
    else:
        print_table(Table(table.HEADER, table.table(rows), numbers=True))
        typer.echo(f"\n{table.LEGEND}")
    if out is not None:
        try:
            table.write_csv(rows, out / "bench.csv")
            table.write_figure(rows, out / "bench.png")
        except OSError as error:
            raise unwritable("bench", out, error) from None
