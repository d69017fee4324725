"""`lnm verify`: the ladder of proofs and measurements of a folder of Verilog."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lnm_codegen.cli.options import JsonOption
from lnm_codegen.cli.output import print_json
from lnm_codegen.errors import ModelError

if TYPE_CHECKING:
    from lnm_codegen.hardware.result import Rung

FolderArgument = Annotated[
    Path, typer.Argument(metavar="DIR", help="What lnm emit --backend verilog wrote.")
]


def verify(
    folder: FolderArgument,
    only: Annotated[
        str | None,
        typer.Option("--only", metavar="RUNG,...", help="These rungs and no others."),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Models, lint and simulation alone: seconds.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Verify a circuit, from its folder alone.

    The rungs: model (NumPy = C = apytypes), lint (no warning, no latch), icarus (testbenches),
    cocotb, verilator (against the C model), formal (proofs, each with a control that has to fail),
    synthesis (multipliers counted), mutation (what the testbenches notice). What is left out for
    want of a tool is named with what to install. Writes DIR/report.json; exits with 1 if anything
    failed.
    """
    from lnm_codegen.hardware.folder import read_circuit
    from lnm_codegen.hardware.report import check_writable, ladder, updated
    from lnm_codegen.hardware.result import FAILED, SKIPPED, worst
    from lnm_codegen.hardware.verify.steps import TOOLS, climb, rungs_of

    if only is not None and quick:
        raise ModelError("verify", "give one of --only and --quick")
    words = rungs_of(only, quick)
    circuit = read_circuit(folder, "verify")
    check_writable(circuit, "verification")
    found: list[Rung] = []
    for rung in climb(circuit, words):
        found.append(rung)
        if not json:
            _print(rung)
    report = updated(circuit, "verification", ladder(found), TOOLS)
    status = worst(found)
    if json:
        print_json({"folder": str(folder), "status": status, **report})
    else:
        left = [rung.name for rung in found if rung.status == SKIPPED]
        told = f", {', '.join(left)} left out" if left and status != SKIPPED else ""
        typer.echo(f"{circuit.name}: {status}{told}; written to {folder / 'report.json'}")
    if status == FAILED:
        raise typer.Exit(1)


def _print(rung: Rung) -> None:
    typer.echo(f"{rung.name:<10} {rung.status:<8} {rung.count:>9}  {rung.seconds:6.1f} s")
    for check in rung.checks:
        if check.status != "passed" or check.detail:
            told = f": {check.detail}" if check.detail else ""
            typer.echo(f"{'':<10} {check.status:<8} {check.name}{told}")
