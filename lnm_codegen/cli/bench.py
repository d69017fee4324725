"""`lnm bench`: times of kernels, layers and networks beside the floors and other libraries."""

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
from lnm_codegen.errors import ModelError
from lnm_codegen.families.library import resolve
from lnm_codegen.files import unwritable
from lnm_codegen.language.neuron import require_one_port
from lnm_codegen.options import DtypeName
from lnm_codegen.sections import Table
from lnm_codegen.validation import Count, require_one_of

if TYPE_CHECKING:
    from lnm_codegen.bench.steps import StepCase
    from lnm_codegen.bench.suite import Case


def bench(
    family: str | None = None,
    /,
    *,
    degree: Degree = None,
    set_: Settings = None,
    steps: Annotated[str | None, Meta("T,...")] = None,
    neurons: Annotated[str | None, Meta("N,C,...")] = None,
    dtype: DtypeName = "float32",
    device: str = "cpu",
    rounds: Count = 9,
    loops: bool = True,
    compile_: bool = True,
    peers: bool = True,
    starts: bool = True,
    network: Annotated[str | None, Meta("NAME")] = None,
    batch: Count | None = None,
    size: Count | None = None,
    out: Annotated[Path | None, Meta("DIR")] = None,
    json: bool = False,
) -> None:
    """Time a neuron or network beside the floor and other libraries.

    Options:
        steps: Sequence lengths: 4,16,64, or those of the network.
        neurons: Shape of a step: 32,128,256.
        rounds: Rounds of the round-robin.
        loops: Time eager PyTorch loops.
        compile_: Time the loop under torch.compile.
        peers: Time other libraries, if installed.
        starts: Time cold and cached starts.
        network: Compare training steps of a network instead: conv, resnet18, sew_resnet18, vgg11
            or feedforward. FAMILY is lif then by default.
        batch: Samples in a step of the network.
        size: Side of the network's images, or its features.
        out: Folder for bench.csv and bench.png, or network.csv.
    """
    from lnm_codegen.bench import measure
    from lnm_codegen.nn.bits import settle_cache

    word = family or ("lnm" if network is None else "lif")
    arguments = family_arguments(set_, degree)
    neuron = resolve(word, **arguments)
    lengths = None
    if steps is not None:
        lengths = parse_integers("bench", "steps", steps, "integers >= 1 with commas")
    measure.require_device(device)
    require_folder("bench", out)
    settle_cache()
    if network is not None:
        ignored = {"no-loops": not loops or None, "no-starts": not starts or None}
        _require_absent("is no option of a network", neurons=neurons, **ignored)
        require_one_of("bench --network", "dtype", dtype, ("float32",))
        from lnm_codegen.bench.steps import StepCase

        case = StepCase(network, neuron, lengths, batch, size, device, peers, compile_, rounds)
        return _bench_network(case, out, json)
    _require_absent("needs --network", batch=batch, size=size)
    shape = parse_integers(
        "bench", "neurons", neurons or "32,128,256", "N,C,... >= 1, such as 32,128,256", count=2
    )
    require_one_port("bench", neuron)
    if out is not None:
        require_matplotlib("bench")
    from lnm_codegen.bench.suite import Case
    from lnm_codegen.nn.arguments import require_dtype

    # Another process gets the neuron by name, with arguments as text.
    has_start = starts and word.isidentifier() and arguments.get("surrogate") is None
    cases = [
        Case(
            neuron=neuron,
            label=word if degree is None else f"{word} degree {degree}",
            shape=(length, *shape),
            dtype=require_dtype("bench", dtype),
            device=device,
            loops=loops,
            compile=compile_,
            peers=peers,
            start=(word, arguments) if has_start else None,
            rounds=rounds,
        )
        for length in lengths or (4, 16, 64)
    ]
    _bench_layers(cases, out, json)


def _require_absent(problem: str, **options: object) -> None:
    """Raise ModelError if one of these options is given."""
    for name, value in options.items():
        if value is not None:
            raise ModelError("bench", f"--{name} {problem}", remedy=f"Leave --{name} out.")


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


def _bench_network(case: StepCase, out: Path | None, json: bool) -> None:
    """Compare training steps; print the rows and write them into a folder."""
    from lnm_codegen.bench import steps
    from lnm_codegen.bench.table import write_csv

    report = steps.measure_steps(case)
    if json:
        print_json(asdict(report))
    else:
        print_table(Table(steps.HEADER, steps.table(report.rows), numbers=True))
        load = " and ".join(f"{value:.1f}" for value in report.load)
        lines = [steps.LEGEND, f"Load of the machine before and after: {load}."]
        typer.echo("\n".join(["", *lines, *(f"Left out: {note}" for note in report.left_out)]))
    if out is not None:
        try:
            write_csv(report.rows, out / "network.csv")
        except OSError as error:
            raise unwritable("bench", out, error) from None
