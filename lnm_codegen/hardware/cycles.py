"""Cycles of a network's sample, from a simulation of its golden samples in Icarus."""

from __future__ import annotations

import re
from typing import Any

from lnm_codegen.hardware.folder import Circuit
from lnm_codegen.hardware.synth import Measured
from lnm_codegen.hardware.tools import missing
from lnm_codegen.hardware.verify.icarus import run_testbench

_CYCLES = re.compile(r"^cycles: first (\d+), each (\d+)$", re.MULTILINE)


def sample_cycles(circuit: Circuit) -> int | None:
    """Return the mean cycles of the golden samples at full speed; None without Icarus."""
    if missing("iverilog"):
        return None
    form = circuit.forms["network"]
    found = _CYCLES.search(run_testbench(circuit, form, form.files, timeout=600).output)
    return int(found[2]) if found else None


def with_cycles(measured: Measured, cycles: int | None) -> dict[str, Any]:
    """Return the JSON object of a measurement, with cycles and samples a second of a network."""
    found = measured.as_dict()
    if cycles is None:
        return found
    median = measured.median
    rate = None if median is None else round(median * 1e6 / cycles, 1)
    return {**found, "cycles_per_sample": cycles, "samples_per_second": rate}
