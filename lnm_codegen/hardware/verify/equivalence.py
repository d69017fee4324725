"""Comparison of a circuit with a copy that has a fault, by sby and Boolector."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lnm_codegen.hardware.tools import run

PROOF_SECONDS = 20
"""Time limit of a proof."""


@dataclass(frozen=True, slots=True)
class Equivalence:
    """Result of a comparison."""

    proven: bool  # to change no output
    detail: str


UNDECIDED = Equivalence(False, "not detected, and not proven equivalent")
"""The proof ended without a result, as where a fault closes a loop of wires."""


def prove_equivalence(
    top: str, correct: Path, fault: Path, cycles: int | None, environment: Mapping[str, str]
) -> Equivalence:
    """Compare two circuits, files of RTLIL with a module `top`.

    `cycles` run from registers at 0; None replaces the registers by wires. `environment` comes from
    `tools.solvers`.
    """
    place = fault.with_suffix(".proof")
    place.mkdir()
    (place / "wires.v").write_text(_WIRES, encoding="utf-8")
    script = _LOGIC if cycles is None else _MITER + _FROM_ZERO
    text = _SBY.format(depth=cycles or 1, top=top, right=correct, fault=fault, script=script)
    (place / "equal.sby").write_text(text, encoding="utf-8")
    done = run(("sby", "-f", "equal.sby"), place, timeout=PROOF_SECONDS, environment=environment)
    if done.passed:
        span = "all inputs" if cycles is None else f"any {cycles} cycles from registers at 0"
        return Equivalence(True, f"changes no output, proven for {span}")
    if "DONE (FAIL" in done.output:
        return Equivalence(False, "not detected")
    return UNDECIDED


_SBY = """[options]
mode bmc
depth {depth}

[engines]
smtbmc boolector

[script]
read_rtlil right.il
rename {top} right
read_rtlil fault.il
rename {top} fault
{script}

[files]
right.il {right}
fault.il {fault}
wires.v
"""

_MITER = """miter -equiv -flatten -make_assert right fault equal
hierarchy -top equal
opt_clean"""

_FROM_ZERO = """
memory_map
opt_clean
setundef -init -zero"""
"""Memories become registers: uninitialised ones would differ between the two circuits."""

_LOGIC = (
    _MITER
    + """
cd equal
delete -port in_ce in_rst
connect -set in_ce 1'1
connect -set in_rst 1'0
cd ..
memory_map
setundef -zero
opt -full -nodffe -nosdff
techmap -map wires.v t:$dff
opt_clean
select -assert-none t:$*dff* t:$*latch* t:$mem*
opt -full"""
)
"""Bits that are constant for all stored coefficients become constants."""

_WIRES = """(* techmap_celltype = "$dff" *)
module wire_for_register #(
    parameter WIDTH        = 1,
    parameter CLK_POLARITY = 1
) (
    input  wire             CLK,
    input  wire [WIDTH-1:0] D,
    output wire [WIDTH-1:0] Q
);
    assign Q = D;
endmodule
"""
