"""Proofs of the modules `_step` and `_clamp` against independent reference models."""

from __future__ import annotations

from lnm_codegen.backends.render import render
from lnm_codegen.backends.verilog.core.ecp5 import FACTOR_BITS
from lnm_codegen.backends.verilog.formal.instances import Instance, base_names
from lnm_codegen.backends.verilog.parts import CircuitDesign, connected
from lnm_codegen.ir.types import Rounding


def leaf_proofs(
    design: CircuitDesign, instances: tuple[Instance, ...], sources: tuple[str, ...]
) -> dict[str, str]:
    """Return the proofs of `_step` and `_clamp` for every size used in the core."""
    found: dict[str, str] = {}
    for module, keys, cycles in (
        ("step", ("A_WIDTH", "B_WIDTH", "SUM_WIDTH", "PLACES", "WIDTH", "SUBTRACT"), 4),
        ("clamp", ("IN_WIDTH", "WIDTH"), 3),
    ):
        sizes = [{k: i.parameters[k] for k in keys} for i in instances if i.module == module]
        if sizes:
            found |= _leaf(design, module, sizes, cycles, sources)
    return found


def _leaf(
    design: CircuitDesign,
    module: str,
    sizes: list[dict[str, int]],
    cycles: int,
    sources: tuple[str, ...],
) -> dict[str, str]:
    name = design.name
    checker, top = f"{name}_{module}_check", f"{name}_{module}_sizes"
    modes: list[dict[str, int]] = [{}]
    if module == "step":
        modes = [{"ROUNDING": k} for k in range(len(Rounding))]
    given = dict.fromkeys(
        _parameters(size | mode | {"FITS": fits})
        for size in sizes
        for mode in modes
        for fits in (0, 1)
    )
    clamping = [size for size in sizes if _kept(size) > size["WIDTH"]]
    one = next(iter(clamping), sizes[0])
    narrow = {"WIDTH": max(min(one["WIDTH"], _kept(one) - 1), 2)}  # its clamp can act
    control = _parameters(one | narrow | {"FITS": 1, "ASSUMED": 0})
    roundings = ", with each rounding" if module == "step" else ""
    note = f"{name}_{module} in every size of {name}_core{roundings}."
    leaves = tuple(p for p in sources if not p.endswith(("_core.v", "_delay.v")))
    top_view = {
        "family": design.model.family,
        "top": top,
        "note": note,
        "control": f"{checker} #({control}) size (.clk(clk));",
        "instances": [f"{checker} #({g}) size_{k} (.clk(clk));" for k, g in enumerate(given)],
    }
    sby_view = {
        "family": design.model.family,
        "note": note,
        "top": top,
        "checker": f"{checker}.v",
        "cycles": cycles,
        "clamps": bool(clamping),
        "sources": base_names(leaves),
        "files": (f"{top}.v", f"{checker}.v", *leaves),
    }
    checker_view = dict(design.heading)
    if module == "step":
        checker_view["width"] = FACTOR_BITS if design.rtl.multiplier == "ecp5" else 0
    return {
        f"formal/{checker}.v": render(f"verilog/formal/{module}_check.v.j2", checker_view),
        f"formal/{top}.v": render("verilog/formal/top.v.j2", top_view),
        f"formal/{name}_{module}.sby": render("verilog/formal/leaf.sby.j2", sby_view),
    }


def _kept(size: dict[str, int]) -> int:
    """Return the width of the number that the clamp receives."""
    return size["IN_WIDTH"] if "IN_WIDTH" in size else size["SUM_WIDTH"] - size["PLACES"]


def _parameters(values: dict[str, int]) -> str:
    return connected((name, str(value)) for name, value in values.items())
