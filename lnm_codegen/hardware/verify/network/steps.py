"""Verification steps of a network's folder.

A step has the checks of the whole network, then those of each distinct array of neurons. Faults
(mutation) are put into the arrays alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

from lnm_codegen.hardware.folder import Circuit, read_circuit
from lnm_codegen.hardware.result import StepResult
from lnm_codegen.hardware.verify import steps
from lnm_codegen.hardware.verify.cocotb import cocotb
from lnm_codegen.hardware.verify.formal import formal
from lnm_codegen.hardware.verify.icarus import icarus
from lnm_codegen.hardware.verify.lint import lint
from lnm_codegen.hardware.verify.mutation import summed_figures
from lnm_codegen.hardware.verify.network.model import model
from lnm_codegen.hardware.verify.network.synthesis import synthesis
from lnm_codegen.hardware.verify.network.verilator import verilator

WHOLE: dict[str, Callable[[Circuit], StepResult]] = {
    "model": model,
    "lint": lint,
    "icarus": icarus,
    "cocotb": cocotb,
    "verilator": verilator,
    "formal": formal,
    "synthesis": synthesis,
}
"""Name -> step of the whole network. Every step of `steps.STEPS` runs on the arrays."""


def run_network_steps(
    circuit: Circuit, names: Sequence[str], every: bool = False
) -> Iterator[StepResult]:
    """Yield the result of one step after another; checks of an array have its name in front.

    With `every`, Verilator runs all samples of the folder.
    """
    arrays = [
        read_circuit(circuit.folder / "arrays" / name, "verify")
        for name in circuit.manifest["arrays"]
    ]
    whole_steps = WHOLE | ({"verilator": partial(verilator, count=None)} if every else {})
    for name in names:
        begun = time.monotonic()
        whole = whole_steps[name](circuit) if name in whole_steps else StepResult(name, ())
        parts = [steps.STEPS[name](array) for array in arrays]
        checks = [
            replace(check, name=f"{array.name}: {check.name}")
            for array, part in zip(arrays, parts, strict=True)
            for check in part.checks
        ]
        figures = whole.figures or summed_figures(parts)
        seconds = time.monotonic() - begun
        yield replace(whole, checks=(*whole.checks, *checks), seconds=seconds, figures=figures)
