"""Proofs of the leaves, written once more as comparisons."""

from __future__ import annotations

from dataclasses import dataclass

from lnm_codegen.backends.render import render
from lnm_codegen.backends.verilog.formal.parts import Instance, NameView, names
from lnm_codegen.backends.verilog.parts import Design, connected

ECP5_WIDTH = 18
"""Of the factors of the ECP5's multiplier."""

_ROUNDINGS = {"truncate": 0, "half up": 1, "to even": 2}


@dataclass(frozen=True, slots=True)
class _TopView:
    family: str
    name: str
    note: str
    control: str
    instances: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _LeafView:
    family: str
    note: str
    top: str
    checkers: str
    cycles: int
    sources: str
    files: tuple[str, ...]


def leaf_proofs(
    design: Design, instances: tuple[Instance, ...], sources: tuple[str, ...]
) -> dict[str, str]:
    """Return the proofs of `_step` and `_clamp` in every size that the core has of them."""
    found: dict[str, str] = {}
    for module, keys, cycles in (
        ("step", ("A_WIDTH", "B_WIDTH", "SUM_WIDTH", "PLACES", "WIDTH", "SUBTRACT"), 4),
        ("clamp", ("IN_WIDTH", "WIDTH"), 3),
    ):
        sizes = dict.fromkeys(
            tuple((k, i.parameters[k]) for k in keys) for i in instances if i.module == module
        )
        if sizes:
            found |= _leaf(design, module, list(sizes), cycles, sources)
    return found


def _leaf(
    design: Design,
    module: str,
    sizes: list[tuple[tuple[str, int], ...]],
    cycles: int,
    sources: tuple[str, ...],
) -> dict[str, str]:
    name, family = design.name, design.model.family
    checker, top = f"{name}_{module}_check", f"{name}_{module}_sizes"
    wide = ECP5_WIDTH if design.rtl.multiplier == "ecp5" else 0
    modes: list[dict[str, int]] = [{}]
    if module == "step":
        modes = [{"ROUNDING": k} for k in _ROUNDINGS.values()]
    lines, k = [], 0
    for size in sizes:
        for mode in modes:
            for fits in (0, 1):
                given = connected(
                    tuple((n, str(v)) for n, v in {**dict(size), **mode, "FITS": fits}.items())
                )
                lines.append(f"{checker} #({given}) size_{k} (.clk(clk));")
                k += 1
    dropped = {**dict(sizes[0]), "FITS": 1, "ASSUMED": 0}
    control = connected(tuple((n, str(v)) for n, v in dropped.items()))
    note = f"{name}_{module} in every size of {name}_core" + (
        ", with each rounding." if module == "step" else "."
    )
    leaves = tuple(p for p in sources if not p.endswith(("_core.v", "_delay.v")))
    local = (f"{top}.v", f"{checker}.v")
    return {
        f"formal/{checker}.v": render(
            f"verilog/formal/{module}_check.v.j2", NameView(family, name, wide)
        ),
        f"formal/{top}.v": render(
            "verilog/formal/top.v.j2",
            _TopView(family, top, note, f"{checker} #({control}) size (.clk(clk));", tuple(lines)),
        ),
        f"formal/{name}_{module}.sby": render(
            "verilog/formal/leaf.sby.j2",
            _LeafView(family, note, top, f"{checker}.v", cycles, names(leaves), (*local, *leaves)),
        ),
    }
