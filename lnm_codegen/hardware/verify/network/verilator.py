"""Verification step "verilator" of a network: the circuit against the C network."""

from __future__ import annotations

import re

from lnm_codegen.backends.network_verilog.testbench import input_words
from lnm_codegen.hardware.folder import Circuit
from lnm_codegen.hardware.result import Check, StepResult, failed, step_result, verdict
from lnm_codegen.hardware.tools import missing, run, temporary_folder
from lnm_codegen.hardware.verify.network.model import samples_of
from lnm_codegen.ir.network.exchange import read_network
from lnm_codegen.ir.network.interpret import sample_rows

MOST_SAMPLES, SECONDS = 1000, 600
_RESULT = re.compile(r"^(PASS|FAIL) \w+: (\d+) samples, (\d+) wrong, (\d+) cycles", re.MULTILINE)


def verilator(circuit: Circuit, count: int | None = MOST_SAMPLES) -> StepResult:
    """Build the folder's program and run it on samples of the folder, and on random ones.

    The first `count` samples of the folder run, or all of them.
    """
    reason = missing("verilator", "g++", "make")
    return step_result("verilator", reason, lambda c: _compare(c, count), [circuit])


def _compare(circuit: Circuit, most: int | None) -> Check:
    network, form = read_network(circuit.folder), circuit.forms["network"]
    rows = sample_rows(network, samples_of(circuit, network, most))
    width = circuit.manifest["streams"]["s_axis_tdata"]["width"]
    with temporary_folder() as folder:
        copy = circuit.copied(folder / "circuit").folder
        (folder / "inputs").write_text("\n".join(f"{w:x}" for w in input_words(rows, width)))
        command = (
            "verilator", "--cc", "--exe", "--build", "-O3", "-Wall", "--language", "1364-2005",
            "--prefix", "Vdut", "--top-module", form.top, "--Mdir", str(folder / "build"),
            '-GHEX="rtl/"', "-o", form.top, "-CFLAGS", f"-O2 -I{copy / 'model'}",
            *form.files, f"tb/{circuit.name}_verilator.cpp",
        )  # fmt: skip
        built = run(command, copy, timeout=SECONDS)
        if not built.passed:
            return failed(form.top, built)
        program = str(folder / "build" / form.top)
        command = (program, str(folder / "inputs"), str(len(rows)))
        done = run(command, copy, timeout=SECONDS)
    result = _RESULT.search(done.output)
    good = done.passed and result is not None and (result[1], result[3]) == ("PASS", "0")
    detail = "" if good else result[0] if result else done.last_line()
    count = int(result[2]) if result else 0
    return Check(form.top, verdict(good), count, built.seconds + done.seconds, detail)
