"""Verification step "icarus": every testbench, with golden vectors and random stalls."""

from __future__ import annotations

import re
from functools import partial

from lnm_codegen.hardware.folder import Circuit, CircuitForm
from lnm_codegen.hardware.result import Check, StepResult, step_result, verdict
from lnm_codegen.hardware.tools import Completed, missing, run, temporary_folder

_PASS = re.compile(r"^PASS \w+: (\d+)", re.MULTILINE)
_FAIL = re.compile(r"^FAIL .*", re.MULTILINE)


def icarus(circuit: Circuit) -> StepResult:
    """Simulate every form with its testbench."""
    simulation = partial(simulate, circuit)
    return step_result("icarus", missing("iverilog"), simulation, circuit.forms.values())


def simulate(circuit: Circuit, form: CircuitForm) -> Check:
    """Run a form's testbench: it must print PASS, and no line that begins with FAIL."""
    sources = (*circuit.cell_models(), *form.files)
    return judged(form.top, run_testbench(circuit, form, sources))


def run_testbench(
    circuit: Circuit, form: CircuitForm, sources: tuple[str, ...], timeout: float = 300
) -> Completed:
    """Compile sources (paths relative to the folder, or absolute) with the testbench; run it."""
    with temporary_folder() as folder:
        program = folder / "simulation.vvp"
        command = ("iverilog", "-g2005", "-Wall", "-Wno-timescale", "-o", str(program))
        compiled = run((*command, *sources, form.testbench), circuit.folder, timeout=timeout)
        if not compiled.passed:
            return compiled
        done = run(("vvp", "-n", str(program)), circuit.folder / "tb", timeout=timeout)
        return Completed(done.status, done.output, compiled.seconds + done.seconds)


def judged(name: str, done: Completed) -> Check:
    """Return the check that a testbench's output states."""
    passed, failed = _PASS.search(done.output), _FAIL.search(done.output)
    good = done.passed and passed is not None and failed is None
    detail = "" if good else failed[0] if failed else done.last_line()
    count = int(passed[1]) if good and passed else 0
    return Check(name, verdict(good), count, done.seconds, detail)
