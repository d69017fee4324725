"""Whether a circuit with a fault gives what the right one gives, by sby and Boolector.

Two ways. Where neither ce nor rst enters the faulty cell, and the circuit is a pipeline, registers
are taken away: every value keeps its cycle, so that the logic alone tells the two apart, for all
inputs. Elsewhere both run from registers at 0, with any inputs, for some cycles.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lnm_codegen.hardware.tools import run

SECONDS = 20
"""What a proof may take."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a fault is proven to change nothing, and what there is to say of it."""

    equivalent: bool
    told: str


def compare(
    top: str, right: Path, fault: Path, cycles: int | None, environment: Mapping[str, str]
) -> Verdict:
    """Compare two circuits, files of RTLIL with a module `top`.

    Args:
        top: The module.
        right: The right one.
        fault: The other.
        cycles: How many, from registers at 0; None to take the registers away.
        environment: From `tools.solvers`.
    """
    place = fault.with_suffix(".proof")
    place.mkdir()
    (place / "wires.v").write_text(_WIRES, encoding="utf-8")
    script = _LOGIC if cycles is None else "setundef -init -zero\n" + _MITER
    text = _SBY.format(depth=cycles or 1, top=top, right=right, fault=fault, script=script)
    (place / "equal.sby").write_text(text, encoding="utf-8")
    done = run(("sby", "-f", "equal.sby"), place, timeout=SECONDS, environment=environment)
    if done.passed:
        span = "all inputs" if cycles is None else f"any {cycles} cycles from registers at 0"
        return Verdict(True, f"changes no output, proven for {span}")
    if "DONE (FAIL" in done.output:
        return Verdict(False, "not seen")
    return Verdict(False, "not seen, and not proven to be none")


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

_LOGIC = (
    _MITER
    + """
cd equal
delete -port in_ce in_rst
connect -set in_ce 1'1
connect -set in_rst 1'0
cd ..
opt -nodffe -nosdff
techmap -map wires.v t:$dff
opt_clean
select -assert-none t:$*dff* t:$*latch* t:$mem*"""
)

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
