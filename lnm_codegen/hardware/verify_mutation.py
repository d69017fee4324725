"""Rung "mutation": faults in the circuit that its testbench has to see.

Yosys draws faults (a bit inverted, stuck, or turned over by another), evenly over the circuit and
from a fixed seed; each circuit is simulated. One that passes is compared with the right one by a
prover: a fault that changes no output is no fault, is listed, and does not count.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from lnm_codegen.errors import ToolError
from lnm_codegen.hardware.folder import Circuit, Form
from lnm_codegen.hardware.parallel import side_by_side
from lnm_codegen.hardware.result import PASSED, SURVIVED, Check, Rung, skipped, verdict
from lnm_codegen.hardware.tools import missing, run, solvers, workshop
from lnm_codegen.hardware.verify_icarus import judged, run_testbench

COUNT, SEED = 40, 1
TARGET = 0.9
"""Of the faults that change something, more than this share has to be seen."""

SLOWEST = 20
"""Seconds a simulation with a fault may take; one that hangs has been seen."""

PROOF_SECONDS = 60
FORM = "core"
_MORE = 4


@dataclass(frozen=True, slots=True)
class _Mutant:
    number: int
    command: str

    @property
    def told(self) -> str:
        """Kind and place, without the files."""
        words = self.command.split()
        named = dict(zip(words[1::2], words[2::2], strict=False))
        cell = named.get("-cell", "").replace("$flatten", "").replace("\\", "")
        return f"{named.get('-mode')} {cell}.{named.get('-port')}[{named.get('-portbit')}]"


def mutation(circuit: Circuit) -> Rung:
    """Draw faults in the core (in the first form where there is none), and simulate each."""
    reason = missing("yosys", "iverilog")
    if reason:
        return skipped("mutation", reason)
    form = circuit.forms.get(FORM) or next(iter(circuit.forms.values()))
    begun = time.monotonic()
    with workshop() as folder:
        try:
            mutants = _drawn(circuit, form, folder)
        except ToolError as error:
            return Rung("mutation", (Check(form.top, verdict(False), detail=str(error)),))
        seen = side_by_side(lambda m: _is_seen(circuit, form, folder, m), mutants)
        survivors = [m for m, s in zip(mutants, seen, strict=True) if not s]
        proven = _equivalent(form, folder, survivors)
        seconds = time.monotonic() - begun
    none = sum(word == "" for word in proven.values())
    killed, real = len(mutants) - len(survivors), len(mutants) - none
    detail = f"{killed} of {real} faults seen"
    if none:
        detail += f"; {none} of {len(mutants)} drawn change no output"
    score = Check(form.top, verdict(killed > TARGET * real), killed, seconds, detail)
    figures = (
        ("drawn", len(mutants)),
        ("seen", killed),
        ("equivalent", none),
        ("score", round(killed / real, 4) if real else 1.0),
    )
    listed = _listed(survivors, proven, form.latency + _MORE)
    return Rung("mutation", (score, *listed), figures=figures)


def _listed(survivors: list[_Mutant], proven: dict[int, str], depth: int) -> tuple[Check, ...]:
    """Return a check for each fault that was not seen: passed where it is proven to be none."""
    found = []
    for mutant in survivors:
        why = proven[mutant.number]
        none = f"changes no output, proven for any {depth} cycles from registers at 0"
        found.append(Check(mutant.told, SURVIVED if why else PASSED, detail=why or none))
    return tuple(found)


def _drawn(circuit: Circuit, form: Form, folder: Path) -> list[_Mutant]:
    """Write base.il, and a file of Verilog for each fault."""
    files = " ".join((*circuit.matching("sim/*.v"), *form.files))
    script = (
        f"read_verilog {files}; prep -flatten -top {form.top}; opt_clean -purge;"
        f" write_rtlil {folder / 'base.il'};"
        f" mutate -list {COUNT} -seed {SEED} -o {folder / 'mutations'}"
    )
    done = run(("yosys", "-q", "-p", script), circuit.folder, timeout=120)
    if not done.passed:
        raise ToolError(f"yosys cannot draw faults: {done.last_line()}")
    lines = (folder / "mutations").read_text(encoding="utf-8").splitlines()
    mutants = [_Mutant(k, line) for k, line in enumerate(lines)]
    commands = ["read_rtlil base.il", "design -save right"]
    for mutant in mutants:
        commands += [
            "design -load right",
            mutant.command,
            f"write_rtlil fault{mutant.number}.il",
            f"write_verilog -noattr fault{mutant.number}.v",
        ]
    (folder / "faults.ys").write_text("\n".join(commands) + "\n", encoding="utf-8")
    done = run(("yosys", "-q", "faults.ys"), folder, timeout=120)
    if not done.passed:
        raise ToolError(f"yosys cannot write faults: {done.last_line()}")
    return mutants


def _is_seen(circuit: Circuit, form: Form, folder: Path, mutant: _Mutant) -> bool:
    source = str(folder / f"fault{mutant.number}.v")
    done = run_testbench(circuit, form, (source,), timeout=SLOWEST)
    return judged(form.top, done).status != PASSED


def _equivalent(form: Form, folder: Path, survivors: list[_Mutant]) -> dict[int, str]:
    """Return "" for each fault that is proven to change nothing, else what was found."""
    reason = missing("sby", "yosys-smtbmc", "boolector")
    if reason:
        return {m.number: f"not seen, and not proven to be none: {reason}" for m in survivors}
    environment = solvers(folder)
    found = side_by_side(lambda m: _prove(form, folder, m, environment), survivors)
    return {m.number: why for m, why in zip(survivors, found, strict=True)}


def _prove(form: Form, folder: Path, mutant: _Mutant, environment: dict[str, str]) -> str:
    """Compare a circuit with the right one, from registers at 0, for any inputs of some cycles."""
    place = folder / f"proof{mutant.number}"
    place.mkdir()
    depth = form.latency + _MORE
    (place / "equal.sby").write_text(_SBY.format(depth=depth, top=form.top, fault=mutant.number))
    done = run(("sby", "-f", "equal.sby"), place, timeout=PROOF_SECONDS, environment=environment)
    if done.passed:
        return ""
    return "not seen" if "DONE (FAIL" in done.output else "not seen, and not proven to be none"


_SBY = """[options]
mode bmc
depth {depth}

[engines]
smtbmc boolector

[script]
read_rtlil base.il
rename {top} right
read_rtlil fault{fault}.il
rename {top} fault
setundef -init -zero right fault
miter -equiv -flatten -make_assert right fault equal
hierarchy -top equal
proc
opt_clean

[files]
../base.il
../fault{fault}.il
"""
