"""Verification step "cocotb": the folder's cocotb tests, in Icarus and in Verilator."""

from __future__ import annotations

import importlib.util
import sys

from lnm_codegen.hardware.folder import Circuit
from lnm_codegen.hardware.result import Check, StepResult, skipped, step_result, verdict
from lnm_codegen.hardware.tools import missing, run, temporary_folder

COUNT, TIMEOUT_SECONDS = 400, 300
SIMULATORS = {"icarus": ("iverilog",), "verilator": ("verilator", "g++", "make")}
STREAMS = ("seq", "array")


def cocotb(circuit: Circuit) -> StepResult:
    """Run the test of each form in Icarus, and of those with a handshake in Verilator.

    Other forms run in Verilator with the C model, on a thousand times as many vectors.
    """
    test = f"tb/test_{circuit.name}.py"
    reason = None
    if not (circuit.folder / test).is_file():
        reason = f"there is no {test} in the folder"
    elif importlib.util.find_spec("cocotb") is None:
        reason = "cocotb is not installed. To install: pip install cocotb"
    streams = [form for form in circuit.forms if form in STREAMS] or list(circuit.forms)[:1]
    forms = {"icarus": list(circuit.forms), "verilator": streams}
    items = [(simulator, form) for simulator in SIMULATORS for form in forms[simulator]]
    return step_result("cocotb", reason, lambda item: _test(circuit, test, *item), items)


def _test(circuit: Circuit, test: str, simulator: str, form: str) -> Check:
    top = circuit.forms[form].top
    name = f"{simulator}: {top}"
    reason = missing(*SIMULATORS[simulator])
    if reason:
        return skipped(name, reason)
    with temporary_folder() as folder:
        copy = circuit.copied(folder / "circuit").folder
        variables = {"SIM": simulator, "BUILD": str(folder / "build"), "COUNT": str(COUNT)}
        command = (sys.executable, "-B", test, form)
        done = run(command, copy, timeout=TIMEOUT_SECONDS, environment=variables)
    good = done.passed and f"PASS {top}: cocotb" in done.output
    detail = "" if good else _first_error(done.output)
    return Check(name, verdict(good), int(good), done.seconds, detail)


def _first_error(log: str) -> str:
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    errors = [x for x in lines if "Error" in x or "error" in x or x.startswith("FAIL")]
    return (errors or lines or ["no output"])[0]
