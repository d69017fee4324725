"""`lnm verify`: verification steps of a circuit's folder."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lnm_codegen.cli.options import Meta
from lnm_codegen.cli.output import print_json
from lnm_codegen.errors import ModelError

if TYPE_CHECKING:
    from lnm_codegen.hardware.result import StepResult


def verify(
    folder: Annotated[Path, Meta("DIR")],
    /,
    *,
    only: Annotated[str | None, Meta("STEP,...")] = None,
    quick: bool = False,
    all_: bool = False,
    allow_missing: bool = False,
    json: bool = False,
) -> None:
    """Verify a circuit from its folder alone.

    This runs the C, C++, Python and sby files of the folder: verify only folders that you trust.

    The steps: model (NumPy = C = apytypes), lint (no warning, no latch), icarus (testbenches),
    cocotb, verilator (against the C model), formal (proofs, each with a control that must fail),
    synthesis (multipliers counted), mutation (faults that the testbenches notice). A step whose
    tool is missing is skipped; the report says how to install it. Writes DIR/report.json after each
    step; if the command is stopped, the other steps are incomplete there. Exits with 1 if a step
    fails, and with 3 if none fails and a tool is missing: the verification is
    incomplete. In the folder of a network each step verifies the network, then each distinct array
    of neurons; mutation is that of the arrays.

    Options:
        only: Run these steps alone.
        quick: Run models, lint and simulation alone, in seconds.
        all_: Run a network in Verilator on all samples of the folder, not on the first 1,000.
        allow_missing: Exit with 0 although a tool is missing.
    """
    from lnm_codegen.hardware.folder import read_circuit
    from lnm_codegen.hardware.result import (
        FAILED,
        INCOMPLETE,
        SKIPPED,
        require_writable,
        update_report,
        verdict_of,
    )
    from lnm_codegen.hardware.verify.network import run_network_steps
    from lnm_codegen.hardware.verify.steps import TOOLS, run_steps, selected_steps

    if only is not None and quick:
        raise ModelError("verify", "both --only and --quick", "one of them")
    words = selected_steps(only, quick)
    circuit = read_circuit(folder, "verify")
    require_writable(circuit, "verification")
    found: list[StepResult] = []
    if all_ and not circuit.is_network:
        remedy = "Omit --all."
        raise ModelError("verify: --all", f"{circuit.name} is not a network", remedy=remedy)
    if all_ and "verilator" not in words:
        problem = f"only the step verilator reads it, and the steps are {', '.join(words)}"
        raise ModelError("verify: --all", problem, remedy="Omit --all.")
    steps = partial(run_network_steps, every=all_) if circuit.is_network else run_steps
    running = steps(circuit, words)
    section: dict[str, Any] = {name: {"status": INCOMPLETE, "checks": []} for name in words}
    for name in words:
        if not quick:
            typer.echo(f"{name}: running", err=True)
        step = next(running)
        found.append(step)
        section[name] = step.as_dict()
        if not json:
            _print(step)
        tools = TOOLS if name == words[-1] else ()
        report = update_report(circuit, "verification", section, tools)
    status = verdict_of(found)
    if json:
        print_json({"folder": str(folder), "status": status, **report})
    else:
        left = [s.name for s in found if any(check.status == SKIPPED for check in s.checks)]
        note = f", tools are missing in {', '.join(left)}" if left else ""
        typer.echo(f"{circuit.name}: {status}{note}; written to {folder / 'report.json'}")
    if status == FAILED:
        raise typer.Exit(1)
    if status == INCOMPLETE and not allow_missing:
        raise typer.Exit(3)


def _print(step: StepResult) -> None:
    from lnm_codegen.hardware.verify.mutation import faults_text

    line = f"{step.name:<10} {step.status:<8} {step.count:>9}  {step.seconds:6.1f} s"
    typer.echo(f"{line}  {faults_text(step)}".rstrip())
    for check in step.checks:
        if check.status != "passed" or check.detail:
            detail = f": {check.detail}" if check.detail else ""
            typer.echo(f"{'':<10} {check.status:<8} {check.name}{detail}")
