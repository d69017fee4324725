"""Verification steps on the Verilog of a folder: lint, simulation, proofs, synthesis."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from lnm_codegen.backends.verilog.expr import signed_digits
from lnm_codegen.backends.verilog.pipeline import FACTOR_BITS
from lnm_codegen.errors import ToolError
from lnm_codegen.hardware.folder import Circuit, CircuitForm
from lnm_codegen.hardware.result import Check, StepResult, failed, skipped, step_result, verdict
from lnm_codegen.hardware.synth import DEVICES, TARGETS, Resources, resources_of, synthesise
from lnm_codegen.hardware.tools import Completed, missing, run, solvers, temporary_folder
from lnm_codegen.ir.fixed import nodes as fx
from lnm_codegen.ir.fixed.nodes import span, spans

# Verification step "lint": no warning of Verilator or Icarus, and no latch.


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


# Verification step "icarus": every testbench, with golden vectors and random stalls.


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


# Verification step "verilator": every form against the C model, on a million vectors.


VECTORS, VERILATOR_SECONDS = 1_000_000, 300
NEEDS = ("verilator", "g++", "make")

_RESULT = re.compile(r"^(PASS|FAIL) \w+: (\d+) \w+, (\d+) wrong(, \d+ cycles)?", re.MULTILINE)


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
    arguments: tuple[str, ...] = (str(VECTORS),),
    timeout: float = VERILATOR_SECONDS,
) -> Check:
    """Compare sources of a form (paths relative to the folder, or absolute) with the C model.

    `options` are those of Verilator, `arguments` those of the folder's program.
    """
    is_built, done = run_program(circuit, form, sources, options, arguments, timeout)
    if not is_built:
        return failed(form.top, done)
    result = _RESULT.search(done.output)
    good = done.passed and result is not None and (result[1], result[3]) == ("PASS", "0")
    detail = "" if good else result[0] if result else done.last_line()
    count = int(result[2]) if result else 0
    return Check(form.top, verdict(good), count, done.seconds, detail)


def run_program(
    circuit: Circuit,
    form: CircuitForm,
    sources: tuple[str, ...],
    options: tuple[str, ...],
    arguments: tuple[str, ...],
    timeout: float,
) -> tuple[bool, Completed]:
    """Build the folder's program around sources of a form, and run it; see `compare`.

    Return whether it was built, and the run of Verilator, or that of the program with the seconds
    of both.
    """
    with temporary_folder() as folder:
        copy = circuit.copied(folder / "circuit").folder
        flags = f"-O2 -I{copy / 'model'} -DFORM_{form.name.upper()}"
        command = (
            "verilator", "--cc", "--exe", "--build", "-O3", *options, "--language", "1364-2005",
            "--prefix", "Vdut", "--top-module", form.top, "--Mdir", str(folder / "build"),
            "-o", form.top, "-CFLAGS", flags, *circuit.cell_models(), *sources, _program(circuit),
        )  # fmt: skip
        built = run(command, copy, timeout=timeout)
        if not built.passed:
            return False, built
        done = run((str(folder / "build" / form.top), *arguments), copy, timeout=timeout)
    return True, replace(done, seconds=built.seconds + done.seconds)


# Verification step "cocotb": the folder's cocotb tests, in Icarus and in Verilator.


COUNT, COCOTB_SECONDS = 400, 300
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
        done = run(command, copy, timeout=COCOTB_SECONDS, environment=variables)
    good = done.passed and f"PASS {top}: cocotb" in done.output
    detail = "" if good else _first_error(done.output)
    return Check(name, verdict(good), int(good), done.seconds, detail)


def _first_error(log: str) -> str:
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    errors = [x for x in lines if "Error" in x or "error" in x or x.startswith("FAIL")]
    return (errors or lines or ["no output"])[0]


# Verification step "formal": every task of every proof in formal/, including the controls.


PROOF_SECONDS = 60
"""Time limit of a proof."""

_DONE = re.compile(r"DONE \((\w+), rc=(\d+)\)")
_CONTROL = "control"


def formal(circuit: Circuit) -> StepResult:
    """Run every task of every proof; a control passes if the prover refutes it."""
    proofs = circuit.matching("formal/*.sby")
    reason: str | None = "there are no proofs in the folder"
    if proofs:
        reason = missing("sby", "yosys", "yosys-smtbmc", "boolector")
    if reason:
        return StepResult("formal", (skipped("formal", reason),))
    with temporary_folder() as folder:
        environment = solvers(folder)
        tasks = [(f, task) for f in proofs for task in _tasks(circuit.folder / f)]
        # sby keeps a database beside its file, which two tasks must not share.
        copies = [circuit.copied(folder / f"job{k}").folder for k in range(len(tasks))]
        items = [(copy / f, task) for copy, (f, task) in zip(copies, tasks, strict=True)]
        return step_result("formal", None, lambda item: _prove(*item, environment), items)


def _tasks(file: Path) -> list[str]:
    text = file.read_text(encoding="utf-8")
    section = re.search(r"^\[tasks\]\n(.*?)^\[", text, re.MULTILINE | re.DOTALL)
    return section[1].split() if section else [""]


def _prove(file: Path, task: str, environment: dict[str, str]) -> Check:
    command = ("sby", "-f", file.name, *([task] if task else []))
    done = run(command, file.parent, timeout=PROOF_SECONDS, environment=environment)
    name = f"{file.stem}: {task or 'proof'}"
    result = _DONE.search(done.output)
    if result is None:
        detail = f"no result in {PROOF_SECONDS} s" if done.status == 124 else done.last_line()
        return Check(name, verdict(False), 0, done.seconds, detail)
    good = done.passed and (result[1] == "FAIL") == (task == _CONTROL)
    detail = "" if good else _failure(result[1], task)
    return Check(name, verdict(good), 1, done.seconds, detail)


def _failure(status: str, task: str) -> str:
    if task == _CONTROL and status == "PASS":
        return "the control was proven, so the proof shows nothing"
    known = {"FAIL": "refuted", "UNKNOWN": "not proven: the induction does not hold"}
    return known.get(status, f"sby reports {status}")


# Verification step "synthesis": the multipliers of the manifest on ECP5, and no latches.
#
# A factor of more than 18 bits takes several multipliers of an ECP5.


DEVICE = DEVICES[TARGETS["ecp5"]]


def synthesis(circuit: Circuit) -> StepResult:
    """Synthesise every form for ECP5 and count its cells."""
    count = partial(_count_cells, circuit)
    return step_result("synthesis", missing("yosys"), count, circuit.forms.values())


def shift_products(circuit: Circuit) -> int:
    """Return the number of multipliers of the source with a constant factor of 0 or a power of two.

    Yosys turns them into shifts. A factor is a constant if it follows from coefficients with one
    value, unless the coefficients are ports or can be loaded. Not counted are products of a
    constant in the source, which the backend turns into shifts itself.
    """
    if circuit.program is None or circuit.manifest.get("coefficients_on") in ("port", "load"):
        return 0
    kernel, held = circuit.program.kernel, circuit.coefficients()
    known = {name: k for name, (k, *others) in held.items() if not others}
    found = spans(kernel, known)
    in_source = known if circuit.manifest.get("coefficients_on") == "constant" else {}
    digits = circuit.manifest.get("shift_add", 0)

    def is_shift(factor: fx.Expr) -> bool:
        low, high = span(factor, found)
        return low == high and abs(low) & (abs(low) - 1) == 0

    def is_kept(factor: fx.Expr) -> bool:
        low, _ = span(factor, found)
        constant = isinstance(factor, fx.Const)
        constant |= isinstance(factor, fx.Var) and factor.name in in_source
        return not constant or len(signed_digits(low)) > digits

    products = _products(circuit)
    pairs = [(p.lhs, p.rhs) for p in products]
    return sum(any(map(is_shift, pair)) and all(map(is_kept, pair)) for pair in pairs)


def most_of_product(circuit: Circuit) -> int:
    """Return the most multipliers of an ECP5 that a product takes: Yosys splits wide factors."""
    factors = [e for p in _products(circuit) for e in (p.lhs, p.rhs)]
    widest = max((fx.bits_of(e).width for e in factors), default=0)
    parts = 1 + max(0, -(-(widest - FACTOR_BITS) // (FACTOR_BITS - 1)))  # low parts have no sign
    return parts * parts


def _products(circuit: Circuit) -> set[fx.Product]:
    body = () if circuit.program is None else circuit.program.kernel.body
    return {e for let in body for e in fx.walk(let.value) if isinstance(e, fx.Product)}


def _count_cells(circuit: Circuit, form: CircuitForm) -> Check:
    least = max(form.multipliers - shift_products(circuit), 0)
    most = form.multipliers * most_of_product(circuit)

    def problems(found: Resources) -> str:
        expected = f"{least} to {most}" if least < most else most
        return "" if least <= found.dsp <= most else f"{expected} DSP expected"

    return count_cells(circuit, form, problems)


def count_cells(circuit: Circuit, form: CircuitForm, problem: Callable[[Resources], str]) -> Check:
    """Synthesise a form for ECP5 and judge its resources; a latch is a failure too."""
    with temporary_folder() as folder:
        try:
            cells, seconds = synthesise(circuit, form, DEVICE, folder)
        except ToolError as error:
            return Check(form.top, verdict(False), detail=str(error).removeprefix("synth: "))
    resources = resources_of(cells, DEVICE.target)
    latches = sorted(cell for cell in cells if "latch" in cell.lower())
    faults = [text for text in (problem(resources), *latches[:1]) if text]
    detail = ", ".join(f"{count} {word}" for word, count in resources.as_dict().items())
    return Check(form.top, verdict(not faults), 1, seconds, "; ".join((detail, *faults)))
