"""Rung "mutation": faults in the circuit that its testbench has to see.

Yosys draws faults (a bit inverted, stuck, or turned over by another), evenly over the circuit and
from a fixed seed; each circuit is simulated with its testbench in Icarus. One that passes is
compared with the right circuit by a prover: a fault that changes no output is no fault, is listed,
and does not count. The rest is looked for in Verilator, against the C model.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from pathlib import Path

from lnm_codegen.errors import ToolError
from lnm_codegen.hardware.folder import Circuit, Form
from lnm_codegen.hardware.parallel import side_by_side
from lnm_codegen.hardware.result import FAILED, PASSED, SURVIVED, Check, Rung, skipped, verdict
from lnm_codegen.hardware.tools import missing, run, solvers, workshop
from lnm_codegen.hardware.verify.equivalence import Verdict
from lnm_codegen.hardware.verify.equivalence import compare as compare_circuits
from lnm_codegen.hardware.verify.icarus import judged, run_testbench
from lnm_codegen.hardware.verify.verilator import NEEDS, driven
from lnm_codegen.hardware.verify.verilator import compare as compare_with_model

COUNT, SEED = 40, 1
TARGET = 0.9
"""Of the faults that change something, more than this share has to be seen."""

SLOWEST = 20
"""Seconds a simulation with a fault may take; one that hangs has been seen."""

RIGHT = "right.v"
"""The circuit without a fault: what refuses it would refuse every fault, and say nothing of any."""

FORM = "core"
_MORE = 4
"""Cycles beyond the latency, in a comparison that runs."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """A fault: its number, the command of Yosys that makes it, whether ce or rst is near.

    `of_logic` says that the cell is no register, and that neither ce nor rst enters it.
    """

    number: int
    command: str
    of_logic: bool

    @property
    def source(self) -> str:
        """The file of the circuit with the fault."""
        return f"fault{self.number}.v"

    @property
    def told(self) -> str:
        """Kind and place, without the files."""
        words = self.command.split()
        named = dict(zip(words[1::2], words[2::2], strict=False))
        cell = named.get("-cell", "").replace("$flatten", "").replace("\\", "")
        return f"{named.get('-mode')} {cell}.{named.get('-port')}[{named.get('-portbit')}]"


def mutation(circuit: Circuit) -> Rung:
    """Draw faults in the core (in the first form where there is none), and look for each."""
    reason = missing("yosys", "iverilog")
    if reason:
        return skipped("mutation", reason)
    form = circuit.forms.get(FORM) or next(iter(circuit.forms.values()))
    begun = time.monotonic()
    with workshop() as folder:
        try:
            mutants = drawn(circuit, form, folder)
        except ToolError as error:
            return Rung("mutation", (Check(form.top, verdict(False), detail=str(error)),))
        if is_seen(circuit, form, folder / RIGHT):
            told = "the testbench refuses the right circuit, as Yosys writes it"
            return Rung("mutation", (Check(form.top, verdict(False), detail=told),))
        seen = side_by_side(lambda m: is_seen(circuit, form, folder / m.source), mutants)
        passing = [m for m, s in zip(mutants, seen, strict=True) if not s]
        found = dict(zip(passing, _compared(form, folder, passing), strict=True))
        open_ = [m for m, v in found.items() if not v.equivalent]
        differ = side_by_side(lambda m: _differs(circuit, form, folder, m), open_)
        survivors = [m for m, d in zip(open_, differ, strict=True) if not d]
    none = sum(v.equivalent for v in found.values())
    real, killed = len(mutants) - none, len(mutants) - none - len(survivors)
    by_testbench = len(mutants) - len(passing)
    detail = f"{killed} of {real} faults seen"
    if killed > by_testbench:
        detail += f", {by_testbench} of them by the testbench"
    if none:
        detail += f"; {none} of {len(mutants)} drawn change no output"
    good = verdict(killed > TARGET * real)
    score = Check(form.top, good, killed, time.monotonic() - begun, detail)
    listed = tuple(
        Check(m.told, PASSED if v.equivalent else SURVIVED, detail=v.told)
        for m, v in found.items()
        if v.equivalent or m in survivors
    )
    figures = (
        ("drawn", len(mutants)),
        ("seen", killed),
        ("seen_by_testbench", by_testbench),
        ("equivalent", none),
        ("score", round(killed / real, 4) if real else 1.0),
    )
    return Rung("mutation", (score, *listed), figures=figures)


def drawn(circuit: Circuit, form: Form, folder: Path) -> list[Mutant]:
    """Draw faults; write base.il and right.v, and fault<N>.il and .v for each, into a folder.

    Raises:
        ToolError: Yosys fails.
    """
    files = " ".join((*circuit.matching("sim/*.v"), *form.files))
    script = (
        f"read_verilog {files}; prep -flatten -top {form.top}; opt_clean -purge;"
        f" write_rtlil {folder / 'base.il'};"
        f" select -write {folder / 'control'} w:ce w:rst %u %co1 t:$*dff* %u;"
        f" mutate -list {COUNT} -seed {SEED} -o {folder / 'mutations'}"
    )
    done = run(("yosys", "-q", "-p", script), circuit.folder, timeout=120)
    if not done.passed:
        raise ToolError(f"yosys cannot draw faults: {done.last_line()}")
    control = {
        line.partition("/")[2]
        for line in (folder / "control").read_text(encoding="utf-8").splitlines()
    }
    lines = (folder / "mutations").read_text(encoding="utf-8").splitlines()
    cells = [re.search(r"-cell (\S+)", line) for line in lines]
    mutants = [
        Mutant(k, line, cell is not None and cell[1].lstrip("\\") not in control)
        for k, (line, cell) in enumerate(zip(lines, cells, strict=True))
    ]
    commands = ["read_rtlil base.il", "design -save right", f"write_verilog -noattr {RIGHT}"]
    for mutant in mutants:
        commands += [
            "design -load right",
            mutant.command,
            f"write_rtlil fault{mutant.number}.il",
            f"write_verilog -noattr {mutant.source}",
        ]
    (folder / "faults.ys").write_text("\n".join(commands) + "\n", encoding="utf-8")
    done = run(("yosys", "-q", "faults.ys"), folder, timeout=120)
    if not done.passed:
        raise ToolError(f"yosys cannot write faults: {done.last_line()}")
    return mutants


def is_seen(circuit: Circuit, form: Form, source: Path) -> bool:
    """Say whether the testbench sees a fault."""
    done = run_testbench(circuit, form, (str(source),), timeout=SLOWEST)
    return judged(form.top, done).status != PASSED


def _differs(circuit: Circuit, form: Form, folder: Path, mutant: Mutant) -> bool:
    """Say whether Verilator sees a fault; without it, or a program that runs, nothing is seen."""
    if missing(*NEEDS) or form.word not in driven(circuit):
        return False
    source = str(folder / mutant.source)
    check = compare_with_model(circuit, form, (source,), ("-Wno-fatal",))
    return check.status == FAILED and check.count > 0


def _compared(form: Form, folder: Path, mutants: list[Mutant]) -> list[Verdict]:
    """Compare each fault with the right circuit."""
    reason = missing("sby", "yosys-smtbmc", "boolector")
    if reason:
        return [Verdict(False, f"not seen, and not compared: {reason}")] * len(mutants)
    environment = solvers(folder)

    def compare(mutant: Mutant) -> Verdict:
        fault = folder / f"fault{mutant.number}.il"
        cycles = None if mutant.of_logic and form.word == "core" else form.latency + _MORE
        return compare_circuits(form.top, folder / "base.il", fault, cycles, environment)

    return side_by_side(compare, mutants)
