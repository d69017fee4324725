"""Rung "verilator": every form in Verilator against the C model, on a million vectors."""

from __future__ import annotations

import re

from lnm_codegen.hardware.folder import Circuit, Form
from lnm_codegen.hardware.parallel import side_by_side
from lnm_codegen.hardware.result import Check, Rung, skipped, verdict
from lnm_codegen.hardware.tools import missing, run, workshop

VECTORS, SECONDS = 1_000_000, 300
NEEDS = ("verilator", "g++", "make")

_SAID = re.compile(r"^(PASS|FAIL) \w+: (\d+) vectors, (\d+) wrong", re.MULTILINE)


def verilator(circuit: Circuit) -> Rung:
    """Build and run the folder's program, once for each form that it drives."""
    words = driven(circuit)
    if not words:
        return skipped("verilator", f"there is no {_program(circuit)} in the folder")
    reason = missing(*NEEDS)
    if reason:
        return skipped("verilator", reason)
    forms = [circuit.forms[word] for word in words]
    return Rung("verilator", tuple(side_by_side(lambda f: compare(circuit, f, f.files), forms)))


def driven(circuit: Circuit) -> tuple[str, ...]:
    """Return the forms that the folder's program drives; none where there is no program."""
    path = circuit.folder / _program(circuit)
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    return tuple(word for word in circuit.forms if f"defined(FORM_{word.upper()})" in text)


def _program(circuit: Circuit) -> str:
    return f"tb/{circuit.name}_verilator.cpp"


def compare(
    circuit: Circuit, form: Form, sources: tuple[str, ...], options: tuple[str, ...] = ("-Wall",)
) -> Check:
    """Compare sources of a form (paths relative to the folder, or absolute) with the C model."""
    with workshop() as folder:
        copy = circuit.copied(folder / "circuit").folder
        flags = f"-O2 -I{copy / 'model'} -DFORM_{form.word.upper()}"
        command = (
            "verilator", "--cc", "--exe", "--build", "-O3", *options, "--language", "1364-2005",
            "--prefix", "Vdut", "--top-module", form.top, "--Mdir", str(folder / "build"),
            "-o", form.top, "-CFLAGS", flags, *circuit.matching("sim/*.v"), *sources,
            _program(circuit),
        )  # fmt: skip
        built = run(command, copy, timeout=SECONDS)
        if not built.passed:
            return Check(form.top, verdict(False), 0, built.seconds, built.last_line())
        done = run((str(folder / "build" / form.top), str(VECTORS)), copy, timeout=SECONDS)
    said = _SAID.search(done.output)
    good = done.passed and said is not None and (said[1], said[3]) == ("PASS", "0")
    detail = "" if good else said[0] if said else done.last_line()
    count = int(said[2]) if said else 0
    return Check(form.top, verdict(good), count, built.seconds + done.seconds, detail)
