"""`lnm bench`: times of kernels and layers beside the memory floor, loops and other libraries."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lnm_codegen.analysis.canvas import require_matplotlib
from lnm_codegen.cli.options import (
    DegreeOption,
    DeviceOption,
    DtypeOption,
    FamilyArgument,
    JsonOption,
    SetOption,
    family_arguments,
    parse_integers,
)
from lnm_codegen.cli.output import print_json, print_table
from lnm_codegen.families.library import resolve
from lnm_codegen.files import unwritable


def bench(
    family: FamilyArgument = "lnm",
    degree: DegreeOption = None,
    settings: SetOption = None,
    steps: Annotated[
        str, typer.Option("--steps", help="Sequence lengths T, with commas.")
    ] = "4,16,64",
    neurons: Annotated[
        str, typer.Option("--neurons", metavar="N,C,...", help="Shape of a step.")
    ] = "32,128,256",
    dtype: DtypeOption = "float32",
    device: DeviceOption = "cpu",
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="Rounds of the round-robin.")] = 9,
    loops: Annotated[
        bool, typer.Option("--loops/--no-loops", help="Time eager PyTorch loops.")
    ] = True,
    compile_: Annotated[
        bool, typer.Option("--compile/--no-compile", help="Time the loop under torch.compile.")
    ] = True,
    peers: Annotated[
        bool, typer.Option("--peers/--no-peers", help="Time other libraries, if installed.")
    ] = True,
    starts: Annotated[
        bool, typer.Option("--starts/--no-starts", help="Time cold and cached starts.")
    ] = True,
    network: Annotated[
        bool, typer.Option("--network", help="Also time a training step of a small network.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for bench.csv and bench.png.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Time a neuron beside the memory floor and other libraries."""
    from dataclasses import asdict

    from lnm_codegen.bench import measure
    from lnm_codegen.nn.arguments import require_dtype

    arguments = family_arguments(settings, degree)
    neuron = resolve(family, **arguments)
    lengths = parse_integers("bench", "steps", steps, "integers >= 1 with commas")
    shape = parse_integers("bench", "neurons", neurons, "N,C,... >= 1, such as 32,128,256", count=2)
    kind = require_dtype("bench", dtype)
    measure.require_device(device)
    if out is not None:
        require_matplotlib("bench")
    from lnm_codegen.bench import suite

    cases = [
        suite.Case(
            neuron=neuron,
            label=family if degree is None else f"{family} degree {degree}",
            shape=(length, *shape),
            dtype=kind,
            device=device,
            loops=loops,
            compile=compile_,
            peers=peers,
            start=(family, arguments) if starts and family.isidentifier() else None,
            rounds=rounds,
        )
        for length in lengths
    ]
    rows, steps_of_a_network = suite.measure_all(cases, network)
    if json:
        print_json({"layers": [asdict(r) for r in rows], "network": steps_of_a_network})
    else:
        print_table(suite.HEADER, suite.table(rows), numbers=True)
        if network:
            typer.echo("")
            cells = [tuple(map(str, r.values())) for r in steps_of_a_network]
            print_table(tuple(steps_of_a_network[0]), cells, numbers=True)
    if out is not None:
        try:
            suite.write_csv(rows, out / "bench.csv")
            suite.write_figure(rows, out / "bench.png")
            if steps_of_a_network:
                suite.write_table(steps_of_a_network, out / "network.csv")
        except OSError as error:
            raise unwritable("bench", out, error) from None
