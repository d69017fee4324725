"""Rung "formal": every proof of formal/, each task of it by itself, the controls among them."""

from __future__ import annotations

import re
from pathlib import Path

from lnm_codegen.hardware.folder import Circuit
from lnm_codegen.hardware.parallel import side_by_side
from lnm_codegen.hardware.result import Check, Rung, skipped, verdict
from lnm_codegen.hardware.tools import missing, run, solvers, workshop

SECONDS = 60
"""What a proof may take."""

_DONE = re.compile(r"DONE \((\w+), rc=(\d+)\)")
_CONTROL = "control"


def formal(circuit: Circuit) -> Rung:
    """Run every task of every proof; a control passes where the prover refutes it."""
    proofs = circuit.matching("formal/*.sby")
    if not proofs:
        return skipped("formal", "there are no proofs in the folder")
    reason = missing("sby", "yosys", "yosys-smtbmc", "boolector")
    if reason:
        return skipped("formal", reason)
    with workshop() as folder:
        environment = solvers(folder)
        jobs = [(f, task) for f in proofs for task in _tasks(circuit.folder / f)]
        # sby keeps a database beside its file, which two tasks must not share.
        copies = [circuit.copied(folder / f"job{k}").folder for k in range(len(jobs))]
        places = [(copy / f, task) for copy, (f, task) in zip(copies, jobs, strict=True)]
        return Rung("formal", tuple(side_by_side(lambda j: _prove(*j, environment), places)))


def _tasks(file: Path) -> list[str]:
    text = file.read_text(encoding="utf-8")
    section = re.search(r"^\[tasks\]\n(.*?)^\[", text, re.MULTILINE | re.DOTALL)
    return section[1].split() if section else [""]


def _prove(file: Path, task: str, environment: dict[str, str]) -> Check:
    command = ("sby", "-f", file.name, *([task] if task else []))
    done = run(command, file.parent, timeout=SECONDS, environment=environment)
    name = f"{file.stem}: {task or 'proof'}"
    said = _DONE.search(done.output)
    if said is None:
        late = done.status == 124
        detail = f"no answer in {SECONDS} s" if late else done.last_line()
        return Check(name, verdict(False), 0, done.seconds, detail)
    good = done.passed and (said[1] == "FAIL") == (task == _CONTROL)
    return Check(name, verdict(good), 1, done.seconds, "" if good else _why(said[1], task))


def _why(status: str, task: str) -> str:
    if task == _CONTROL and status == "PASS":
        return "the control was proven, so that the proof shows nothing"
    told = {"FAIL": "refuted", "UNKNOWN": "not proven: the induction does not hold"}
    return told.get(status, f"sby says {status}")
