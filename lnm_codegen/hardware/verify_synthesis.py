"""Rung "synthesis": multipliers on ECP5 as many as the manifest says, and no latches."""

from __future__ import annotations

from lnm_codegen.errors import ToolError
from lnm_codegen.hardware.cells import cost_of
from lnm_codegen.hardware.folder import Circuit, Form
from lnm_codegen.hardware.parallel import side_by_side
from lnm_codegen.hardware.result import Check, Rung, skipped, verdict
from lnm_codegen.hardware.synth import DEVICES, TARGETS, synthesise
from lnm_codegen.hardware.tools import missing, workshop

DEVICE = DEVICES[TARGETS["ecp5"]]


def synthesis(circuit: Circuit) -> Rung:
    """Synthesise every form for ECP5 and count."""
    reason = missing("yosys")
    if reason:
        return skipped("synthesis", reason)
    forms = circuit.forms.values()
    return Rung("synthesis", tuple(side_by_side(lambda f: _count(circuit, f), forms)))


def shifts(circuit: Circuit) -> int:
    """Return how many constants make a shift of a product, which Yosys sees: 0 and powers of two.

    Few of them stand in a product: as a rule the backend has made shifts of those already.
    """
    if circuit.manifest.get("coefficients_on") != "constant":
        return 0
    whole = [abs(k) for integers in circuit.coefficients().values() for k in integers[:1]]
    return sum(k & (k - 1) == 0 for k in whole)


def _count(circuit: Circuit, form: Form) -> Check:
    with workshop() as folder:
        try:
            cells, seconds = synthesise(circuit, form, DEVICE, folder)
        except ToolError as error:
            return Check(form.top, verdict(False), detail=str(error).removeprefix("synth: "))
    cost = cost_of(cells, DEVICE.target)
    latches = sorted(cell for cell in cells if "latch" in cell.lower())
    least = form.multipliers - shifts(circuit)
    good = least <= cost.dsp <= form.multipliers and not latches
    told = ", ".join(f"{count} {word}" for word, count in cost.as_dict().items())
    if not good:
        told += f"; {form.multipliers} DSP expected" + (f", {latches[0]}" if latches else "")
    return Check(form.top, verdict(good), 1, seconds, told)
