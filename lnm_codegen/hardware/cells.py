"""What a synthesised netlist costs: cells of each target to LUT, FF, DSP and BRAM."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lnm_codegen.errors import ToolError


@dataclass(frozen=True, slots=True)
class Cost:
    """Resources of a module by itself."""

    lut: int
    ff: int
    dsp: int
    bram: int

    def as_dict(self) -> dict[str, int]:
        """Return them under the names of the field."""
        return {"LUT": self.lut, "FF": self.ff, "DSP": self.dsp, "BRAM": self.bram}


KINDS: dict[str, tuple[tuple[str, str, int], ...]] = {
    "ecp5": (
        (r"LUT4", "lut", 1),
        (r"CCU2C", "lut", 2),  # two LUTs with their carries
        (r"TRELLIS_DPR16X4", "lut", 4),
        (r"TRELLIS_FF", "ff", 1),
        (r"MULT\d+X\d+D", "dsp", 1),
        (r"DP16KD|PDPW16KD", "bram", 1),
    ),
    "ice40": (
        (r"SB_LUT4", "lut", 1),
        (r"SB_DFF\w*", "ff", 1),
        (r"SB_MAC16", "dsp", 1),
        (r"SB_RAM40_4K\w*|SB_SPRAM256KA", "bram", 1),
    ),
    "xilinx": (
        (r"LUT[1-6]|SRL16E|SRLC16E|SRLC32E|RAM\d+\w*", "lut", 1),
        (r"FD[RSCP]E(_1)?", "ff", 1),
        (r"DSP48E1", "dsp", 1),
        (r"RAMB(18|36)E1", "bram", 1),
    ),
}
"""Target -> (cell, resource, how many of it), the first that fits."""


def cost_of(cells: Mapping[str, int], target: str) -> Cost:
    """Return what cells cost; one that stands in no row (a buffer, a carry of iCE40) costs none."""
    found = dict.fromkeys(("lut", "ff", "dsp", "bram"), 0)
    for cell, count in cells.items():
        for pattern, resource, each in KINDS[target]:
            if re.fullmatch(pattern, cell):
                found[resource] += each * count
                break
    return Cost(**found)


def cells_of(statistics: str, top: str) -> dict[str, int]:
    """Return the cells of a flat module by type, from what `stat -json` of Yosys wrote.

    Raises:
        ToolError: It is nothing of the kind.
    """
    try:
        modules = json.loads(statistics)["modules"]
        found = next(m for n, m in modules.items() if n.lstrip("\\") == top)
        return {str(cell): int(count) for cell, count in found["num_cells_by_type"].items()}
    except (ValueError, KeyError, TypeError, AttributeError, StopIteration):
        raise ToolError("yosys", f"its statistics of {top} cannot be read") from None


def ports_of(netlist: str, top: str) -> tuple[tuple[str, str, int], ...]:
    """Return (name, direction, width) of each port, from a netlist that Yosys wrote as JSON.

    Raises:
        ToolError: It is nothing of the kind.
    """
    try:
        ports: Any = json.loads(netlist)["modules"][top]["ports"]
        return tuple((n, str(p["direction"]), len(p["bits"])) for n, p in ports.items())
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ToolError("yosys", f"its netlist of {top} cannot be read") from None


def fmax_of(report: str) -> float:
    """Return the frequency in MHz of the slowest clock of a report of nextpnr.

    Raises:
        ToolError: It is nothing of the kind, or holds no clock.
    """
    try:
        return min(float(clock["achieved"]) for clock in json.loads(report)["fmax"].values())
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ToolError("nextpnr", "its report cannot be read, or holds no clock") from None
