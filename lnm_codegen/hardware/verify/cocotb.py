"""Rung "cocotb": the folder's cocotb tests, in Icarus and in Verilator."""

from __future__ import annotations

import importlib.util
import sys

from lnm_codegen.hardware.folder import Circuit
from lnm_codegen.hardware.parallel import side_by_side
from lnm_codegen.hardware.result import SKIPPED, Check, Rung, skipped, verdict
from lnm_codegen.hardware.tools import missing, run, workshop

COUNT, SECONDS = 400, 300
SIMULATORS = {"icarus": ("iverilog",), "verilator": ("verilator", "g++", "make")}
STREAMS = ("seq", "array")
NOT_INSTALLED = "cocotb is not installed. To install: pip install cocotb"


def cocotb(circuit: Circuit) -> Rung:
    """Run the test of each form in Icarus, and in Verilator of those with a handshake.

    What has none is in Verilator with the C model, for a thousand times as many vectors.
    """
    test = f"tb/test_{circuit.name}.py"
    if not (circuit.folder / test).is_file():
        return skipped("cocotb", f"there is no {test} in the folder")
    if importlib.util.find_spec("cocotb") is None:
        return skipped("cocotb", NOT_INSTALLED)
    streams = [form for form in circuit.forms if form in STREAMS] or list(circuit.forms)[:1]
    forms = {"icarus": list(circuit.forms), "verilator": streams}
    jobs = [(simulator, form) for simulator in SIMULATORS for form in forms[simulator]]
    return Rung("cocotb", tuple(side_by_side(lambda job: _test(circuit, test, *job), jobs)))


def _test(circuit: Circuit, test: str, simulator: str, form: str) -> Check:
    name = f"{simulator}: {circuit.forms[form].top}"
    reason = missing(*SIMULATORS[simulator])
    if reason:
        return Check(name, SKIPPED, detail=reason)
    with workshop() as folder:
        copy = circuit.copied(folder / "circuit").folder
        variables = {"SIM": simulator, "BUILD": str(folder / "build"), "COUNT": str(COUNT)}
        command = (sys.executable, "-B", test, form)
        done = run(command, copy, timeout=SECONDS, environment=variables)
    good = done.passed and f"PASS {circuit.forms[form].top}: cocotb" in done.output
    return Check(name, verdict(good), int(good), done.seconds, "" if good else _why(done.output))


def _why(output: str) -> str:
    """Return the line of a log that says what is wrong."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    told = [line for line in lines if "Error" in line or "error" in line or line.startswith("FAIL")]
    return (told or lines or ["no output"])[0]
