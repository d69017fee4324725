"""Verification step "synthesis": the multipliers of the manifest on ECP5, and no latches."""

from __future__ import annotations

from functools import partial

from lnm_codegen.errors import ToolError
from lnm_codegen.hardware.folder import Circuit, CircuitForm
from lnm_codegen.hardware.result import Check, StepResult, step_result, verdict
from lnm_codegen.hardware.synth import DEVICES, TARGETS, resources_of, synthesise
from lnm_codegen.hardware.tools import missing, temporary_folder
from lnm_codegen.ir.fixed import nodes as fx

DEVICE = DEVICES[TARGETS["ecp5"]]


def synthesis(circuit: Circuit) -> StepResult:
    """Synthesise every form for ECP5 and count its cells."""
    count = partial(_count_cells, circuit)
    return step_result("synthesis", missing("yosys"), count, circuit.forms.values())


def shift_products(circuit: Circuit) -> int:
    """Return the number of products with a constant factor of 0 or a power of two.

    Yosys turns them into shifts where the backend keeps them as multipliers. A coefficient with one
    value is a constant, unless the coefficients are ports.
    """
    if circuit.program is None or circuit.manifest.get("coefficients_on") == "port":
        return 0
    whole = {
        name
        for name, (k, *others) in circuit.coefficients().items()
        if not others and abs(k) & (abs(k) - 1) == 0
    }
    products = {
        node
        for let in circuit.program.kernel.body
        for node in fx.walk(let.value)
        if isinstance(node, fx.Product)
    }
    return sum(
        any(isinstance(f, fx.Var) and f.name in whole for f in (p.lhs, p.rhs)) for p in products
    )


def _count_cells(circuit: Circuit, form: CircuitForm) -> Check:
    with temporary_folder() as folder:
        try:
            cells, seconds = synthesise(circuit, form, DEVICE, folder)
        except ToolError as error:
            return Check(form.top, verdict(False), detail=str(error).removeprefix("synth: "))
    resources = resources_of(cells, DEVICE.target)
    latches = sorted(cell for cell in cells if "latch" in cell.lower())
    least = form.multipliers - shift_products(circuit)
    good = least <= resources.dsp <= form.multipliers and not latches
    detail = ", ".join(f"{count} {word}" for word, count in resources.as_dict().items())
    if not good:
        detail += f"; {form.multipliers} DSP expected" + (f", {latches[0]}" if latches else "")
    return Check(form.top, verdict(good), 1, seconds, detail)
