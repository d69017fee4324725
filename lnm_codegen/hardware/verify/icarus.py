"""Rung "icarus": every testbench of the folder, with its golden vectors and random stalls."""

from __future__ import annotations

import re

from lnm_codegen.hardware.folder import Circuit, Form
from lnm_codegen.hardware.parallel import side_by_side
from lnm_codegen.hardware.result import Check, Rung, skipped, verdict
from lnm_codegen.hardware.tools import Run, missing, run, workshop

_PASS = re.compile(r"^PASS \w+: (\d+)", re.MULTILINE)
_FAIL = re.compile(r"^FAIL .*", re.MULTILINE)


def icarus(circuit: Circuit) -> Rung:
    """Simulate every form with its testbench."""
    reason = missing("iverilog")
    if reason:
        return skipped("icarus", reason)
    return Rung(
        "icarus", tuple(side_by_side(lambda f: simulate(circuit, f), circuit.forms.values()))
    )


def simulate(circuit: Circuit, form: Form) -> Check:
    """Run a form's testbench: it has to print PASS, and nothing that begins with FAIL."""
    sources = (*circuit.matching("sim/*.v"), *form.files)
    return judged(form.top, run_testbench(circuit, form, sources))


def run_testbench(
    circuit: Circuit, form: Form, sources: tuple[str, ...], timeout: float = 300
) -> Run:
    """Compile sources (paths relative to the folder, or absolute) with the testbench; run it."""
    with workshop() as folder:
        program = folder / "simulation.vvp"
        command = ("iverilog", "-g2005", "-Wall", "-Wno-timescale", "-o", str(program))
        compiled = run((*command, *sources, form.testbench), circuit.folder, timeout=timeout)
        if not compiled.passed:
            return compiled
        done = run(("vvp", "-n", str(program)), circuit.folder / "tb", timeout=timeout)
        return Run(done.status, done.output, compiled.seconds + done.seconds)


def judged(name: str, done: Run) -> Check:
    """Return what a testbench said of itself."""
    passed, failed = _PASS.search(done.output), _FAIL.search(done.output)
    good = done.passed and passed is not None and failed is None
    detail = "" if good else failed[0] if failed else done.last_line()
    return Check(
        name, verdict(good), int(passed[1]) if good and passed else 0, done.seconds, detail
    )
