"""Rung "synthesis": multipliers on ECP5 as many as the manifest says, and no latches."""

from __future__ import annotations

from lnm_codegen.errors import ToolError
from lnm_codegen.hardware.cells import cost_of
from lnm_codegen.hardware.folder import Circuit, Form
from lnm_codegen.hardware.parallel import side_by_side
from lnm_codegen.hardware.result import Check, Rung, skipped, verdict
from lnm_codegen.hardware.synth import DEVICES, TARGETS, synthesise
from lnm_codegen.hardware.tools import missing, workshop
from lnm_codegen.ir.fixed import nodes as fx

DEVICE = DEVICES[TARGETS["ecp5"]]


def synthesis(circuit: Circuit) -> Rung:
    """Synthesise every form for ECP5 and count."""
    reason = missing("yosys")
    if reason:
        return skipped("synthesis", reason)
    forms = circuit.forms.values()
    return Rung("synthesis", tuple(side_by_side(lambda f: _count(circuit, f), forms)))


def shifts(circuit: Circuit) -> int:
    """Return how many products have 0 or a power of two for a constant factor.

    Yosys makes shifts of those, where the backend was asked to leave them as multipliers.
    """
    if circuit.program is None or circuit.manifest.get("coefficients_on") != "constant":
        return 0
    whole = {name for name, (k, *_) in circuit.coefficients().items() if abs(k) & (abs(k) - 1) == 0}
    products = {
        node
        for let in circuit.program.kernel.body
        for node in fx.walk(let.value)
        if isinstance(node, fx.Product)
    }
    return sum(
        any(isinstance(f, fx.Var) and f.name in whole for f in (p.lhs, p.rhs)) for p in products
    )


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
