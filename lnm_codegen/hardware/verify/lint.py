"""Verification step "lint": no warning of Verilator or Icarus, and no latch."""

from __future__ import annotations

from pathlib import Path

from lnm_codegen.hardware.folder import Circuit
from lnm_codegen.hardware.result import Check, StepResult, skipped, step_result, verdict
from lnm_codegen.hardware.tools import missing, run

VERILATOR = ("verilator", "--lint-only", "-Wall", "--language", "1364-2005", "--top-module")
ICARUS = ("iverilog", "-g2005", "-Wall", "-t", "null", "-s")


def tops(circuit: Circuit) -> dict[str, tuple[str, ...]]:
    """Return top module -> its files, for each form and each module that belongs to no form."""
    found = {form.top: form.files for form in circuit.forms.values()}
    used = {file for files in found.values() for file in files}
    library = tuple(file for file in circuit.sources() if file not in used)
    alone = {Path(file).stem: (*sorted(used - {file}), file) for file in library}
    return {**found, **alone}


def lint(circuit: Circuit) -> StepResult:
    """Lint every top module with each tool; any output of a tool is a failure."""
    items = [
        (tool, top, files)
        for tool in ("verilator", "iverilog", "yosys")
        for top, files in tops(circuit).items()
    ]
    return step_result("lint", None, lambda item: _lint(circuit, *item), items)


def _lint(circuit: Circuit, tool: str, top: str, files: tuple[str, ...]) -> Check:
    name = f"no latch: {top}" if tool == "yosys" else f"{tool} -Wall: {top}"
    reason = missing(tool)
    if reason:
        return skipped(name, reason)
    sources = (*circuit.cell_models(), *files)
    if tool == "yosys":
        script = (
            f"read_verilog {' '.join(sources)}; hierarchy -check -top {top}; proc;"
            " select -assert-none t:$dlatch t:$adlatch t:$dlatchsr t:$sr"
        )
        done = run(("yosys", "-q", "-p", script), circuit.folder, timeout=120)
        output = "" if done.passed else done.last_line()
    else:
        command = VERILATOR if tool == "verilator" else ICARUS
        done = run((*command, top, *sources), circuit.folder, timeout=120)
        output = "\n".join(x for x in done.output.splitlines() if not x.startswith("- "))
    first = output.partition("\n")[0].strip()
    return Check(name, verdict(done.passed and not output), len(files), done.seconds, first)
