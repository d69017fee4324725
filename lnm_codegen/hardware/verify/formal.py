"""Verification step "formal": every task of every proof in formal/, including the controls."""

from __future__ import annotations

import re
from pathlib import Path

from lnm_codegen.hardware.folder import Circuit
from lnm_codegen.hardware.result import Check, StepResult, skipped, step_result, verdict
from lnm_codegen.hardware.tools import missing, run, solvers, temporary_folder

TIMEOUT_SECONDS = 60
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
    done = run(command, file.parent, timeout=TIMEOUT_SECONDS, environment=environment)
    name = f"{file.stem}: {task or 'proof'}"
    result = _DONE.search(done.output)
    if result is None:
        detail = f"no result in {TIMEOUT_SECONDS} s" if done.status == 124 else done.last_line()
        return Check(name, verdict(False), 0, done.seconds, detail)
    good = done.passed and (result[1] == "FAIL") == (task == _CONTROL)
    detail = "" if good else _failure(result[1], task)
    return Check(name, verdict(good), 1, done.seconds, detail)


def _failure(status: str, task: str) -> str:
    if task == _CONTROL and status == "PASS":
        return "the control was proven, so the proof shows nothing"
    known = {"FAIL": "refuted", "UNKNOWN": "not proven: the induction does not hold"}
    return known.get(status, f"sby reports {status}")
