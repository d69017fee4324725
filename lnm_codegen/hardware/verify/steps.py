"""Verification steps of a circuit, run from its folder alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from lnm_codegen.errors import ModelError
from lnm_codegen.hardware.folder import Circuit
from lnm_codegen.hardware.result import StepResult
from lnm_codegen.hardware.verify.cocotb import cocotb
from lnm_codegen.hardware.verify.formal import formal
from lnm_codegen.hardware.verify.icarus import icarus
from lnm_codegen.hardware.verify.lint import lint
from lnm_codegen.hardware.verify.model import model
from lnm_codegen.hardware.verify.mutation import mutation
from lnm_codegen.hardware.verify.synthesis import synthesis
from lnm_codegen.hardware.verify.verilator import verilator
from lnm_codegen.validation import require_known

STEPS: dict[str, Callable[[Circuit], StepResult]] = {
    "model": model,
    "lint": lint,
    "icarus": icarus,
    "cocotb": cocotb,
    "verilator": verilator,
    "formal": formal,
    "synthesis": synthesis,
    "mutation": mutation,
}
"""Name -> verification step, in the order of execution."""

SIMULATIONS = ("icarus", "cocotb", "verilator")
"""Steps that simulate the circuit."""

QUICK = ("model", "lint", "icarus")
"""Steps that take seconds."""

TOOLS = ("g++", "iverilog", "verilator", "yosys", "sby", "boolector")
"""Tools whose versions the report states."""


def selected_steps(only: str | None, quick: bool = False) -> tuple[str, ...]:
    """Return the names of the steps that `--only` and `--quick` select, or raise ModelError."""
    if only is None:
        return QUICK if quick else tuple(STEPS)
    names = [word.strip() for word in only.split(",") if word.strip()]
    for name in names or [only]:
        if name not in STEPS and name.startswith("sim"):
            remedy = f"The simulations are {', '.join(SIMULATIONS)}."
            raise ModelError("verify: --only", f"no verification step {name!r}", STEPS, remedy)
        require_known("verify: --only", "verification step", name, STEPS)
    return tuple(name for name in STEPS if name in names)


def run_steps(circuit: Circuit, names: Sequence[str]) -> Iterator[StepResult]:
    """Yield the result of one step after another."""
    for name in names:
        begun = time.monotonic()
        found = STEPS[name](circuit)
        yield replace(found, seconds=time.monotonic() - begun)
