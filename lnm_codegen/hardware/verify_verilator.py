"""Rung "verilator": every form in Verilator against the C model, on a million vectors."""

from __future__ import annotations

import re

from lnm_codegen.hardware.folder import Circuit, Form
from lnm_codegen.hardware.parallel import side_by_side
from lnm_codegen.hardware.result import Check, Rung, skipped, verdict
from lnm_codegen.hardware.tools import missing, run, workshop

VECTORS, SECONDS = 1_000_000, 300

_SAID = re.compile(r"^(PASS|FAIL) \w+: (\d+) vectors, (\d+) wrong", re.MULTILINE)


def verilator(circuit: Circuit) -> Rung:
    """Build and run the folder's program, once for each form that it drives."""
    file = f"tb/{circuit.name}_verilator.cpp"
    path = circuit.folder / file
    if not path.is_file():
        return skipped("verilator", f"there is no {file} in the folder")
    reason = missing("verilator", "g++", "make")
    if reason:
        return skipped("verilator", reason)
    text = path.read_text(encoding="utf-8")
    forms = [f for f in circuit.forms.values() if f"defined(FORM_{f.word.upper()})" in text]
    return Rung("verilator", tuple(side_by_side(lambda f: _compare(circuit, file, f), forms)))


def _compare(circuit: Circuit, file: str, form: Form) -> Check:
    with workshop() as folder:
        flags = f"-O2 -I{circuit.folder / 'model'} -DFORM_{form.word.upper()}"
        command = (
            "verilator", "--cc", "--exe", "--build", "-O3", "-Wall", "--language", "1364-2005",
            "--prefix", "Vdut", "--top-module", form.top, "--Mdir", str(folder), "-o", form.top,
            "-CFLAGS", flags, *circuit.matching("sim/*.v"), *form.files, file,
        )  # fmt: skip
        built = run(command, circuit.folder, timeout=SECONDS)
        if not built.passed:
            return Check(form.top, verdict(False), 0, built.seconds, built.last_line())
        done = run((str(folder / form.top), str(VECTORS)), circuit.folder, timeout=SECONDS)
    said = _SAID.search(done.output)
    good = done.passed and said is not None and (said[1], said[3]) == ("PASS", "0")
    detail = "" if good else said[0] if said else done.last_line()
    count = int(said[2]) if said else 0
    return Check(form.top, verdict(good), count, built.seconds + done.seconds, detail)
