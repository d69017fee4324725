"""Verification step "mutation": faults in the circuit that its testbench must detect.

Yosys draws faults (a bit inverted, stuck, or flipped by another), evenly over the circuit and from
a fixed seed. Each faulty circuit runs in Icarus with its testbench. sby and Boolector compare a
fault that passes with the correct circuit; if it changes no output, it is listed but does not
count. The remaining faults run in Verilator against the C model.

The comparison has two methods. A fault in a pipeline is compared in the pipeline alone, whose
registers become wires (see `pipeline`). Otherwise both circuits run from registers and memories at
0, with any inputs, for some cycles.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeAlias

from lnm_codegen.backends.render import render
from lnm_codegen.errors import ToolError
from lnm_codegen.hardware.folder import Circuit, CircuitForm
from lnm_codegen.hardware.result import (
    FAILED,
    PASSED,
    SURVIVED,
    Check,
    StepResult,
    skipped,
    verdict,
)
from lnm_codegen.hardware.tools import (
    Completed,
    in_parallel,
    missing,
    run,
    solvers,
    temporary_folder,
)
from lnm_codegen.hardware.verify.verilog import NEEDS, compare, driven_forms, judged, run_testbench

# Faults in a pipeline, compared as logic.
#
# A core is a pipeline; an array contains one, with the memory of its coefficients. If its neurons
# pass through one multiplier instead, this memory alone is the pipeline; a fault in the sequence is
# compared over the cycles of a step, for any inputs of the sequence. In a pipeline
# whose ce is 1, every value keeps its cycle. So its outputs are a function of its inputs, which the
# circuit with wires for registers computes; step formal proves it for the core. The inputs of a
# core are its ports. The inputs of an array's pipeline are the states, the drive and the channel:
# any values, so more than occur. Its outputs are all wires that leave it, so states too. Stored
# coefficients and constants are part of the pipeline.
#
# A fault maps a word w to f(w), in logic, or at the input or the output of a register. ce = 0 holds
# a register, and may apply f again in each of those cycles: the value is then f(...f(w)). Every
# fault that Yosys draws has f(f(w)) = w (an inverted bit) or f(f(w)) = f(w) (a stuck bit). So the
# value is w or f(w), also with a multiplexer that holds the register, where only some of its cycles
# have the fault. If f(w) and w give the same outputs for all inputs, the fault changes no output.
#
# Faults of ce, of rst and of the registers that rst clears are not compared here.


CORE, ARRAY = "core", "array"
PIPELINE = "pipeline.il"
"""The pipeline of a circuit, as RTLIL."""
PART = "part.il"
"""The sequence in an array on one multiplier, with the coefficients, as RTLIL."""

_SELECTIONS = {
    "all": "c:*",
    "registers": "t:$*dff*",
    "hold": "w:ce %co1:+[S] t:$mux %i",  # multiplexers that ce selects
    "control": "w:ce %co1:-[S] w:rst %co3 %u",  # cells after rst, to registers
    "enabled": "w:ce %co1",
}
"""Name -> selection of cells in Yosys."""


@dataclass(frozen=True, slots=True)
class Cells:
    """Cells of a pipeline, by name."""

    all: frozenset[str]
    registers: frozenset[str]
    hold: frozenset[str]
    control: frozenset[str]
    enabled: frozenset[str]


def keep_enable(form: CircuitForm) -> str:
    """Return a command of Yosys that keeps the name of the wire ce in an array, or no text."""
    return f"setattr -set keep 1 {form.top}/w:ce; " if form.name == ARRAY else ""


def cut_pipeline(form: CircuitForm, folder: Path) -> str:
    """Return commands of Yosys that reduce a flat circuit to its pipeline and list its cells.

    They write `PIPELINE` into the folder. Cells keep their names, so the commands of faults apply.
    A circuit of another form has an empty pipeline. Of an array on one multiplier they write `PART`
    too: the sequence, with the coefficients.
    """
    commands = []
    if form.name == ARRAY and form.through == CORE:
        commands += _reduced("coefficients", "_core")
    elif form.name == ARRAY:
        cells = f"select -write {folder / PART}.cells c:*"
        written = f"write_rtlil {folder / PART}"
        part = (*_reduced("coefficients", "_seq"), "opt_clean", written, cells)
        commands += ["design -push-copy", *part, "design -pop", *_reduced("coefficients")]
    elif form.name != CORE:
        commands.append("delete t:*")
    lists = [f"select -write {folder / name}.cells {what}" for name, what in _SELECTIONS.items()]
    return "; ".join((*commands, "opt_clean", f"write_rtlil {folder / PIPELINE}", *lists))


def _reduced(*instances: str) -> list[str]:
    """Return commands of Yosys that reduce a flat circuit to the cells of some instances."""
    cells = [f"c:{word}.* c:$flatten?{word}.* %u" for word in instances]
    return [
        f"select -set inside {' '.join(cells)}{' %u' * (len(instances) - 1)}",
        "select -set outside c:* @inside %d",
        "expose @inside %co1 w:* %i @outside %ci1 w:* %i %i",  # results that are stored
        "delete @outside",
        "setundef -undriven -expose -undef",
    ]


def read_cells(folder: Path) -> Cells:
    """Return the cells that the commands of `cut_pipeline` listed."""
    return Cells(**{name: _listed(folder / f"{name}.cells") for name in _SELECTIONS})


def _listed(path: Path) -> frozenset[str]:
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return frozenset(line.partition("/")[2] for line in lines)


def on_wires(command: str, cells: Cells) -> str | None:
    """Return the command of a fault for the pipeline with wires, or None if it is not one of data.

    A fault of a held multiplexer becomes one of its output.
    """
    command = re.split(r" -(?:wire|src) ", command)[0]
    found = re.search(r"-cell (\S+) -port (\S+)", command)
    if found is None:
        return None
    name, port = found[1].lstrip("\\"), found[2].lstrip("\\")
    if name not in cells.all or name in cells.control:
        return None
    if name in cells.registers:
        return command if port in ("D", "Q") else None
    if name in cells.hold:
        return None if port == "S" else re.sub(r"-port \S+", "-port Y", command)
    return None if name in cells.enabled else command


def in_part(command: str, cells: frozenset[str]) -> str | None:
    """Return the command of a fault for `PART`, or None if its cell is not in there."""
    command = re.split(r" -(?:wire|src) ", command)[0]
    found = re.search(r"-cell (\S+)", command)
    return command if found and found[1].lstrip("\\") in cells else None


# Comparison of a circuit with a copy that has a fault, by sby and Boolector.


PROOF_SECONDS = 20
"""Time limit of a proof."""


@dataclass(frozen=True, slots=True)
class Equivalence:
    """Result of a comparison."""

    proven: bool  # to change no output
    detail: str


UNDECIDED = Equivalence(False, "not detected, and not proven equivalent")
"""The proof ended without a result, as where a fault closes a loop of wires."""


def prove_equivalence(
    top: str, correct: Path, fault: Path, cycles: int | None, environment: Mapping[str, str]
) -> Equivalence:
    """Compare two circuits, files of RTLIL with a module `top`.

    `cycles` run from registers at 0; None replaces the registers by wires. `environment` comes from
    `tools.solvers`.
    """
    place = fault.with_suffix(".proof")
    place.mkdir()
    (place / "wires.v").write_text(_WIRES, encoding="utf-8")
    files = (f"right.il {correct}", f"fault.il {fault}", "wires.v")
    view = {"top": top, "cycles": cycles, "files": files}
    text = render("verilog/formal/sby.j2:fault", view)
    (place / "equal.sby").write_text(text, encoding="utf-8")
    done = run(("sby", "-f", "equal.sby"), place, timeout=PROOF_SECONDS, environment=environment)
    if done.passed:
        span = "all inputs" if cycles is None else f"any {cycles} cycles from registers at 0"
        return Equivalence(True, f"changes no output, proven for {span}")
    if "DONE (FAIL" in done.output:
        return Equivalence(False, "not detected")
    return UNDECIDED


_WIRES = """(* techmap_celltype = "$dff" *)
module wire_for_register #(
    parameter WIDTH        = 1,
    parameter CLK_POLARITY = 1
) (
    input  wire             CLK,
    input  wire [WIDTH-1:0] D,
    output wire [WIDTH-1:0] Q
);
    assign Q = D;
endmodule
"""


COUNT, SEED = 40, 1
TARGET = 0.9
"""Share of the faults that change an output; more than this share must be detected."""

SLOWEST, SLOWER = 20, 10
"""Time limit of a simulation with a fault: at least this many seconds, and this many times the time
of the correct circuit. A simulation that hangs counts as detected."""

CORRECT = "correct.v"
"""The circuit without a fault. A testbench that fails it would fail every fault."""

FORM = "core"
_NOT_WRITTEN = ("RD_EN", "RD_ARST", "RD_SRST")
"""Ports of a memory that are constant where a read has no clock, as in every circuit after `prep`.
Yosys 0.52 stops with an assertion if a fault changes them (kernel/mem.cc)."""
_MORE_CYCLES = 4  # beyond the latency, in a comparison from registers at 0
_TICKS = 2  # of an array in a comparison: the second reads the states that the first wrote


Figures: TypeAlias = tuple[tuple[str, float], ...]
"""Numbers about a step, as in `StepResult`."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """A circuit with a fault."""

    number: int
    command: str  # Yosys command that inserts the fault
    on_wires: str | None  # the same in the pipeline with wires for registers; None outside it
    on_part: str | None  # the same in `PART`; None outside it

    @property
    def source(self) -> str:
        """File name of the faulty circuit."""
        return f"fault{self.number}.v"

    @property
    def words(self) -> dict[str, str]:
        """Options of the command."""
        words = self.command.split()
        return dict(zip(words[1::2], words[2::2], strict=False))

    @property
    def label(self) -> str:
        """Kind and place of the fault."""
        named = self.words
        cell = named.get("-cell", "").replace("$flatten", "").replace("\\", "")
        return f"{named.get('-mode')} {cell}.{named.get('-port')}[{named.get('-portbit')}]"


def mutation(circuit: Circuit) -> StepResult:
    """Draw faults in the core (or in the first form if there is no core), and test each."""
    reason = missing("yosys", "iverilog")
    if reason:
        return StepResult("mutation", (skipped("mutation", reason),))
    form = circuit.forms.get(FORM) or next(iter(circuit.forms.values()))
    begun = time.monotonic()
    with temporary_folder() as folder:
        try:
            mutants, problem = draw_mutants(circuit, form, folder)
        except ToolError as error:
            return _not_tested(form, str(error))
        if problem and not mutants:
            return StepResult("mutation", (skipped(form.top, problem),))
        done = run_testbench(circuit, form, (str(folder / CORRECT),))
        if judged(form.top, done).status != PASSED:
            return _not_tested(form, "the testbench fails the correct circuit as Yosys writes it")
        limit = max(SLOWEST, SLOWER * done.seconds)
        detected = partial(is_detected, circuit, form, timeout=limit)
        caught = in_parallel(lambda m: detected(folder / m.source), mutants)
        passing = [m for m, c in zip(mutants, caught, strict=True) if not c]
        proofs = dict(zip(passing, _compared(circuit, form, folder, passing), strict=True))
        unproven = [m for m, proof in proofs.items() if not proof.proven]
        differ = in_parallel(lambda m: _differs(circuit, form, folder, m), unproven)
        survivors = [m for m, d in zip(unproven, differ, strict=True) if not d]
    return _scored(form, mutants, proofs, survivors, problem, time.monotonic() - begun)


def _not_tested(form: CircuitForm, detail: str) -> StepResult:
    return StepResult("mutation", (Check(form.top, FAILED, detail=detail),))


def _scored(
    form: CircuitForm,
    mutants: Sequence[Mutant],
    proofs: Mapping[Mutant, Equivalence],
    survivors: Sequence[Mutant],
    problem: str,
    seconds: float,
) -> StepResult:
    equivalent = sum(proof.proven for proof in proofs.values())
    real = len(mutants) - equivalent
    detected, by_testbench = real - len(survivors), len(mutants) - len(proofs)
    detail = f"{detected} of {real} faults detected"
    if detected > by_testbench:
        detail += f", {by_testbench} of them by the testbench"
    if equivalent:
        detail += f"; {equivalent} of {len(mutants)} drawn change no output"
    if problem:
        detail += f"; {problem}"
    figures = _figures(len(mutants), detected, by_testbench, equivalent)
    if not real:  # no share to judge
        return StepResult("mutation", (skipped(form.top, detail),), figures=figures)
    score = Check(form.top, verdict(detected > TARGET * real), detected, seconds, detail)
    listed = tuple(
        Check(m.label, PASSED if proof.proven else SURVIVED, detail=proof.detail)
        for m, proof in proofs.items()
        if proof.proven or m in survivors
    )
    return StepResult("mutation", (score, *listed), figures=figures)


def _figures(drawn: int, seen: int, by_testbench: int, equivalent: int) -> Figures:
    counts = (
        ("drawn", drawn),
        ("seen", seen),
        ("seen_by_testbench", by_testbench),
        ("equivalent", equivalent),
    )
    real = drawn - equivalent
    return (*counts, ("score", round(seen / real, 4))) if real else counts


def summed_figures(parts: Sequence[StepResult]) -> Figures:
    """Return the figures of several circuits together; none if no circuit has any."""
    each = [dict(part.figures) for part in parts if part.figures]
    names = ("drawn", "seen", "seen_by_testbench", "equivalent")
    return _figures(*(int(sum(one[name] for one in each)) for name in names)) if each else ()


def faults_text(step: StepResult) -> str:
    """Return "k of n faults detected" for a step with faults, or no text."""
    found = dict(step.figures)
    if "drawn" not in found:
        return ""
    return f"{found['seen']} of {found['drawn'] - found['equivalent']} faults detected"


def draw_mutants(circuit: Circuit, form: CircuitForm, folder: Path) -> tuple[list[Mutant], str]:
    """Draw faults; write base.il, correct.v, fault<N>.il and fault<N>.v into a folder.

    Returns:
        The faults, and a text about those that Yosys cannot write, which are left out.

    Raises:
        ToolError: Yosys cannot read the circuit or write it.
    """
    files = " ".join((*circuit.cell_models(), *form.files))
    script = (
        f"read_verilog {files}; hierarchy -check -top {form.top}; proc;"
        f" {keep_enable(form)}prep -flatten -top {form.top}; opt_clean -purge;"
        f" write_rtlil {folder / 'base.il'}; design -push-copy;"
        f" write_verilog -noattr {folder / CORRECT}; design -pop;"
        f" mutate -list {COUNT} -seed {SEED} -o {folder / 'mutations'};"
        f" {cut_pipeline(form, folder)}"
    )
    done = run(("yosys", "-q", "-p", script), circuit.folder, timeout=120)
    if not done.passed:
        raise ToolError("yosys", f"cannot draw faults: {done.last_line()}")
    lines = (folder / "mutations").read_text(encoding="utf-8").splitlines()
    cells = read_cells(folder)
    part = _listed(folder / f"{PART}.cells")
    drawn = [
        Mutant(k, line, on_wires(line, cells), in_part(line, part)) for k, line in enumerate(lines)
    ]
    return _written([m for m in drawn if m.words.get("-port") not in _NOT_WRITTEN], folder)


def _written(mutants: list[Mutant], folder: Path) -> tuple[list[Mutant], str]:
    """Write the faults, all at once or, if Yosys stops, each alone; see `draw_mutants`."""
    if _write(mutants, folder, "faults.ys").passed:
        return mutants, ""
    done = in_parallel(lambda m: _write([m], folder, f"fault{m.number}.ys"), mutants)
    lines = [one.last_line() for one in done if not one.passed]
    text = f"Yosys cannot write {len(lines)} of {len(mutants)} faults: {lines[0]}" if lines else ""
    return [m for m, one in zip(mutants, done, strict=True) if one.passed], text


def _write(mutants: Sequence[Mutant], folder: Path, script: str) -> Completed:
    commands = ["read_rtlil base.il", "design -save right"]
    for mutant in mutants:
        commands += [
            "design -load right",
            mutant.command,
            f"write_rtlil fault{mutant.number}.il",
            f"write_verilog -noattr {mutant.source}",
        ]
    commands += ["design -reset", f"read_rtlil {PIPELINE}", "design -save pipeline"]
    for mutant in mutants:
        if mutant.on_wires:
            commands += ["design -load pipeline", mutant.on_wires]
            commands.append(f"write_rtlil wires{mutant.number}.il")
    in_part = [mutant for mutant in mutants if mutant.on_part]
    if in_part:
        commands += ["design -reset", f"read_rtlil {PART}", "design -save part"]
    for mutant in in_part:
        commands += ["design -load part", str(mutant.on_part)]
        commands.append(f"write_rtlil part{mutant.number}.il")
    (folder / script).write_text("\n".join(commands) + "\n", encoding="utf-8")
    return run(("yosys", "-q", script), folder, timeout=120)


def is_detected(
    circuit: Circuit, form: CircuitForm, source: Path, timeout: float = SLOWEST
) -> bool:
    """Report whether the testbench fails a circuit."""
    done = run_testbench(circuit, form, (str(source),), timeout=timeout)
    return judged(form.top, done).status != PASSED


def _differs(circuit: Circuit, form: CircuitForm, folder: Path, mutant: Mutant) -> bool:
    """Report whether Verilator detects a fault; it must be installed and its program must run."""
    if missing(*NEEDS) or form.name not in driven_forms(circuit):
        return False
    check = compare(circuit, form, (str(folder / mutant.source),), ("-Wno-fatal",))
    return check.status == FAILED and check.count > 0


def _compared(
    circuit: Circuit, form: CircuitForm, folder: Path, mutants: list[Mutant]
) -> list[Equivalence]:
    """Compare each mutant with the correct circuit."""
    reason = missing("sby", "yosys-smtbmc", "boolector")
    if reason:
        return [Equivalence(False, f"not detected, and not compared: {reason}")] * len(mutants)
    environment = solvers(folder)
    neurons = circuit.manifest["forms"][form.name].get("neurons", 0)
    most = form.latency + _MORE_CYCLES + _TICKS * neurons

    def prove(mutant: Mutant) -> Equivalence:
        if mutant.on_wires:
            fault = folder / f"wires{mutant.number}.il"
            found = prove_equivalence(form.top, folder / PIPELINE, fault, None, environment)
            if found != UNDECIDED:
                return found
        if mutant.on_part:
            fault = folder / f"part{mutant.number}.il"
            cycles = form.latency + _MORE_CYCLES
            found = prove_equivalence(form.top, folder / PART, fault, cycles, environment)
            if found.proven:
                return found
        fault = folder / f"fault{mutant.number}.il"
        return prove_equivalence(form.top, folder / "base.il", fault, most, environment)

    return in_parallel(prove, mutants)
