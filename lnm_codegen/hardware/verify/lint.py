"""Rung "lint": no warning of Verilator or Icarus, and no latch."""

from __future__ import annotations

from pathlib import Path

from lnm_codegen.hardware.folder import Circuit
from lnm_codegen.hardware.parallel import side_by_side
from lnm_codegen.hardware.result import SKIPPED, Check, Rung, verdict
from lnm_codegen.hardware.tools import Run, missing, run

VERILATOR = ("verilator", "--lint-only", "-Wall", "--language", "1364-2005")
ICARUS = ("iverilog", "-g2005", "-Wall", "-t", "null")


def tops(circuit: Circuit) -> dict[str, tuple[str, ...]]:
    """Return what is looked at: every form, and each module that no form holds, by top module."""
    found = {form.top: form.files for form in circuit.forms.values()}
    held = {file for files in found.values() for file in files}
    library = tuple(file for file in circuit.sources() if file not in held)
    alone = {Path(file).stem: (*sorted(held - {file}), file) for file in library}
    return {**found, **alone}


def lint(circuit: Circuit) -> Rung:
    """Look at every form with each tool; one that says anything at all has failed it."""
    jobs = [
        (tool, top, files)
        for tool in ("verilator", "iverilog", "yosys")
        for top, files in tops(circuit).items()
    ]
    return Rung("lint", tuple(side_by_side(lambda job: _look(circuit, *job), jobs)))


def _look(circuit: Circuit, tool: str, top: str, files: tuple[str, ...]) -> Check:
    name = {"yosys": f"no latch: {top}"}.get(tool, f"{tool} -Wall: {top}")
    reason = missing(tool)
    if reason:
        return Check(name, SKIPPED, detail=reason)
    models = circuit.matching("sim/*.v")
    if tool == "yosys":
        done = latches(circuit, top, files)
        said = "" if done.passed else done.last_line()
    else:
        words = (*VERILATOR, "--top-module", top) if tool == "verilator" else (*ICARUS, "-s", top)
        done = run((*words, *models, *files), circuit.folder, timeout=120)
        said = "\n".join(x for x in done.output.splitlines() if not x.startswith("- "))
    detail = _first(said)
    return Check(name, verdict(done.passed and not said), len(files), done.seconds, detail)


def latches(circuit: Circuit, top: str, files: tuple[str, ...]) -> Run:
    """Run Yosys as far as latches are found; it fails where there is one."""
    models = " ".join(circuit.matching("sim/*.v"))
    script = (
        f"read_verilog {models} {' '.join(files)}; hierarchy -check -top {top}; proc;"
        " select -assert-none t:$dlatch t:$adlatch t:$dlatchsr t:$sr"
    )
    return run(("yosys", "-q", "-p", script), circuit.folder, timeout=120)


def _first(text: str) -> str:
    return text.splitlines()[0].strip() if text else ""
