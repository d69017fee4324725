"""Verification step "synthesis": the multipliers of the manifest on ECP5, and no latches.

A factor of more than 18 bits takes several multipliers of an ECP5.
"""

from __future__ import annotations

from functools import partial

from lnm_codegen.backends.verilog.expr import signed_digits
from lnm_codegen.backends.verilog.pipeline import FACTOR_BITS
from lnm_codegen.errors import ToolError
from lnm_codegen.hardware.folder import Circuit, CircuitForm
from lnm_codegen.hardware.result import Check, StepResult, step_result, verdict
from lnm_codegen.hardware.synth import DEVICES, TARGETS, resources_of, synthesise
from lnm_codegen.hardware.tools import missing, temporary_folder
from lnm_codegen.ir.fixed import nodes as fx
from lnm_codegen.ir.fixed.bounds import span, spans

DEVICE = DEVICES[TARGETS["ecp5"]]


def synthesis(circuit: Circuit) -> StepResult:
    """Synthesise every form for ECP5 and count its cells."""
    count = partial(_count_cells, circuit)
    return step_result("synthesis", missing("yosys"), count, circuit.forms.values())


def shift_products(circuit: Circuit) -> int:
    """Return the number of multipliers of the source with a constant factor of 0 or a power of two.

    Yosys turns them into shifts. A factor is a constant if it follows from coefficients with one
    value, unless the coefficients are ports. Not counted are products of a constant in the source,
    which the backend turns into shifts itself.
    """
    if circuit.program is None or circuit.manifest.get("coefficients_on") == "port":
        return 0
    kernel, held = circuit.program.kernel, circuit.coefficients()
    known = {name: k for name, (k, *others) in held.items() if not others}
    found = spans(kernel, known)
    in_source = known if circuit.manifest.get("coefficients_on") == "constant" else {}
    digits = circuit.manifest.get("shift_add", 0)

    def is_shift(factor: fx.Expr) -> bool:
        low, high = span(factor, found)
        return low == high and abs(low) & (abs(low) - 1) == 0

    def is_kept(factor: fx.Expr) -> bool:
        low, _ = span(factor, found)
        constant = isinstance(factor, fx.Const)
        constant |= isinstance(factor, fx.Var) and factor.name in in_source
        return not constant or len(signed_digits(low)) > digits

    products = _products(circuit)
    pairs = [(p.lhs, p.rhs) for p in products]
    return sum(any(map(is_shift, pair)) and all(map(is_kept, pair)) for pair in pairs)


def most_of_product(circuit: Circuit) -> int:
    """Return the most multipliers of an ECP5 that a product takes: Yosys splits wide factors."""
    factors = [e for p in _products(circuit) for e in (p.lhs, p.rhs)]
    widest = max((fx.bits_of(e).width for e in factors), default=0)
    parts = 1 + max(0, -(-(widest - FACTOR_BITS) // (FACTOR_BITS - 1)))  # low parts have no sign
    return parts * parts


def _products(circuit: Circuit) -> set[fx.Product]:
    body = () if circuit.program is None else circuit.program.kernel.body
    return {e for let in body for e in fx.walk(let.value) if isinstance(e, fx.Product)}


def _count_cells(circuit: Circuit, form: CircuitForm) -> Check:
    with temporary_folder() as folder:
        try:
            cells, seconds = synthesise(circuit, form, DEVICE, folder)
        except ToolError as error:
            return Check(form.top, verdict(False), detail=str(error).removeprefix("synth: "))
    resources = resources_of(cells, DEVICE.target)
    latches = sorted(cell for cell in cells if "latch" in cell.lower())
    least = max(form.multipliers - shift_products(circuit), 0)
    most = form.multipliers * most_of_product(circuit)
    good = least <= resources.dsp <= most and not latches
    detail = ", ".join(f"{count} {word}" for word, count in resources.as_dict().items())
    if not good:
        expected = f"{least} to {most}" if least < most else most
        detail += f"; {expected} DSP expected" + (f", {latches[0]}" if latches else "")
    return Check(form.top, verdict(good), 1, seconds, detail)
