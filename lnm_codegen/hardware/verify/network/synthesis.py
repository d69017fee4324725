"""Verification step "synthesis" of a network: cells of an ECP5, no latch, weights in block RAM."""

from __future__ import annotations

from functools import partial
from typing import Any

from lnm_codegen.backends.network_verilog.synapse import LEAST_ROWS
from lnm_codegen.errors import ToolError
from lnm_codegen.hardware.folder import Circuit, CircuitForm
from lnm_codegen.hardware.result import Check, StepResult, step_result, verdict
from lnm_codegen.hardware.synth import DEVICES, TARGETS, resources_of, synthesise
from lnm_codegen.hardware.tools import missing, temporary_folder

DEVICE = DEVICES[TARGETS["ecp5"]]
BLOCK_BITS = 18 << 10
"""Bits of a block RAM of an ECP5."""


def synthesis(circuit: Circuit) -> StepResult:
    """Synthesise the network for ECP5 and count its cells."""
    count = partial(_count_cells, circuit)
    return step_result("synthesis", missing("yosys"), count, circuit.forms.values())


def _count_cells(circuit: Circuit, form: CircuitForm) -> Check:
    with temporary_folder() as folder:
        try:
            cells, seconds = synthesise(circuit, form, DEVICE, folder)
        except ToolError as error:
            return Check(form.top, verdict(False), detail=str(error).removeprefix("synth: "))
    resources = resources_of(cells, DEVICE.target)
    latches = sorted(cell for cell in cells if "latch" in cell.lower())
    bits = sum(map(_block_bits, circuit.manifest["layers"]))
    few = bits // BLOCK_BITS
    detail = ", ".join(f"{count} {word}" for word, count in resources.as_dict().items())
    if latches:
        detail += f"; {latches[0]}"
    if resources.bram < few:
        detail += f"; at least {few} BRAM expected for {bits} bits of weights"
    return Check(form.top, verdict(not latches and resources.bram >= few), 1, seconds, detail)


def _block_bits(layer: dict[str, Any]) -> int:
    """Return the bits of a layer's weights that a block RAM holds; fewer rows may be in logic."""
    rows = layer["inputs"] * layer["cycles_per_event"]
    return int(layer["weight_memory_bits"]) if rows >= LEAST_ROWS else 0
