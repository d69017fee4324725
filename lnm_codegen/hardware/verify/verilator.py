"""Verification step "verilator": every form against the C model, on a million vectors."""

from __future__ import annotations

import re

from lnm_codegen.hardware.folder import Circuit, CircuitForm
from lnm_codegen.hardware.result import Check, StepResult, failed, step_result, verdict
from lnm_codegen.hardware.tools import missing, run, temporary_folder

VECTORS, TIMEOUT_SECONDS = 1_000_000, 300
NEEDS = ("verilator", "g++", "make")

_RESULT = re.compile(r"^(PASS|FAIL) \w+: (\d+) vectors, (\d+) wrong", re.MULTILINE)


def verilator(circuit: Circuit) -> StepResult:
    """Build and run the folder's program once for each form that it drives."""
    forms = [circuit.forms[word] for word in driven_forms(circuit)]
    reason = missing(*NEEDS) if forms else f"there is no {_program(circuit)} in the folder"
    return step_result("verilator", reason, lambda f: compare(circuit, f, f.files), forms)


def driven_forms(circuit: Circuit) -> tuple[str, ...]:
    """Return the words of the forms that the folder's program drives; () without a program."""
    path = circuit.folder / _program(circuit)
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    return tuple(word for word in circuit.forms if f"defined(FORM_{word.upper()})" in text)


def _program(circuit: Circuit) -> str:
    return f"tb/{circuit.name}_verilator.cpp"


def compare(
    circuit: Circuit,
    form: CircuitForm,
    sources: tuple[str, ...],
    options: tuple[str, ...] = ("-Wall",),
) -> Check:
    """Compare sources of a form (paths relative to the folder, or absolute) with the C model."""
    with temporary_folder() as folder:
        copy = circuit.copied(folder / "circuit").folder
        flags = f"-O2 -I{copy / 'model'} -DFORM_{form.name.upper()}"
        command = (
            "verilator", "--cc", "--exe", "--build", "-O3", *options, "--language", "1364-2005",
            "--prefix", "Vdut", "--top-module", form.top, "--Mdir", str(folder / "build"),
            "-o", form.top, "-CFLAGS", flags, *circuit.cell_models(), *sources, _program(circuit),
        )  # fmt: skip
        built = run(command, copy, timeout=TIMEOUT_SECONDS)
        if not built.passed:
            return failed(form.top, built)
        done = run((str(folder / "build" / form.top), str(VECTORS)), copy, timeout=TIMEOUT_SECONDS)
    result = _RESULT.search(done.output)
    good = done.passed and result is not None and (result[1], result[3]) == ("PASS", "0")
    detail = "" if good else result[0] if result else done.last_line()
    count = int(result[2]) if result else 0
    return Check(form.top, verdict(good), count, built.seconds + done.seconds, detail)
